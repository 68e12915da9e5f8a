package wasm

import (
	"errors"
	"go/build/constraint"
	"io/fs"
	"strings"

	"encoding/json"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// ErrNoLanguage says that nothing in a directory tells the language. What is to be done about it
// depends on where the language could have been said.
var ErrNoLanguage = errors.New("nothing here says which language this is (looked for Cargo.toml, go.mod, *.go, pyproject.toml, requirements.txt, setup.py, componentize-py.config, package.json, asconfig.json, build.zig and *.c)")

// Detect tells the language of a project by the files at its top.
func Detect(dir fs.FS) (Language, error) {
	p := project{dir}
	switch {
	case p.has("Cargo.toml"):
		c, err := p.cargo()
		if err != nil {
			return "", err
		}
		if c.component() || p.has("cargo-component.toml") {
			return RustComponent, nil
		}
		return Rust, nil
	case p.has("go.mod"), len(p.goFiles(".")) > 0:
		return Go, nil
	case p.first("pyproject.toml", "requirements.txt", "setup.py", "componentize-py.config") != "":
		return Python, nil
	case p.has("package.json"):
		j, err := p.packageJSON()
		if err != nil {
			return "", err
		}
		if j.assemblyScript() || p.has("asconfig.json") {
			return AssemblyScript, nil
		}
		return TypeScript, nil
	case p.has("asconfig.json"):
		return AssemblyScript, nil
	case p.has("build.zig"):
		return Zig, nil
	case len(p.files(".", ".c", ".h"))+len(p.files("src", ".c", ".h")) > 0:
		return C, nil
	}
	return "", ErrNoLanguage
}

// cargoManifest is what matters of a Cargo.toml.
type cargoManifest struct {
	Package *struct {
		Name       string `toml:"name"`
		DefaultRun string `toml:"default-run"`
		Metadata   struct {
			Component any `toml:"component"`
		} `toml:"metadata"`
	} `toml:"package"`
	Lib *struct {
		Name string `toml:"name"`
	} `toml:"lib"`
	Bin []struct {
		Name string `toml:"name"`
	} `toml:"bin"`
	Dependencies map[string]any `toml:"dependencies"`
}

func (p project) cargo() (cargoManifest, error) {
	var m cargoManifest
	text, err := p.read("Cargo.toml")
	if err != nil {
		return m, err
	}
	if err := toml.Unmarshal(text, &m); err != nil {
		pos := graph.Pos{File: "Cargo.toml"}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			pos.Line, pos.Column = de.Position()
		}
		return m, &graph.PosError{Pos: pos, Err: err, Source: text}
	}
	return m, nil
}

// component tells whether the crate is for cargo-component. A dependency on wit-bindgen alone does
// not: rustc makes components of such crates itself.
func (m cargoManifest) component() bool {
	if m.Package != nil && m.Package.Metadata.Component != nil {
		return true
	}
	_, bindings := m.Dependencies["cargo-component-bindings"]
	_, runtime := m.Dependencies["wit-bindgen-rt"]
	return bindings || runtime
}

// preferred is the artifact to take where a crate has several, "" if the manifest does not say.
func (m cargoManifest) preferred() string {
	switch {
	case m.Package == nil:
		return ""
	case m.Package.DefaultRun != "":
		return m.Package.DefaultRun
	case len(m.Bin) == 1 && m.Bin[0].Name != "":
		return m.Bin[0].Name
	case m.Lib != nil && m.Lib.Name != "":
		return m.Lib.Name
	}
	return m.Package.Name
}

// packageManifest is what matters of a package.json.
type packageManifest struct {
	Main            string            `json:"main"`
	Module          string            `json:"module"`
	Type            string            `json:"type"`
	Scripts         map[string]string `json:"scripts"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
}

func (p project) packageJSON() (packageManifest, error) {
	var m packageManifest
	text, err := p.read("package.json")
	if err != nil || text == nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		pos := graph.Pos{File: "package.json", Line: 1}
		var se *json.SyntaxError
		if errors.As(err, &se) {
			pos.Line = 1 + strings.Count(string(text[:min(int(se.Offset), len(text))]), "\n")
		}
		return m, &graph.PosError{Pos: pos, Err: fmt.Errorf("reading package.json: %w", err), Source: text}
	}
	return m, nil
}

func (m packageManifest) dependsOn(name string) bool {
	_, dep := m.Dependencies[name]
	_, dev := m.DevDependencies[name]
	return dep || dev
}

var ascCommand = lazyregexp.New(`(^|[\s&;|])asc(\s|$)`)

func (m packageManifest) assemblyScript() bool {
	if m.dependsOn("assemblyscript") {
		return true
	}
	for _, s := range m.Scripts {
		if ascCommand().MatchString(s) {
			return true
		}
	}
	return false
}

// goFiles lists the Go files of a directory that a build for WASI may take: no tests.
func (p project) goFiles(dir string) []string {
	var names []string
	for _, f := range p.files(dir, ".go") {
		if !strings.HasSuffix(f, "_test.go") {
			names = append(names, f)
		}
	}
	return names
}

var goPackage = lazyregexp.New(`(?m)^package\s+(\w+)`)

// goMain tells whether a directory has a program for WASI.
func (p project) goMain(dir string) bool {
	for _, f := range p.goFiles(dir) {
		text, err := p.read(f)
		if err != nil || !goBuilt(string(text)) {
			continue
		}
		if m := goPackage().FindSubmatch(text); m != nil && string(m[1]) == "main" {
			return true
		}
	}
	return false
}

// goBuilt tells whether a file's build constraint lets it into a build for WASI.
func goBuilt(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if constraint.IsGoBuild(line) {
			x, err := constraint.Parse(line)
			return err != nil || x.Eval(func(tag string) bool {
				return tag == "wasip1" || tag == "wasm" || tag == "gc" || tag == "tinygo" || strings.HasPrefix(tag, "go1.")
			})
		}
		if strings.HasPrefix(line, "package ") {
			break
		}
	}
	return true
}
