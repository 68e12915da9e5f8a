package runtimes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// maxManifest bounds what is read of one file: lock files are long, nothing else is.
const maxManifest = 32 << 20

// maxEntries bounds how many files are looked at to find programs.
const maxEntries = 50_000

// project is a directory that is looked at.
type project struct {
	fs fs.FS
}

// has tells whether the file is there.
func (p *project) has(name string) bool {
	info, err := fs.Stat(p.fs, name)
	return err == nil && info.Mode().IsRegular()
}

// dir tells whether the directory is there.
func (p *project) dir(name string) bool {
	info, err := fs.Stat(p.fs, name)
	return err == nil && info.IsDir()
}

// present gives those of the files and directories that are there.
func (p *project) present(names ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !p.has(n) && !p.dir(n) })
}

// first gives the first of the files that is there, or "".
func (p *project) first(names ...string) string {
	for _, n := range names {
		if p.has(n) {
			return n
		}
	}
	return ""
}

// read gives the content of a file; a file that is not there is nil.
func (p *project) read(name string) ([]byte, error) {
	f, err := p.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the project: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("reading the project: %w", err)
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("reading the project: %s is larger than %d MiB", name, maxManifest>>20)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// text is read for files of which it does not matter why they cannot be read.
func (p *project) text(name string) string {
	data, err := p.read(name)
	if err != nil {
		return ""
	}
	return string(data)
}

// list gives the names in a directory, sorted; none if it is not there.
func (p *project) list(dir string) []fs.DirEntry {
	entries, err := fs.ReadDir(p.fs, dir)
	if err != nil {
		return nil
	}
	return entries
}

// withExt gives the files at the top of the project whose names end so, whatever their case.
func (p *project) withExt(exts ...string) []string {
	var names []string
	for _, e := range p.list(".") {
		if !e.IsDir() && slices.Contains(exts, strings.ToLower(path.Ext(e.Name()))) {
			names = append(names, e.Name())
		}
	}
	return names
}

// members expands the patterns by which manifests name the directories of a workspace, those that
// have the file. A pattern may end in **, which is any depth.
func (p *project) members(patterns []string, file string) []string {
	var found, without []string
	for _, pattern := range patterns {
		pattern, negated := strings.CutPrefix(strings.TrimSpace(pattern), "!")
		dirs := p.expand(path.Clean(strings.TrimPrefix(pattern, "/")), file)
		if negated {
			without = append(without, dirs...)
		} else {
			found = append(found, dirs...)
		}
	}
	found = slices.DeleteFunc(found, func(d string) bool { return slices.Contains(without, d) })
	slices.Sort(found)
	return slices.Compact(found)
}

func (p *project) expand(pattern, file string) []string {
	if base, deep := strings.CutSuffix(pattern, "/**"); deep || pattern == "**" {
		if !deep {
			base = "."
		}
		return p.below(base, file)
	}
	dirs, err := fs.Glob(p.fs, pattern)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(dirs, func(d string) bool { return !p.has(path.Join(d, file)) })
}

// below gives the directories under base that have the file.
func (p *project) below(base, file string) []string {
	var dirs []string
	p.walk(base, func(name string) {
		if path.Base(name) == file && path.Dir(name) != base {
			dirs = append(dirs, path.Dir(name))
		}
	})
	return dirs
}

// walk calls visit with each file below a directory, in order, leaving out what tools put there.
// Links are not followed.
func (p *project) walk(dir string, visit func(name string)) {
	n := 0
	_ = fs.WalkDir(p.fs, dir, func(name string, e fs.DirEntry, err error) error {
		if n++; n > maxEntries {
			return fs.SkipAll
		}
		switch {
		case err != nil:
			return nil //nolint:nilerr // what cannot be read is not looked at
		case e.IsDir() && name != dir && skipped(e.Name()):
			return fs.SkipDir
		case e.Type().IsRegular():
			visit(name)
		}
		return nil
	})
}

// skipped are directories in which no source of the project lies.
func skipped(name string) bool {
	switch name {
	case "node_modules", "vendor", "target", "testdata", "__pycache__", "venv":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// plainPath is what can stand in any instruction of a Dockerfile and in any shell without quotes.
var plainPath = lazyregexp.New(`^[A-Za-z0-9@._+/][A-Za-z0-9@._+/-]*$`)

// plain checks that names of the project can be written into a build file as they are.
func plain(names ...string) error {
	for _, n := range names {
		if !plainPath().MatchString(n) {
			return fmt.Errorf("the path %q has characters that a template cannot hold: rename it, or write the build file by hand", n)
		}
	}
	return nil
}

// mistake is an error in a file of the project. line counts from 1; 0 is unknown.
func mistake(file string, line, col int, text []byte, format string, args ...any) error {
	return &graph.PosError{
		Pos: graph.Pos{File: file, Line: line, Column: col}, Err: fmt.Errorf(format, args...), Source: text,
	}
}

// place gives the line and column of an offset, both from 1.
func place(text []byte, offset int) (line, col int) {
	before := text[:max(0, min(offset, len(text)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}
