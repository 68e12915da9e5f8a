package runtimes

import (
	"errors"
	"go/build"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// goMod is what matters of a go.mod or go.work.
type goMod struct {
	Module   string
	Version  string   // the larger one of go and toolchain, "" if neither is there
	Requires []string // modules
	Replaces []string // directories
	Use      []string // directories, of a go.work
}

// parseGoMod reads a go.mod.
func parseGoMod(name string, data []byte) (*goMod, error) {
	f, err := modfile.Parse(name, data, nil)
	if err != nil { // it may have directives of a later Go
		if f, err = modfile.ParseLax(name, data, nil); err != nil {
			return nil, modMistake(name, data, err)
		}
	}
	m := &goMod{}
	if f.Module != nil {
		m.Module = f.Module.Mod.Path
	}
	if m.Module == "" {
		return nil, mistake(name, 1, 1, data, "the file names no module")
	}
	m.Version = goVersion(f.Go, f.Toolchain)
	for _, r := range f.Require {
		m.Requires = append(m.Requires, r.Mod.Path)
	}
	for _, r := range f.Replace {
		if r.New.Version == "" && modfile.IsDirectoryPath(r.New.Path) {
			m.Replaces = append(m.Replaces, path.Clean(filepath.ToSlash(r.New.Path)))
		}
	}
	return m, nil
}

// parseGoWork reads a go.work.
func parseGoWork(name string, data []byte) (*goMod, error) {
	f, err := modfile.ParseWork(name, data, nil)
	if err != nil {
		return nil, modMistake(name, data, err)
	}
	m := &goMod{Version: goVersion(f.Go, f.Toolchain)}
	for _, u := range f.Use {
		m.Use = append(m.Use, path.Clean(filepath.ToSlash(u.Path)))
	}
	return m, nil
}

func modMistake(name string, data []byte, err error) error {
	var list modfile.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return mistake(name, list[0].Pos.Line, list[0].Pos.LineRune, data, "%w", list[0].Err)
	}
	return mistake(name, 0, 0, data, "%w", err)
}

// goVersion gives the version that a module asks for: of go 1.24 and toolchain go1.25.1 the latter.
func goVersion(g *modfile.Go, t *modfile.Toolchain) string {
	var v version
	if g != nil {
		v, _, _ = parseVersion(g.Version)
	}
	if t != nil {
		if w, _, ok := parseVersion(strings.TrimPrefix(t.Name, "go")); ok && v.less(w) {
			v = w
		}
	}
	return v.String()
}

// goSource is what the Go files of a directory are.
type goSource struct {
	main bool // they are a program
	cgo  bool // they need a C compiler
}

// goDirs looks at all Go packages of the project that Linux builds. Other modules below it are left
// out unless they are among the modules.
func (p *project) goDirs(modules []string) map[string]goSource {
	ctx := &build.Context{
		GOOS: "linux", GOARCH: "amd64", Compiler: "gc", CgoEnabled: true, ReleaseTags: build.Default.ReleaseTags,
		JoinPath: path.Join, SplitPathList: filepath.SplitList, IsAbsPath: path.IsAbs,
		IsDir: p.dir, HasSubdir: func(string, string) (string, bool) { return "", false },
		ReadDir:  p.infos,
		OpenFile: func(name string) (io.ReadCloser, error) { return p.fs.Open(path.Clean(name)) },
	}
	found := map[string]goSource{}
	looked := map[string]bool{}
	p.walk(".", func(name string) {
		dir := path.Dir(name)
		if path.Ext(name) != ".go" || looked[dir] || !p.ownModule(dir, modules) {
			return
		}
		looked[dir] = true
		pkg, err := ctx.ImportDir(dir, 0)
		var mixed *build.MultiplePackageError
		if err != nil && !errors.As(err, &mixed) {
			return // no Go file that is built here, or one that go itself will complain about
		}
		found[dir] = goSource{main: pkg.Name == "main", cgo: len(pkg.CgoFiles) > 0}
	})
	return found
}

// ownModule tells whether the nearest go.mod above a directory is one of the modules.
func (p *project) ownModule(dir string, modules []string) bool {
	for d := dir; ; d = path.Dir(d) {
		if p.has(path.Join(d, "go.mod")) {
			return slices.Contains(modules, d)
		}
		if d == "." {
			return slices.Contains(modules, ".")
		}
	}
}

func (p *project) infos(dir string) ([]fs.FileInfo, error) {
	entries, err := fs.ReadDir(p.fs, path.Clean(dir))
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it has gone meanwhile
			infos = append(infos, info)
		}
	}
	return infos, nil
}
