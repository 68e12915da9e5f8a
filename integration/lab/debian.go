package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const debianSuite = "bookworm"

// debianVersion changes when the making of the Debian image changes in a way that its key would not
// show otherwise.
const debianVersion = "debian 2"

func debianRecipe() recipe {
	return recipe{
		names: tagged("debian", "bookworm-slim", "bookworm", "12-slim", "12", "stable-slim", "latest"),
		about: "Debian bookworm, minbase, by debootstrap from the package mirror of this machine; needs root",
		lazy:  true,
		make: func(ctx context.Context, l *Lab) (product, error) {
			base, err := l.debianLayer(ctx)
			if err != nil {
				return product{}, err
			}
			return debianSpec(base).multiPlatform()
		},
	}
}

func debianSpec(base *layer) imageSpec {
	return imageSpec{
		config:  v1.Config{Env: []string{defaultPath}, Cmd: []string{"bash"}},
		layers:  []*layer{base},
		created: []string{"debootstrap --variant=minbase " + debianSuite},
		meta:    []string{`CMD ["bash"]`},
	}
}

// aptSetup is what this machine knows of reaching Debian's packages; the image is told the same.
type aptSetup struct {
	mirror  string   // where debootstrap gets the suite; "" is debootstrap's own default
	sources []string // lines of sources.list; none means: what debootstrap wrote
	proxy   string   // apt configuration
	certs   map[string][]byte
}

// debianLayer is the root file system of Debian.
func (l *Lab) debianLayer(ctx context.Context) (*layer, error) {
	apt, err := hostApt(ctx)
	if err != nil {
		return nil, err
	}
	key := recipeKey(debianVersion, debianSuite, apt.mirror, strings.Join(apt.sources, "\n"), apt.proxy, apt.certsKey(), dockerApt)
	return l.cachedLayer(ctx, "debian-"+debianSuite, key, func(ctx context.Context, t *tree) error {
		l.config.Logf("making debian:%s-slim with debootstrap (a minute or so, once)", debianSuite)
		return l.fillDebian(ctx, t, apt)
	})
}

func (l *Lab) fillDebian(ctx context.Context, t *tree, apt aptSetup) error {
	// the layer's lock is held: what is there already was left by a process that was killed
	if stale, err := filepath.Glob(filepath.Join(l.layers.dir, ".debootstrap-*")); err == nil {
		for _, dir := range stale {
			_ = os.RemoveAll(dir)
		}
	}
	root, err := os.MkdirTemp(l.layers.dir, ".debootstrap-*")
	if err != nil {
		return err
	}
	t.cleanup = append(t.cleanup, func() error { return os.RemoveAll(root) })
	if err := debootstrap(ctx, root, apt); err != nil {
		return err
	}
	if err := tidyDebian(root, apt); err != nil {
		return fmt.Errorf("tidying the Debian image: %w", err)
	}
	err = t.addDir(root, dirOptions{skip: debianSkips, owner: hostOwner})
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "var/cache/apt", "var/cache/apt/archives",
		"var/cache/apt/archives/partial", "var/lib/apt/lists", "var/lib/apt/lists/partial"} {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777
		}
		t.dir(d, mode)
	}
	return err
}

// debootstrap installs the suite into root.
func debootstrap(ctx context.Context, root string, apt aptSetup) error {
	program, err := exec.LookPath("debootstrap")
	if err != nil {
		if program = "/usr/sbin/debootstrap"; !fileExists(program) {
			return unavailable(nil, "debootstrap is needed; install the package debootstrap")
		}
	}
	if os.Geteuid() != 0 {
		return unavailable(nil, "debootstrap needs root")
	}
	args := []string{"--variant=minbase"}
	if !fileExists("/usr/share/keyrings/debian-archive-keyring.gpg") {
		return unavailable(nil, "the keys of Debian's archive are needed; install the package debian-archive-keyring")
	}
	args = append(args, "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", debianSuite, root)
	if apt.mirror != "" {
		args = append(args, apt.mirror)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	// the time keeps the days in /etc/shadow from being today's
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	confine(cmd)
	runtime.LockOSThread() // confine's tie is to the thread
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unavailable(err, "debootstrap did not get through, which most often means that the package mirror cannot be reached; it said last: %s", lastLines(out.String(), 3))
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// dockerApt is how apt and dpkg behave in Docker's Debian images: no caches, no translations, no
// services started by an installation.
//
//go:embed rootfs/docker-apt.conf
var dockerApt string

// dpkgExcludes are the folders that the slim images leave out.
var dpkgExcludes = []string{"doc", "man", "groff", "info", "lintian", "linda", "locale"}

func tidyDebian(root string, apt aptSetup) error {
	files := map[string]string{
		"etc/apt/apt.conf.d/docker":              dockerApt,
		"etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "force-unsafe-io\n",
		"etc/dpkg/dpkg.cfg.d/docker":             slimConfig(),
		"etc/machine-id":                         "",
		"usr/sbin/policy-rc.d":                   "#!/bin/sh\nexit 101\n",
	}
	if apt.proxy != "" {
		files["etc/apt/apt.conf.d/proxy"] = apt.proxy
	}
	if len(apt.sources) > 0 {
		files["etc/apt/sources.list"] = strings.Join(apt.sources, "\n") + "\n"
	}
	for name, data := range apt.certs {
		files["usr/local/share/ca-certificates/"+name] = string(data)
	}
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "usr/sbin/policy-rc.d"), 0o755); err != nil {
		return err
	}
	return fixShadowDates(root)
}

func slimConfig() string {
	var b strings.Builder
	for _, d := range dpkgExcludes {
		fmt.Fprintf(&b, "path-exclude /usr/share/%s/*\n", d)
	}
	b.WriteString("path-include /usr/share/doc/*/copyright\npath-include /usr/share/locale/locale.alias\n")
	return b.String()
}

var shadowDate = regexp.MustCompile(`(?m)^([^:]*:[^:]*:)\d+:`)

// fixShadowDates sets the day of the last password change, which is the day of installation, to the
// lab's.
func fixShadowDates(root string) error {
	for _, name := range []string{"etc/shadow", "etc/shadow-"} {
		file := filepath.Join(root, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		day := fmt.Sprintf("${1}%d:", epoch.Unix()/(24*60*60))
		if err := os.WriteFile(file, shadowDate.ReplaceAll(data, []byte(day)), 0o640); err != nil {
			return err
		}
	}
	return nil
}

// debianSkips leaves out what the slim images do, what differs between two installations of the same
// packages, and devices.
func debianSkips(name string, dir bool) bool {
	switch name {
	case "dev", "proc", "sys", "run", "tmp", "debootstrap", "etc/resolv.conf", "etc/hostname",
		"var/lib/apt/lists", "var/cache/apt", "var/cache/ldconfig", "var/lib/dpkg/status-old", "var/lib/dpkg/available",
		"var/lib/dpkg/available-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend":
		return true
	}
	if !dir && strings.HasPrefix(name, "var/log/") || strings.HasPrefix(name, "var/cache/debconf/") && strings.HasSuffix(name, "-old") {
		return true
	}
	for _, d := range dpkgExcludes {
		if strings.HasPrefix(name, "usr/share/"+d+"/") && !dir {
			return !strings.HasSuffix(name, "/copyright") && !strings.HasSuffix(name, "/locale.alias")
		}
	}
	return false
}

// hostApt finds out how this machine gets Debian packages: its mirror if it is a Debian of the same
// suite, its proxy, and the certificates that were added to it by hand.
func hostApt(ctx context.Context) (aptSetup, error) {
	setup := aptSetup{certs: map[string][]byte{}}
	format := `$(REPO_URI) $(RELEASE) $(COMPONENT)`
	if out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", format, "Created-By: Packages").Output(); err == nil {
		setup.mirror, setup.sources = parseTargets(string(out))
	}
	if out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", `%F "%v";%n`, "--no-empty").Output(); err == nil {
		setup.proxy = proxyLines(string(out))
	}
	certs, err := filepath.Glob("/usr/local/share/ca-certificates/*.crt")
	if err != nil {
		return setup, err
	}
	for _, c := range certs {
		data, err := os.ReadFile(c)
		if err != nil {
			return setup, fmt.Errorf("reading the machine's certificates: %w", err)
		}
		setup.certs[filepath.Base(c)] = data
	}
	return setup, nil
}

// parseTargets reads what apt says of its package indexes, "URI release component" a line, and keeps
// those of the image's suite. The mirror is where the suite itself comes from.
func parseTargets(out string) (mirror string, sources []string) {
	seen := map[string]bool{}
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		switch f[1] {
		case debianSuite:
			if mirror == "" {
				mirror = strings.TrimSuffix(f[0], "/")
			}
		case debianSuite + "-updates", debianSuite + "-security":
		default:
			continue
		}
		entry := "deb " + strings.TrimSuffix(f[0], "/") + " " + f[1] + " main"
		if !seen[entry] {
			seen[entry] = true
			sources = append(sources, entry)
		}
	}
	if mirror == "" {
		return "", nil
	}
	sort.Strings(sources)
	return mirror, sources
}

var proxyLine = regexp.MustCompile(`(?m)^Acquire::https?::Proxy(::[^ ]*)? ".*";$`)

func proxyLines(dump string) string {
	found := proxyLine.FindAllString(dump, -1)
	if len(found) == 0 {
		return ""
	}
	return strings.Join(found, "\n") + "\n"
}

func (a aptSetup) certsKey() string {
	names := make([]string, 0, len(a.certs))
	for name := range a.certs {
		names = append(names, name)
	}
	sort.Strings(names)
	var parts []string
	for _, name := range names {
		parts = append(parts, name, string(a.certs[name]))
	}
	return recipeKey(parts...)
}
