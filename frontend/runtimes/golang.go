package runtimes

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// golang is what the template of Go is executed with.
type golang struct {
	*common
	Early []string // instructions that copy what is needed to download modules
	// Download says that modules come from the network, not from a vendor directory.
	Download bool
	CGO      bool
	Packages []string // what to build: . or ./cmd/name
}

// cgoModules are modules that are of no use without a C compiler.
var cgoModules = []string{"github.com/mattn/go-sqlite3", "github.com/confluentinc/confluent-kafka-go", "github.com/confluentinc/confluent-kafka-go/v2"}

// golang looks at a project of Go.
func (c *common) golang() (*golang, error) {
	g := &golang{common: c, Download: !c.has("vendor/modules.txt")}
	modules, err := g.modules()
	if err != nil {
		return nil, err
	}
	dirs := make([]string, 0, len(modules))
	for dir := range modules {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	if err := g.manifests(modules, dirs); err != nil {
		return nil, err
	}
	found := c.goDirs(dirs)
	for _, m := range modules {
		g.CGO = g.CGO || slices.ContainsFunc(cgoModules, func(n string) bool { return slices.Contains(m.Requires, n) })
	}
	for _, s := range found {
		g.CGO = g.CGO || s.cgo
	}
	return g, g.programs(modules, found)
}

// modules reads the go.mod of the project, or all those of its go.work.
func (g *golang) modules() (map[string]*goMod, error) {
	dirs := []string{"."}
	work, err := g.read("go.work")
	if err != nil {
		return nil, err
	}
	if work != nil {
		w, err := parseGoWork("go.work", work)
		if err != nil {
			return nil, err
		}
		dirs = w.Use
	}
	modules := map[string]*goMod{}
	for _, dir := range dirs {
		name := path.Join(dir, "go.mod")
		if strings.HasPrefix(dir, "..") || path.IsAbs(dir) {
			return nil, errors.New("go.work uses " + dir + ", which lies outside of the project: build from the directory that holds both")
		}
		data, err := g.read(name)
		if err != nil {
			return nil, err
		}
		if data == nil {
			return nil, errors.New("there is no " + name + ": run go mod init")
		}
		m, err := parseGoMod(name, data)
		if err != nil {
			return nil, err
		}
		modules[dir] = m
	}
	return modules, nil
}

// manifests lists what go mod download reads.
func (g *golang) manifests(modules map[string]*goMod, dirs []string) error {
	if !g.Download {
		return nil
	}
	if top := g.present("go.work", "go.work.sum"); len(top) > 0 {
		g.Early = append(g.Early, "COPY "+strings.Join(top, " ")+" ./")
	}
	want := slices.Clone(dirs)
	for _, d := range dirs {
		for _, r := range modules[d].Replaces {
			local := path.Join(d, r)
			if path.IsAbs(r) || strings.HasPrefix(local, "..") {
				return errors.New("go.mod replaces a module by " + r + ", which lies outside of the project: build from the directory that holds both")
			}
			want = append(want, local)
		}
	}
	slices.Sort(want)
	for _, d := range slices.Compact(want) {
		files := g.present(path.Join(d, "go.mod"), path.Join(d, "go.sum"))
		if len(files) == 0 {
			continue
		}
		line, err := copyLine(files, "./"+strings.TrimPrefix(d+"/", "./"))
		if err != nil {
			return err
		}
		g.Early = append(g.Early, line)
		if m := modules[d]; m != nil && len(m.Requires) > len(m.Replaces) && len(files) == 1 && !g.has("go.work.sum") {
			g.note("%s has requirements but there is no go.sum beside it: run go mod tidy", files[0])
		}
	}
	return nil
}

// programs chooses what to build and what to run.
func (g *golang) programs(modules map[string]*goMod, found map[string]goSource) error {
	var dirs []string
	for dir, s := range found {
		if s.main {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	if len(dirs) == 0 {
		return errors.New("there is no package main: a library is not an image")
	}
	if own := slices.DeleteFunc(slices.Clone(dirs), func(d string) bool { return d != "." && !slices.Contains(strings.Split(d, "/"), "cmd") }); len(own) > 0 {
		dirs = own // what lies elsewhere is for the project's own use
	}
	var names []string
	for _, dir := range dirs {
		name := programName(modules, dir)
		if slices.Contains(names, name) {
			g.note("more than one program is called %s: that in %s is not built", name, dir)
			continue
		}
		names = append(names, name)
		pkg := "./" + dir
		if dir == "." {
			pkg = "."
		}
		if err := plain(pkg, name); err != nil {
			return err
		}
		g.Packages = append(g.Packages, pkg)
	}
	run := names[0]
	if m := modules["."]; m != nil && slices.Contains(names, programName(modules, ".")) {
		run = programName(modules, ".")
	} else if slices.Contains(names, "server") {
		run = "server"
	}
	if len(names) > 1 {
		g.note("the project has %d programs, all of them in /usr/local/bin: the image runs %s", len(names), run)
	}
	g.Cmd = []string{"/usr/local/bin/" + run}
	return nil
}

// programName is what go build calls the program in a directory: like the directory, or like the
// module if it is its root.
func programName(modules map[string]*goMod, dir string) string {
	m := modules[dir]
	if m == nil {
		return path.Base(dir)
	}
	prefix, _, ok := module.SplitPathVersion(m.Module)
	if !ok {
		prefix = m.Module
	}
	return path.Base(prefix)
}
