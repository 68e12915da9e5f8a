package runtimes

import (
	"bufio"
	"bytes"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// pyproject is what matters of a pyproject.toml.
type pyproject struct {
	Name           string
	RequiresPython string
	Dependencies   []string // names, in lower case
	Scripts        []string // commands that the project installs, sorted
	BuildSystem    bool     // it can be installed
	Poetry         bool     // Poetry's own tables are there
	PackageMode    bool     // Poetry is meant to install the project itself
	UV             bool     // uv's own table is there
	UVPackage      bool     // uv is told to install the project
	UVMembers      []string // of uv's workspace
}

// parsePyproject reads a pyproject.toml. Values of a wrong kind count as absent.
func parsePyproject(name string, data []byte) (*pyproject, error) {
	raw, err := parseTOML(name, data)
	if err != nil {
		return nil, err
	}
	p := &pyproject{PackageMode: true}
	project, poetry, uv := raw.table("project"), raw.table("tool", "poetry"), raw.table("tool", "uv")
	p.BuildSystem = raw["build-system"] != nil
	p.Poetry, p.UV = poetry != nil, uv != nil
	p.Name = cmpOr(project.text("name"), poetry.text("name"))
	p.RequiresPython = cmpOr(project.text("requires-python"), poetry.table("dependencies").text("python"))
	for _, d := range project.texts("dependencies") {
		p.Dependencies = append(p.Dependencies, requirementName(d))
	}
	for d := range poetry.table("dependencies") {
		p.Dependencies = append(p.Dependencies, strings.ToLower(d))
	}
	for _, t := range []tomlTable{project.table("scripts"), poetry.table("scripts")} {
		p.Scripts = slices.AppendSeq(p.Scripts, maps.Keys(t))
	}
	slices.Sort(p.Scripts)
	p.Scripts = slices.Compact(p.Scripts)
	slices.Sort(p.Dependencies)
	if off, ok := poetry["package-mode"].(bool); ok {
		p.PackageMode = off
	}
	p.UVPackage, _ = uv["package"].(bool)
	p.UVMembers = uv.table("workspace").texts("members")
	return p, nil
}

// tomlTable is a table of a TOML file, nil if it is not there.
type tomlTable map[string]any

func parseTOML(name string, data []byte) (tomlTable, error) {
	raw := tomlTable{}
	err := toml.Unmarshal(data, &raw)
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, col := de.Position()
		return nil, mistake(name, line, col, data, "%w", err)
	}
	if err != nil {
		return nil, mistake(name, 1, 1, data, "%w", err)
	}
	return raw, nil
}

func (t tomlTable) table(keys ...string) tomlTable {
	for _, k := range keys {
		next, _ := t[k].(map[string]any)
		t = next
	}
	return t
}

func (t tomlTable) text(key string) string {
	s, _ := t[key].(string)
	return s
}

func (t tomlTable) texts(key string) []string {
	items, _ := t[key].([]any)
	var list []string
	for _, i := range items {
		if s, ok := i.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// tables gives an array of tables.
func (t tomlTable) tables(key string) []tomlTable {
	items, _ := t[key].([]any)
	var list []tomlTable
	for _, i := range items {
		if m, ok := i.(map[string]any); ok {
			list = append(list, m)
		}
	}
	return list
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var requirementWord = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*`)

// requirementName gives the name of the package that a requirement asks for, in lower case.
func requirementName(s string) string {
	return strings.ToLower(requirementWord().FindString(strings.TrimSpace(s)))
}

// requirements is what requirements files ask for.
type requirements struct {
	files []string // all files, the first one first
	names []string // packages, in lower case
	local bool     // something of the project itself is installed
}

// readRequirements reads a requirements file and those it names.
func (p *project) readRequirements(name string) (requirements, error) {
	var r requirements
	queue := []string{name}
	for len(queue) > 0 {
		file := path.Clean(queue[0])
		queue = queue[1:]
		if slices.Contains(r.files, file) || len(r.files) > 100 || strings.HasPrefix(file, "../") {
			continue
		}
		data, err := p.read(file)
		if err != nil {
			return r, err
		}
		if data == nil {
			continue // pip will say what is missing, better than we could
		}
		r.files = append(r.files, file)
		for _, inc := range r.parse(data) {
			queue = append(queue, path.Join(path.Dir(file), inc))
		}
	}
	return r, nil
}

// parse reads the lines of one file and gives the files that it includes.
func (r *requirements) parse(data []byte) (includes []string) {
	text := strings.ReplaceAll(string(data), "\\\r\n", " ")
	text = strings.ReplaceAll(text, "\\\n", " ")
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxManifest+1)
	for lines.Scan() {
		line, _, _ := strings.Cut(strings.TrimSpace(lines.Text()), " #")
		if line == "" || line[0] == '#' {
			continue
		}
		option, value := splitOption(line)
		switch option {
		case "-r", "--requirement", "-c", "--constraint":
			if value != "" && !strings.Contains(value, "://") {
				includes = append(includes, value)
			}
		case "-e", "--editable":
			r.local = r.local || !strings.Contains(value, "://")
		case "":
			if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") || strings.Contains(line, "file:") {
				r.local = true
			} else if n := requirementName(line); n != "" {
				r.names = append(r.names, n)
			}
		}
	}
	return includes
}

// splitOption splits "-r file", "-rfile" and "--requirement=file".
func splitOption(line string) (option, value string) {
	switch {
	case strings.HasPrefix(line, "--"):
		i := strings.IndexAny(line, "= \t")
		if i < 0 {
			return line, ""
		}
		return line[:i], strings.TrimSpace(line[i+1:])
	case strings.HasPrefix(line, "-") && len(line) > 1:
		return line[:2], strings.TrimSpace(line[2:])
	}
	return "", ""
}

// pipfilePython gives the version of Python that a Pipfile requires.
func pipfilePython(data []byte) string {
	raw := tomlTable{}
	if toml.Unmarshal(bytes.TrimSpace(data), &raw) != nil {
		return ""
	}
	requires := raw.table("requires")
	return cmpOr(requires.text("python_full_version"), requires.text("python_version"))
}
