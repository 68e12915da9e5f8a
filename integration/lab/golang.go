package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func golangRecipe() recipe {
	return recipe{
		names: tagged("golang", "1.26", "1.26-bookworm", "1", "1-bookworm", "bookworm", "latest"),
		about: "debian:bookworm-slim and this machine's Go toolchain and certificates; no git, no C compiler",
		lazy:  true,
		make: func(ctx context.Context, l *Lab) (product, error) {
			base, err := l.debianLayer(ctx)
			if err != nil {
				return product{}, err
			}
			return l.withGo(ctx, debianSpec(base))
		},
	}
}

// golangBusyboxRecipe is for machines that cannot make Debian.
func golangBusyboxRecipe() recipe {
	return recipe{
		names: []string{"lab/golang:latest"},
		about: "busybox and this machine's Go toolchain and certificates",
		lazy:  true,
		make: func(ctx context.Context, l *Lab) (product, error) {
			base, err := l.busyboxLayer(ctx)
			if err != nil {
				return product{}, err
			}
			return l.withGo(ctx, busyboxSpec(base))
		},
	}
}

// toolchain is the machine's Go.
type toolchain struct {
	GOROOT, GOVERSION                                             string
	GOPROXY, GOSUMDB, GONOSUMDB, GOPRIVATE, GONOPROXY, GOINSECURE string
}

// withGo adds the toolchain to an image and gives it the environment of the real golang images.
func (l *Lab) withGo(ctx context.Context, s imageSpec) (product, error) {
	tc, err := hostGo(ctx)
	if err != nil {
		return product{}, err
	}
	certs, err := l.certsLayer(ctx)
	if err != nil {
		return product{}, err
	}
	tools, err := l.golangLayer(ctx, tc)
	if err != nil {
		return product{}, err
	}
	s.layers = append(s.layers, certs, tools)
	s.created = append(s.created, "the machine's certificates", "the machine's "+tc.GOVERSION)
	s.config.Env = []string{
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOLANG_VERSION=" + strings.TrimPrefix(tc.GOVERSION, "go"),
		"GOTOOLCHAIN=local",
		"GOPATH=/go",
	}
	s.config.WorkingDir = "/go"
	s.meta = append(s.meta, "WORKDIR /go")
	return s.hostOnly()
}

func hostGo(ctx context.Context) (toolchain, error) {
	var tc toolchain
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT", "GOVERSION", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE")
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return tc, unavailable(nil, "a Go toolchain is needed in PATH")
	}
	if err != nil {
		return tc, fmt.Errorf("asking go for its environment: %w", err)
	}
	if err := json.Unmarshal(out, &tc); err != nil {
		return tc, fmt.Errorf("reading go's environment: %w", err)
	}
	tc.GOROOT, err = filepath.EvalSymlinks(tc.GOROOT)
	return tc, err
}

// golangLayer has the toolchain in /usr/local/go, told to get modules as this machine does, and an
// empty GOPATH.
func (l *Lab) golangLayer(ctx context.Context, tc toolchain) (*layer, error) {
	env, err := os.ReadFile(filepath.Join(tc.GOROOT, "go.env"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the toolchain's defaults: %w", err)
	}
	defaults := string(env) + tc.settings()
	key := recipeKey("golang 1", tc.GOVERSION, tc.GOROOT, defaults)
	return l.cachedLayer(ctx, "golang", key, func(_ context.Context, t *tree) error {
		l.config.Logf("packing %s (some seconds, once)", tc.GOVERSION)
		t.dir("usr/local/go", 0o755)
		err := t.addDir(tc.GOROOT, dirOptions{at: "usr/local/go", skip: golangSkips, follow: true, mode: plainMode})
		t.text("usr/local/go/go.env", defaults)
		for _, d := range []string{"go", "go/bin", "go/src", "go/pkg"} {
			t.dir(d, 0o1777)
		}
		return err
	})
}

// settings are lines of go.env for what differs from Go's defaults or may do so on some machine.
func (tc toolchain) settings() string {
	var b strings.Builder
	for _, s := range []struct{ name, value string }{
		{"GOPROXY", tc.GOPROXY}, {"GOSUMDB", tc.GOSUMDB}, {"GONOSUMDB", tc.GONOSUMDB},
		{"GOPRIVATE", tc.GOPRIVATE}, {"GONOPROXY", tc.GONOPROXY}, {"GOINSECURE", tc.GOINSECURE},
	} {
		if s.value != "" {
			fmt.Fprintf(&b, "%s=%s\n", s.name, s.value)
		}
	}
	return b.String()
}

// golangSkips leaves out what no build needs. Toolchains that go downloads by itself lie inside the
// module cache, those of distributions link to folders elsewhere: both are packed the same.
func golangSkips(name string, _ bool) bool {
	switch name {
	case "test", "api", "doc", "pkg/obj", "pkg/mod", "go.env", ".git":
		return true
	}
	return false
}

// plainMode is 0755 for folders and programs and 0644 for the rest, whatever the host has (the module
// cache takes away all rights to write).
func plainMode(_ string, m fs.FileMode) int64 {
	if m.IsDir() || m&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// caBundlePath is where Debian keeps its certificates, and the first place where Go looks.
const caBundlePath = "etc/ssl/certs/ca-certificates.crt"

// certsLayer has the certificates that this machine trusts, so that downloads in a build step work
// behind the same proxies.
func (l *Lab) certsLayer(ctx context.Context) (*layer, error) {
	bundle, err := hostCerts()
	if err != nil {
		return nil, err
	}
	return l.cachedLayer(ctx, "certs", recipeKey("certs 1", string(bundle)), func(_ context.Context, t *tree) error {
		t.dir("etc/ssl", 0o755)
		t.dir("etc/ssl/certs", 0o755)
		t.file(caBundlePath, 0o644, bundle)
		return nil
	})
}

// hostCerts reads the machine's bundle of certificates.
func hostCerts() ([]byte, error) {
	for _, name := range []string{os.Getenv("SSL_CERT_FILE"), "/" + caBundlePath, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"} {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			return data, nil
		}
	}
	return nil, unavailable(nil, "the machine's bundle of certificates is needed; install the package ca-certificates")
}

// goBuild builds a package of this module's dependencies as a static program and returns its bytes.
func goBuild(ctx context.Context, pkg string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "zlayer-lab-build-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	// neither tags nor -trimpath: they would compile anew what the tests have compiled already
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, unavailable(err, "building %s: %s", pkg, lastLines(string(msg), 3))
	}
	return os.ReadFile(out)
}

// goModule asks which version of a module this module builds with.
func goModule(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return "", unavailable(err, "a Go toolchain and the source of this module are needed to build %s", module)
	}
	return strings.TrimSpace(string(out)), nil
}
