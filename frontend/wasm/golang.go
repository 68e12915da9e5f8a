package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	goImage     = "docker.io/library/golang:1.26-bookworm"
	tinyGoImage = "docker.io/tinygo/tinygo:0.39.0"
)

// goMounts are Go's caches, which are safe to share: their entries are named by content.
func goMounts() string {
	return cacheMount("go-build", "/root/.cache/go-build", "shared") + cacheMount("go-mod", "/go/pkg/mod", "shared")
}

// goSetup says where the caches are, whatever the image thinks.
const goSetup = "export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; "

func goToolchain() toolchain {
	return toolchain{
		image: goImage, makes: Preview1, lifts: true, features: true,
		mounts: goMounts(), compile: (*compiler).compileGo,
	}
}

func tinyGoToolchain(target Target, adapter bool) toolchain {
	return toolchain{
		image: tinyGoImage, makes: Preview2, lifts: adapter, features: true,
		mounts: goMounts(), compile: (*compiler).compileTinyGo,
	}
}

// compileGo builds with Go's own compiler.
func (c *compiler) compileGo() (string, error) {
	pkg, err := c.mainPackage()
	if err != nil {
		return "", err
	}
	flags := " -trimpath -buildvcs=false"
	if len(c.Features) > 0 {
		flags += " -tags " + quote(strings.Join(c.featureList(), ","))
	}
	if c.Optimize {
		flags += " -ldflags '-s -w'"
	}
	return goSetup + "GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build" + flags + " -o " + built + " " + pkg + " && touch -d @0 " + built, nil
}

// compileTinyGo builds with TinyGo.
func (c *compiler) compileTinyGo() (string, error) {
	pkg, err := c.mainPackage()
	if err != nil {
		return "", err
	}
	target := "wasip2"
	if c.target == Preview1 || c.lift {
		target = "wasip1"
	}
	flags := " -target=" + target
	if c.Optimize {
		flags += " -no-debug -opt=" + tinyGoLevel(c.level())
	}
	if len(c.Features) > 0 {
		flags += " -tags " + quote(strings.Join(c.featureList(), " "))
	}
	if c.wit != "" && target == "wasip2" {
		flags += " --wit-package " + quote("./"+c.wit)
		if w := c.worldName(); w != "" {
			flags += " --wit-world " + quote(w)
		}
	}
	return goSetup + "tinygo build" + flags + " -o " + built + " " + pkg + " && touch -d @0 " + built, nil
}

// tinyGoLevel is TinyGo's name of a level; it knows no 3.
func tinyGoLevel(level string) string {
	switch level {
	case "":
		return "1"
	case "3":
		return "2"
	}
	return level
}

// mainPackage finds the program to build: at the top, or the only one below cmd.
func (c *compiler) mainPackage() (string, error) {
	if c.goMain(".") {
		if c.has("go.mod") {
			return ".", nil
		}
		return words(c.goFiles(".")...), nil // without a module, Go builds files
	}
	var found []string
	for _, dir := range c.dirs("cmd") {
		if c.goMain(dir) {
			found = append(found, "./"+dir)
		}
	}
	switch len(found) {
	case 1:
		return quote(found[0]), nil
	case 0:
		return "", errors.New("there is no package main for WASI at the top of the build context, nor below cmd")
	}
	return "", fmt.Errorf("there are several programs (%s): make the directory of one the build context, or leave one", strings.Join(found, ", "))
}

// dirs lists the directories in a directory.
func (p project) dirs(dir string) []string {
	entries, err := fs.ReadDir(p.fs, dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	slices.Sort(names)
	return names
}
