package runtimes

import (
	"bufio"
	"strings"
)

// hint is a version that a project asks for.
type hint struct {
	version string // 22.11.0, or a release line such as 22
	from    string // the file, and the field of it
	allowed bool   // it was chosen from what the project allows
}

// versionHint finds the version of the language that the project asks for. Without one it gives the
// zero hint.
func (p *project) versionHint(language string) (hint, error) {
	switch language {
	case "node":
		return p.nodeHint()
	case "python":
		return p.pythonHint()
	case "go":
		return p.goHint()
	case "rust":
		return p.rustHint()
	case "deno":
		return p.pinned("deno", ".deno-version", ".dvmrc"), nil
	case "bun":
		return p.bunHint()
	}
	return hint{}, nil
}

// pinned reads files that hold nothing but a version, and .tool-versions.
func (p *project) pinned(tool string, files ...string) hint {
	for _, f := range files {
		for word := range strings.FieldsSeq(p.text(f)) {
			if v, rest, ok := parseVersion(word); ok && rest == "" {
				return hint{version: v.String(), from: f}
			}
			break // the first word counts
		}
	}
	lines := bufio.NewScanner(strings.NewReader(p.text(".tool-versions")))
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) > 1 && w[0] == tool {
			if v, rest, ok := parseVersion(w[1]); ok && rest == "" {
				return hint{version: v.String(), from: ".tool-versions"}
			}
		}
	}
	return hint{}
}

// nodeLTS are the names that .nvmrc may give to release lines.
func nodeLTS(name string) string {
	return map[string]string{
		"lts/hydrogen": "18", "lts/iron": "20", "lts/jod": "22", "lts/krypton": "24",
	}[strings.ToLower(name)]
}

func (p *project) nodeHint() (hint, error) {
	for _, f := range []string{".nvmrc", ".node-version"} {
		if line := nodeLTS(strings.TrimSpace(p.text(f))); line != "" {
			return hint{version: line, from: f}, nil
		}
	}
	if h := p.pinned("nodejs", ".nvmrc", ".node-version"); h.version != "" {
		return h, nil
	}
	pkg, err := p.packageJSON()
	if pkg == nil || err != nil {
		return hint{}, err
	}
	if v, rest, ok := parseVersion(pkg.Volta["node"]); ok && rest == "" {
		return hint{version: v.String(), from: "volta of package.json"}, nil
	}
	return rangeHint(pkg.Engines["node"], "engines of package.json", defaultNode, "node"), nil
}

// rangeHint chooses a release line out of a range of versions.
func rangeHint(text, from, preferred, language string) hint {
	if strings.TrimSpace(text) == "" {
		return hint{}
	}
	r, ok := parseRange(text)
	if !ok {
		return hint{}
	}
	line := r.line(preferred, ofLanguage(language))
	if line == "" {
		return hint{}
	}
	return hint{line, from, true}
}

func (p *project) pythonHint() (hint, error) {
	if h := p.pinned("python", ".python-version"); h.version != "" {
		return h, nil
	}
	if v, rest, ok := parseVersion(strings.TrimPrefix(strings.TrimSpace(p.text("runtime.txt")), "python-")); ok && rest == "" {
		return hint{version: v.String(), from: "runtime.txt"}, nil
	}
	py, err := p.pyproject()
	if err != nil {
		return hint{}, err
	}
	if py != nil && py.RequiresPython != "" {
		return rangeHint(py.RequiresPython, "pyproject.toml", defaultPython, "python"), nil
	}
	if v, rest, ok := parseVersion(pipfilePython([]byte(p.text("Pipfile")))); ok && rest == "" {
		return hint{version: v.String(), from: "Pipfile"}, nil
	}
	return hint{}, nil
}

func (p *project) goHint() (hint, error) {
	for _, f := range []struct {
		name  string
		parse func(string, []byte) (*goMod, error)
	}{{"go.work", parseGoWork}, {"go.mod", parseGoMod}} {
		data, err := p.read(f.name)
		if err != nil {
			return hint{}, err
		}
		if data == nil {
			continue
		}
		m, err := f.parse(f.name, data)
		if err != nil {
			return hint{}, err
		}
		if m.Version != "" {
			return hint{version: m.Version, from: f.name}, nil
		}
	}
	return hint{}, nil
}

func (p *project) rustHint() (hint, error) {
	for _, f := range []string{"rust-toolchain.toml", "rust-toolchain"} {
		data, err := p.read(f)
		if err != nil {
			return hint{}, err
		}
		channel := strings.TrimSpace(string(data))
		if raw, err := parseTOML(f, data); err == nil && raw["toolchain"] != nil {
			channel = raw.table("toolchain").text("channel")
		} else if err != nil && f == "rust-toolchain.toml" {
			return hint{}, err
		}
		if strings.HasPrefix(channel, "nightly") {
			return hint{version: "nightly", from: f}, nil
		}
		if v, rest, ok := parseVersion(channel); ok && rest == "" {
			return hint{version: v.String(), from: f}, nil
		}
	}
	return hint{}, nil
}

func (p *project) bunHint() (hint, error) {
	if h := p.pinned("bun", ".bun-version"); h.version != "" {
		return h, nil
	}
	pkg, err := p.packageJSON()
	if pkg == nil || err != nil {
		return hint{}, err
	}
	if name, v := pkg.manager(); name == "bun" && v != "" {
		return hint{version: v, from: "packageManager of package.json"}, nil
	}
	return hint{}, nil
}

// packageJSON reads the project's package.json, nil if there is none.
func (p *project) packageJSON() (*packageJSON, error) {
	data, err := p.read("package.json")
	if data == nil || err != nil {
		return nil, err
	}
	return parsePackageJSON("package.json", data)
}

// pyproject reads the project's pyproject.toml, nil if there is none.
func (p *project) pyproject() (*pyproject, error) {
	data, err := p.read("pyproject.toml")
	if data == nil || err != nil {
		return nil, err
	}
	return parsePyproject("pyproject.toml", data)
}

// cargoTOML reads a Cargo.toml, nil if there is none.
func (p *project) cargoTOML(name string) (*cargoTOML, error) {
	data, err := p.read(name)
	if data == nil || err != nil {
		return nil, err
	}
	return parseCargoTOML(name, data)
}
