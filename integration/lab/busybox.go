package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Debian's busybox has none of the account applets, which real busybox images do. These scripts
// stand in for them and take busybox's options.
//
//go:embed rootfs/accounts.sh
var accountsScript []byte

// busyboxPath is where Debian's and Ubuntu's busybox-static put the program; PATH is the fallback.
const busyboxPath = "/bin/busybox"

func busyboxRecipe() recipe {
	return recipe{
		names: append(
			tagged("busybox", "latest", "1", "1.36", "1.36.1", "stable", "musl", "glibc", "uclibc", "1.36-musl", "1.36-glibc"),
			"gcr.io/lab/busybox:latest", "ghcr.io/lab/busybox:latest", "quay.io/lab/busybox:latest", "mcr.microsoft.com/lab/busybox:latest"),
		about: "the distribution's static busybox with users, groups and the usual folders; amd64, arm64 and arm/v7, of which only the machine's own can run",
		make: func(ctx context.Context, l *Lab) (product, error) {
			base, err := l.busyboxLayer(ctx)
			if err != nil {
				return product{}, err
			}
			return busyboxSpec(base).multiPlatform()
		},
	}
}

func busyboxSpec(base *layer) imageSpec {
	return imageSpec{
		config:  v1.Config{Env: []string{defaultPath}, Cmd: []string{"sh"}},
		layers:  []*layer{base},
		created: []string{"the distribution's static busybox"},
		meta:    []string{`CMD ["sh"]`},
	}
}

// busyboxLayer is the root file system of busybox.
func (l *Lab) busyboxLayer(ctx context.Context) (*layer, error) {
	program, applets, err := hostBusybox(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(program)
	key := recipeKey("busybox 1", string(sum[:]), strings.Join(applets, " "), string(accountsScript), passwd, group, shadow)
	return l.cachedLayer(ctx, "busybox", key, func(_ context.Context, t *tree) error {
		fillBusybox(t, program, applets)
		return nil
	})
}

// hostBusybox reads the machine's busybox, which has to be static, and asks it what it can do.
func hostBusybox(ctx context.Context) (program []byte, applets []string, err error) {
	const advice = "a static busybox is needed; install the package busybox-static"
	path := busyboxPath
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("busybox"); err != nil {
			return nil, nil, unavailable(nil, advice)
		}
	}
	program, err = os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the machine's busybox: %w", err)
	}
	if err := checkStatic(program); err != nil {
		return nil, nil, unavailable(err, "%s: %s", path, advice)
	}
	out, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("asking %s for its applets: %w", path, err)
	}
	applets = strings.Fields(string(out))
	sort.Strings(applets)
	return program, applets, nil
}

func checkStatic(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically")
		}
	}
	return nil
}

const (
	passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`
	group = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
www-data:x:33:
operator:x:37:
users:x:100:
nobody:x:65534:
`
	shadow = `root:*:19000:0:99999:7:::
daemon:*:19000:0:99999:7:::
bin:*:19000:0:99999:7:::
sys:*:19000:0:99999:7:::
sync:*:19000:0:99999:7:::
mail:*:19000:0:99999:7:::
www-data:*:19000:0:99999:7:::
operator:*:19000:0:99999:7:::
nobody:*:19000:0:99999:7:::
`
)

func fillBusybox(t *tree, program []byte, applets []string) {
	for _, d := range []string{"bin", "dev", "etc", "home", "usr", "usr/bin", "usr/sbin", "var", "var/spool", "var/spool/mail", "var/www"} {
		t.dir(d, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", 0o1777)
	t.own("var/www", 33, 33)
	t.own("home", 65534, 65534)
	t.file("bin/busybox", 0o755, program)
	for _, a := range applets {
		if a != "busybox" {
			t.hardlink("bin/"+a, "bin/busybox")
		}
	}
	t.file("bin/accounts", 0o755, accountsScript)
	for _, a := range []string{"adduser", "addgroup", "deluser", "delgroup"} {
		t.symlink("bin/"+a, "accounts")
	}
	t.symlink("usr/bin/env", "../../bin/env")
	t.text("etc/passwd", passwd)
	t.text("etc/group", group)
	t.file("etc/shadow", 0o640, []byte(shadow))
	t.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
}
