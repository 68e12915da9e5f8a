package lab_test

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

func TestDebianNeedsMirror(t *testing.T) {
	img := pull(t, labtest.RequireDebian(t), "debian:bookworm-slim")
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	if got := content(t, img, "usr/lib/os-release"); !strings.Contains(got, "VERSION_CODENAME=bookworm") {
		t.Errorf("os-release:\n%s", got)
	}
	if got := content(t, img, "etc/apt/sources.list"); !strings.Contains(got, " bookworm main") {
		t.Errorf("sources.list:\n%s", got)
	}
	fs := files(t, img)
	for name, mode := range map[string]int64{"tmp": 0o1777, "etc/shadow": 0o640, "usr/bin/su": 0o4755, "usr/bin/bash": 0o755, "var/lib/apt/lists/partial": 0o755} {
		if h := fs[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: got %+v, want mode %o", name, h, mode)
		}
	}
	if h := fs["etc/shadow"]; h != nil && h.Gid != 42 {
		t.Errorf("etc/shadow: group %d, want 42 (shadow)", h.Gid)
	}
	for name := range fs {
		if strings.HasPrefix(name, "usr/share/man/man1/") || strings.HasPrefix(name, "var/cache/apt/archives/") && strings.HasSuffix(name, ".deb") {
			t.Errorf("%s is in a slim image", name)
		}
	}
}

func TestGolangNeedsMirror(t *testing.T) {
	img := pull(t, labtest.Require(t, "golang:1.26"), "golang:1.26")
	c := config(t, img).Config
	if c.WorkingDir != "/go" || !strings.Contains(strings.Join(c.Env, "\n"), "PATH=/go/bin:/usr/local/go/bin:") {
		t.Errorf("config: %+v", c)
	}
	fs := files(t, img)
	for name, mode := range map[string]int64{"usr/local/go/bin/go": 0o755, "usr/local/go/src/fmt/print.go": 0o644, "go": 0o1777, "etc/ssl/certs/ca-certificates.crt": 0o644, "usr/bin/bash": 0o755} {
		if h := fs[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: got %+v, want mode %o", name, h, mode)
		}
	}
}

func TestGolangIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("packs the Go toolchain twice")
	}
	const image = "lab/golang"
	a := labtest.Require(t, image)
	b := start(t, lab.Config{CacheDir: t.TempDir()})
	if err := b.Ensure(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if da, db := digests(t, a, []string{image}), digests(t, b, []string{image}); da[image] != db[image] {
		t.Errorf("got %s and %s", da[image], db[image])
	}
}

func TestNodeNeedsNPM(t *testing.T) {
	img := pull(t, labtest.Require(t, "node:20-slim"), "node:20-slim")
	if got := strings.Join(config(t, img).Config.Entrypoint, " "); got != "docker-entrypoint.sh" {
		t.Errorf("entrypoint: got %q", got)
	}
	if got := content(t, img, "etc/passwd"); !strings.Contains(got, "root:x:0:0:") || !strings.Contains(got, "node:x:1000:1000:") {
		t.Errorf("passwd:\n%s", got)
	}
	fs := files(t, img)
	for _, name := range []string{"usr/local/bin/node", "usr/local/lib/node_modules/npm/bin/npm-cli.js", "usr/local/bin/docker-entrypoint.sh"} {
		if h := fs[name]; h == nil || h.Mode != 0o755 {
			t.Errorf("%s: got %+v", name, h)
		}
	}
}

func TestDockerfileFrontend(t *testing.T) {
	img := pull(t, labtest.Require(t, "docker/dockerfile:1"), "docker/dockerfile:1")
	if got := strings.Join(config(t, img).Config.Entrypoint, " "); got != "/bin/dockerfile-frontend" {
		t.Errorf("entrypoint: got %q", got)
	}
	if h := files(t, img)["bin/dockerfile-frontend"]; h == nil || h.Mode != 0o755 || h.Size < 1<<20 {
		t.Errorf("the program: %+v", h)
	}
}
