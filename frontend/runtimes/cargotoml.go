package runtimes

import (
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// cargoTOML is what matters of a Cargo.toml.
type cargoTOML struct {
	Name       string // of the package, "" for a workspace alone
	DefaultRun string
	NoAutoBins bool
	Bins       []cargoBin // those that the file lists
	Workspace  bool
	Members    []string
	Exclude    []string
	// Component is set by the section of cargo-component.
	Component bool
}

// cargoBin is a program of a package.
type cargoBin struct {
	Name, Path string
	Optional   bool // it is built with certain features only
}

// parseCargoTOML reads a Cargo.toml. Values of a wrong kind count as absent.
func parseCargoTOML(name string, data []byte) (*cargoTOML, error) {
	raw, err := parseTOML(name, data)
	if err != nil {
		return nil, err
	}
	pkg := raw.table("package")
	c := &cargoTOML{Name: pkg.text("name"), DefaultRun: pkg.text("default-run"), Workspace: raw["workspace"] != nil}
	if auto, ok := pkg["autobins"].(bool); ok {
		c.NoAutoBins = !auto
	}
	_, c.Component = pkg.table("metadata")["component"]
	c.Members = raw.table("workspace").texts("members")
	c.Exclude = raw.table("workspace").texts("exclude")
	for _, b := range raw.tables("bin") {
		c.Bins = append(c.Bins, cargoBin{
			Name: b.text("name"), Path: b.text("path"), Optional: len(b.texts("required-features")) > 0,
		})
	}
	return c, nil
}

// crateName is what cargo accepts as the name of a program, with some reserve.
var crateName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// bins gives the names of the programs of the package in dir, as cargo would find them.
func (c *cargoTOML) bins(p *project, dir string) []string {
	var names, listed []string
	for _, b := range c.Bins {
		listed = append(listed, b.Name)
		if !b.Optional {
			names = append(names, b.Name)
		}
	}
	if !c.NoAutoBins && c.Name != "" {
		if p.has(path.Join(dir, "src/main.rs")) && !c.lists("src/main.rs") {
			names = append(names, c.Name)
		}
		for _, e := range p.list(path.Join(dir, "src/bin")) {
			n, isFile := strings.CutSuffix(e.Name(), ".rs")
			if isFile && !c.lists("src/bin/"+e.Name()) || e.IsDir() && p.has(path.Join(dir, "src/bin", n, "main.rs")) {
				names = append(names, n)
			}
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		optional := slices.Contains(listed, n) && !slices.ContainsFunc(c.Bins, func(b cargoBin) bool { return b.Name == n && !b.Optional })
		return optional || !crateName().MatchString(n)
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// lists tells whether a file is the source of a listed program, so that it is none by itself.
func (c *cargoTOML) lists(file string) bool {
	return slices.ContainsFunc(c.Bins, func(b cargoBin) bool { return path.Clean(b.Path) == file })
}
