package wasm

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// maxWIT bounds what is read of one WIT file.
const maxWIT = 4 << 20

// WIT is a package of WIT files with those it depends on.
type WIT struct {
	// Package is the name of the main package with its version, such as wasi:http@0.2.0.
	Package string
	worlds  []*witWorld
	// interfaces are those of all packages, with package and version.
	interfaces []string
}

// witWorld is a world as written.
type witWorld struct {
	name, pkg string
	main      bool // of the main package
	imports   []string
	exports   []string
	includes  []witToken
	file      string
}

// full is the world's name with package and version.
func (w *witWorld) full() string { return inPackage(w.pkg, w.name) }

// inPackage puts a name into a package: ns:pkg@1.0.0 and name give ns:pkg/name@1.0.0.
func inPackage(pkg, name string) string {
	base, version := splitVersion(pkg)
	if base == "" {
		return name
	}
	if version != "" {
		version = "@" + version
	}
	return base + "/" + name + version
}

// ReadWIT reads a WIT file, or a directory of them with what it depends on in deps, and finds its
// worlds. Of interfaces only the names are read. Mistakes are graph.PosErrors.
func ReadWIT(fsys fs.FS, name string) (*WIT, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading WIT: %w", err)
	}
	w := &WIT{}
	if !info.IsDir() {
		return w, w.files(fsys, true, name)
	}
	main, _ := fs.Glob(fsys, path.Join(name, "*.wit"))
	if len(main) == 0 {
		return nil, fmt.Errorf("there are no WIT files in %s", name)
	}
	if err := w.files(fsys, true, main...); err != nil {
		return nil, err
	}
	deps, _ := fs.Glob(fsys, path.Join(name, "deps", "*.wit"))
	if err := w.deps(fsys, deps, false); err != nil {
		return nil, err
	}
	dirs, _ := fs.Glob(fsys, path.Join(name, "deps", "*"))
	for _, d := range dirs {
		files, _ := fs.Glob(fsys, path.Join(d, "*.wit"))
		if err := w.deps(fsys, files, true); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// deps reads files of other packages: those of one, or each one of its own.
func (w *WIT) deps(fsys fs.FS, files []string, one bool) error {
	if one {
		return w.files(fsys, false, files...)
	}
	for _, f := range files {
		if err := w.files(fsys, false, f); err != nil {
			return err
		}
	}
	return nil
}

// files reads the files of one package; one of them names it.
func (w *WIT) files(fsys fs.FS, main bool, names ...string) error {
	pkg := ""
	var parsed []*witParser
	for _, n := range names {
		p, err := readWITFile(fsys, n)
		if err != nil {
			return err
		}
		if p.pkg != "" {
			pkg = p.pkg
		}
		parsed = append(parsed, p)
	}
	for _, p := range parsed {
		p.pkg, p.main = pkg, main
		if err := p.items(w, pkg, false); err != nil {
			return err
		}
	}
	if main {
		w.Package = pkg
	}
	return nil
}

func readWITFile(fsys fs.FS, name string) (*witParser, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading WIT: %w", err)
	}
	if len(text) > maxWIT {
		return nil, fmt.Errorf("reading WIT: %s is larger than %d MiB", name, maxWIT>>20)
	}
	p := &witParser{lex: witLexer{file: name, text: string(text)}}
	if p.tokens, err = p.lex.tokens(); err != nil {
		return nil, err
	}
	if p.peek() == "package" {
		p.next()
		first := p.at
		p.pkg = p.path()
		if p.peek() == "{" { // not the file's package, but one that it contains
			p.at, p.pkg = first-1, ""
		} else if err := p.expect(";"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Worlds lists the worlds of the main package.
func (w *WIT) Worlds() []string {
	var names []string
	for _, x := range w.worlds {
		if x.main {
			names = append(names, x.name)
		}
	}
	slices.Sort(names)
	return names
}

// World finds a world: by its name in the main package, by its name with package, or, for "", the
// only one of the main package.
func (w *WIT) World(name string) (World, error) {
	x, err := w.find(name)
	if err != nil {
		return World{}, err
	}
	out := World{Name: x.full(), Closed: true}
	if err := w.gather(x, &out, nil); err != nil {
		return World{}, err
	}
	// what interfaces use of each other is imported as well
	out.Imports = append(out.Imports, w.interfaces...)
	return out, nil
}

func (w *WIT) find(name string) (*witWorld, error) {
	var fits []*witWorld
	for _, x := range w.worlds {
		qualified := strings.Contains(name, "/")
		switch {
		case name == "" && x.main, !qualified && x.main && x.name == name, qualified && sameExtern(name, x.full()):
			fits = append(fits, x)
		}
	}
	switch {
	case len(fits) == 1 || len(fits) > 1 && name != "":
		return fits[0], nil
	case len(w.Worlds()) == 0:
		return nil, fmt.Errorf("the WIT package %s has no worlds", w.Package)
	case name == "":
		return nil, fmt.Errorf("there are several worlds: name one of %s", strings.Join(w.Worlds(), ", "))
	}
	return nil, fmt.Errorf("there is no world %s: there are %s", name, strings.Join(w.Worlds(), ", "))
}

// gather adds what a world and those it includes import and export.
func (w *WIT) gather(x *witWorld, out *World, chain []string) error {
	if slices.Contains(chain, x.full()) {
		return fmt.Errorf("world %s includes itself", x.full())
	}
	out.Imports = append(out.Imports, x.imports...)
	out.Exports = append(out.Exports, x.exports...)
	for _, inc := range x.includes {
		name := inc.text
		if !strings.Contains(name, "/") {
			name = inPackage(x.pkg, name)
		}
		i := slices.IndexFunc(w.worlds, func(o *witWorld) bool { return sameExtern(name, o.full()) })
		if i < 0 {
			return &graph.PosError{
				Pos: graph.Pos{File: x.file, Line: inc.line, Column: inc.col},
				Err: fmt.Errorf("world %s is not there: put its package into the folder deps beside the WIT files", inc.text),
			}
		}
		if err := w.gather(w.worlds[i], out, append(chain, x.full())); err != nil {
			return err
		}
	}
	return nil
}
