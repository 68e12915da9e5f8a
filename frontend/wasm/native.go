package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

const (
	cImage = "docker.io/library/debian:bookworm-slim"
	// zigImage has pip, by which Zig comes with its checksum checked.
	zigImage   = "docker.io/library/python:3.13-slim-bookworm"
	zigVersion = "0.15.1"
)

// wasiSDK is where the images of the WASI SDK have their clang.
const wasiSDK = "/opt/wasi-sdk"

func cToolchain() toolchain {
	return toolchain{
		image: cImage,
		install: "command -v clang >/dev/null || [ -x " + wasiSDK + "/bin/clang ] || { apt-get update && " +
			"apt-get install -y --no-install-recommends clang lld wasi-libc libclang-rt-dev-wasm32 && rm -rf /var/lib/apt/lists/*; }",
		makes: Preview1, lifts: true, features: true,
		compile: (*compiler).compileC,
	}
}

// compileC compiles and links all sources at the top and below src at once.
func (c *compiler) compileC() (string, error) {
	sources := append(c.files(".", ".c"), c.below("src", ".c")...)
	if len(sources) == 0 {
		return "", errors.New("there are no C sources at the top of the build context, nor below src")
	}
	flags := " --target=wasm32-wasi"
	if c.Optimize {
		flags += " -O" + c.level() + " -s"
	}
	for _, dir := range []string{"include", "src"} {
		if c.exists(dir) {
			flags += " -I" + dir
		}
	}
	for _, f := range c.featureList() {
		flags += " " + quote("-D"+f)
	}
	return "PATH=" + wasiSDK + "/bin:$PATH; clang" + flags + " -o " + built + " " + words(sources...) + " && touch -d @0 " + built, nil
}

// below lists the files below a directory that end so.
func (p project) below(dir, ext string) []string {
	var names []string
	_ = fs.WalkDir(p.fs, dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && path.Ext(name) == ext {
			names = append(names, name)
		}
		return nil //nolint:nilerr // what cannot be read is not compiled
	})
	slices.Sort(names)
	return names
}

func zigToolchain() toolchain {
	return toolchain{
		image: zigImage,
		install: `command -v zig >/dev/null || { pip install ziglang==` + zigVersion +
			` && printf '#!/bin/sh\nexec python -m ziglang "$@"\n' >/usr/local/bin/zig && chmod +x /usr/local/bin/zig; }`,
		installMounts: cacheMount("pip", "/root/.cache/pip", "shared"),
		makes:         Preview1, lifts: true, features: true, exclude: []string{"**/.zig-cache", "**/zig-cache", "zig-out"},
		mounts: cacheMount("zig", "/root/.cache/zig", "shared"), compile: (*compiler).compileZig,
	}
}

// compileZig installs into a folder of its own, in which there has to be one program or library.
func (c *compiler) compileZig() (string, error) {
	flags := " -Dtarget=wasm32-wasi"
	if c.Optimize {
		mode := "ReleaseFast"
		if l := c.level(); l == "s" || l == "z" {
			mode = "ReleaseSmall"
		}
		flags += " -Doptimize=" + mode
	}
	for _, f := range c.featureList() {
		flags += " " + quote("-D"+f)
	}
	return fmt.Sprintf(`set -e
zig build%s --prefix %[2]s/zig --global-cache-dir /root/.cache/zig
find %[2]s/zig -name '*.wasm' | sort >%[2]s/results
`, flags, outputDir) + takeResult("", "install one in build.zig"), nil
}
