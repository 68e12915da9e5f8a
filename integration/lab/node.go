package lab

import (
	"archive/tar"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The versions are fixed, so that the image is the same on every machine.
const (
	nodeVersion = "20.20.2"
	npmVersion  = "10.8.2"
)

// nodeEntrypoint runs node with what is no command of its own, as the real images do.
//
//go:embed rootfs/node-entrypoint.sh
var nodeEntrypoint []byte

func nodeRecipe() recipe {
	return recipe{
		names: tagged("node", "20-slim", "20-bookworm-slim", "20", "20-bookworm", nodeVersion+"-slim"),
		about: "debian:bookworm-slim with node " + nodeVersion + " and npm " + npmVersion + " from npm's packages, and this machine's certificates",
		lazy:  true,
		make: func(ctx context.Context, l *Lab) (product, error) {
			base, err := l.debianLayer(ctx)
			if err != nil {
				return product{}, err
			}
			certs, err := l.certsLayer(ctx)
			if err != nil {
				return product{}, err
			}
			user, err := l.nodeUserLayer(ctx, base)
			if err != nil {
				return product{}, err
			}
			node, err := l.nodeLayer(ctx)
			if err != nil {
				return product{}, err
			}
			s := debianSpec(base)
			s.layers = append(s.layers, certs, user, node)
			s.created = append(s.created, "the machine's certificates", "user node", "node "+nodeVersion+", npm "+npmVersion)
			s.config.Env = append(s.config.Env, "NODE_VERSION="+nodeVersion)
			s.config.Entrypoint, s.config.Cmd = []string{"docker-entrypoint.sh"}, []string{"node"}
			return s.hostOnly()
		},
	}
}

// nodeUserLayer adds the user that the real images have.
func (l *Lab) nodeUserLayer(ctx context.Context, base *layer) (*layer, error) {
	return l.cachedLayer(ctx, "node-user", recipeKey("node user 1", base.layerInfo.Digest.String()), func(_ context.Context, t *tree) error {
		for _, f := range []struct {
			name, line string
			mode       int64
			gid        int
		}{
			{"etc/passwd", "node:x:1000:1000::/home/node:/bin/bash\n", 0o644, 0},
			{"etc/group", "node:x:1000:\n", 0o644, 0},
			{"etc/shadow", "node:!:19724:0:99999:7:::\n", 0o640, 42},
		} {
			data, err := base.read(f.name)
			if err != nil {
				return err
			}
			t.file(f.name, f.mode, append(data, f.line...))
			t.own(f.name, 0, f.gid)
		}
		t.dir("home/node", 0o755)
		t.own("home/node", 1000, 1000)
		return nil
	})
}

// read gives the content of a file that the layer has.
func (l *layer) read(name string) ([]byte, error) {
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err != nil {
			return nil, fmt.Errorf("looking for %s in layer %s: %w", name, l.layerInfo.Digest, err)
		}
		if h.Name == name {
			return io.ReadAll(tr)
		}
	}
}

// nodeLayer has node and npm in /usr/local.
func (l *Lab) nodeLayer(ctx context.Context) (*layer, error) {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	config, err := npmConfig(ctx)
	if err != nil {
		return nil, err
	}
	key := recipeKey("node 1", nodeVersion, npmVersion, arch, config, string(nodeEntrypoint))
	return l.cachedLayer(ctx, "node", key, func(ctx context.Context, t *tree) error {
		l.config.Logf("getting node %s from npm (some seconds, once)", nodeVersion)
		dir, err := os.MkdirTemp("", "zlayer-lab-node-*")
		if err != nil {
			return err
		}
		t.cleanup = append(t.cleanup, func() error { return os.RemoveAll(dir) })
		node, npm := filepath.Join(dir, "node"), filepath.Join(dir, "npm")
		if err := npmUnpack(ctx, "node-linux-"+arch+"@"+nodeVersion, node); err != nil {
			return err
		}
		if err := npmUnpack(ctx, "npm@"+npmVersion, npm); err != nil {
			return err
		}
		for _, d := range []string{"usr/local/bin", "usr/local/lib/node_modules", "usr/local/lib/node_modules/npm", "usr/local/etc"} {
			t.dir(d, 0o755)
		}
		if err := t.addDir(filepath.Join(npm, "package"), dirOptions{at: "usr/local/lib/node_modules/npm", mode: plainMode}); err != nil {
			return err
		}
		program, err := os.ReadFile(filepath.Join(node, "package", "bin", "node"))
		if err != nil {
			return err
		}
		t.file("usr/local/bin/node", 0o755, program)
		t.symlink("usr/local/bin/nodejs", "node")
		t.symlink("usr/local/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")
		t.symlink("usr/local/bin/npx", "../lib/node_modules/npm/bin/npx-cli.js")
		t.file("usr/local/bin/docker-entrypoint.sh", 0o755, nodeEntrypoint)
		t.text("usr/local/etc/npmrc", config)
		return nil
	})
}

// npmConfig is what an npm in the image has to be told to get packages as this machine does.
func npmConfig(ctx context.Context) (string, error) {
	config := "cafile=/" + caBundlePath + "\nupdate-notifier=false\nfund=false\n"
	if _, err := exec.LookPath("npm"); err != nil {
		return "", unavailable(nil, "npm is needed; install the package npm")
	}
	for _, key := range []string{"registry", "proxy", "https-proxy", "noproxy"} {
		cmd := exec.CommandContext(ctx, "npm", "config", "get", key)
		cmd.Dir = os.TempDir() // not the settings of the folder the test runs in
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("asking npm for its %s: %w", key, err)
		}
		if v := strings.TrimSpace(string(out)); v != "" && v != "null" && v != "undefined" {
			config += key + "=" + v + "\n"
		}
	}
	return config, nil
}

// npmUnpack downloads a package with npm, which checks its integrity, and unpacks it into dir.
func npmUnpack(ctx context.Context, spec, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", spec)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return unavailable(err, "npm cannot get %s", spec)
	}
	archive := lastLines(string(out), 1)
	if msg, err := exec.CommandContext(ctx, "tar", "-xzf", filepath.Join(dir, archive), "-C", dir, "--no-same-owner").CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", spec, err, msg)
	}
	return nil
}
