package runtimes

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// packageJSON is what matters of a package.json. npm forgives much, so values of a wrong kind count
// as absent.
type packageJSON struct {
	Name, Main, Module, PackageManager     string
	Scripts, Engines, Volta                map[string]string
	Dependencies, DevDependencies          map[string]string
	PeerDependencies, OptionalDependencies map[string]string
	Workspaces                             []string
	hasPatches                             bool // pnpm.patchedDependencies
}

// parsePackageJSON reads a package.json (or a file in its form).
func parsePackageJSON(name string, data []byte) (*packageJSON, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, jsonMistake(name, data, err)
	}
	p := &packageJSON{
		Name: jsonText(raw["name"]), Main: jsonText(raw["main"]), Module: jsonText(raw["module"]),
		PackageManager: jsonText(raw["packageManager"]),
		Scripts:        jsonTexts(raw["scripts"]), Engines: jsonTexts(raw["engines"]), Volta: jsonTexts(raw["volta"]),
		Dependencies: jsonTexts(raw["dependencies"]), DevDependencies: jsonTexts(raw["devDependencies"]),
		PeerDependencies: jsonTexts(raw["peerDependencies"]), OptionalDependencies: jsonTexts(raw["optionalDependencies"]),
		Workspaces: jsonList(raw["workspaces"]),
	}
	var pnpm struct {
		Patched json.RawMessage `json:"patchedDependencies"`
	}
	if json.Unmarshal(raw["pnpm"], &pnpm) == nil {
		p.hasPatches = len(pnpm.Patched) > 0
	}
	return p, nil
}

// jsonMistake gives the error of the JSON decoder its place.
func jsonMistake(name string, data []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line, col := place(data, int(syntax.Offset)-1)
		return mistake(name, line, col, data, "%w", err)
	}
	return mistake(name, 1, 1, data, "the file must hold one JSON object")
}

func jsonText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func jsonTexts(raw json.RawMessage) map[string]string {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	m := map[string]string{}
	for k, v := range all {
		var s string
		if json.Unmarshal(v, &s) == nil {
			m[k] = s
		}
	}
	return m
}

// jsonList reads a list of texts, or the list called packages of an object.
func jsonList(raw json.RawMessage) []string {
	var object struct {
		Packages json.RawMessage `json:"packages"`
	}
	if json.Unmarshal(raw, &object) == nil && object.Packages != nil {
		raw = object.Packages
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return nil
	}
	var list []string
	for _, i := range items {
		if s := jsonText(i); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// depends tells whether the package asks for another one in any way.
func (p *packageJSON) depends(name string) bool {
	for _, deps := range []map[string]string{p.Dependencies, p.DevDependencies, p.PeerDependencies, p.OptionalDependencies} {
		if _, ok := deps[name]; ok {
			return true
		}
	}
	return false
}

// dependsLocally tells whether a dependency is a directory or an archive of the project.
func (p *packageJSON) dependsLocally() bool {
	for _, deps := range []map[string]string{p.Dependencies, p.DevDependencies, p.OptionalDependencies} {
		for spec := range maps.Values(deps) {
			if strings.HasPrefix(spec, "file:") || strings.HasPrefix(spec, "link:") || strings.HasPrefix(spec, "portal:") ||
				strings.HasPrefix(spec, "./") || strings.HasPrefix(spec, "../") {
				return true
			}
		}
	}
	return false
}

// manager splits the field packageManager, such as pnpm@9.12.0+sha512.abc.
func (p *packageJSON) manager() (name, version string) {
	name, version, _ = strings.Cut(p.PackageManager, "@")
	version, _, _ = strings.Cut(version, "+")
	if v, rest, ok := parseVersion(version); !ok || rest != "" {
		version = ""
	} else {
		version = v.String()
	}
	if !slices.Contains([]string{"npm", "pnpm", "yarn", "bun"}, name) {
		return "", ""
	}
	return name, version
}

// plainJSON blanks comments and trailing commas, which deno.jsonc may have. Offsets stay.
func plainJSON(data []byte) []byte {
	out := make([]byte, len(data))
	copy(out, data)
	blank := func(from, to int) {
		for i := from; i < to; i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	comma := -1 // a comma after which nothing has come yet
	for i := 0; i < len(out); {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			i = afterString(out, i)
		case c == '/' && i+1 < len(out) && out[i+1] == '/':
			end := i
			for end < len(out) && out[end] != '\n' {
				end++
			}
			blank(i, end)
			i = end
		case c == '/' && i+1 < len(out) && out[i+1] == '*':
			end := len(out)
			if n := strings.Index(string(out[i+2:]), "*/"); n >= 0 {
				end = i + 2 + n + 2
			}
			blank(i, end)
			i = end
		case c == ',':
			comma = i
			i++
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		default:
			if comma >= 0 && (c == '}' || c == ']') {
				out[comma] = ' '
			}
			comma = -1
			i++
		}
	}
	return out
}

// afterString gives the offset behind the JSON string that begins at i.
func afterString(s []byte, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// denoJSON is what matters of a deno.json.
type denoJSON struct {
	Tasks   map[string]string
	Exports []string // of the package, the one called "." first
	Members []string // of the workspace
}

// parseDenoJSON reads a deno.json or deno.jsonc.
func parseDenoJSON(name string, data []byte) (*denoJSON, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(plainJSON(data), &raw); err != nil {
		return nil, jsonMistake(name, data, err)
	}
	d := &denoJSON{Tasks: map[string]string{}, Members: jsonList(raw["workspace"])}
	var tasks map[string]json.RawMessage
	if json.Unmarshal(raw["tasks"], &tasks) == nil {
		for k, v := range tasks {
			var long struct{ Command string }
			if s := jsonText(v); s != "" {
				d.Tasks[k] = s
			} else if json.Unmarshal(v, &long) == nil && long.Command != "" {
				d.Tasks[k] = long.Command
			}
		}
	}
	if s := jsonText(raw["exports"]); s != "" {
		d.Exports = []string{s}
	} else if m := jsonTexts(raw["exports"]); m["."] != "" {
		d.Exports = []string{m["."]}
	}
	return d, nil
}
