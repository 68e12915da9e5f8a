package runtimes

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/template"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

//go:embed templates/*.tmpl
var templateFiles embed.FS

// Template is a runtime's template, rendered for a project.
type Template struct {
	// Dockerfile is the text. It has no syntax line and keeps the default escape character.
	Dockerfile []byte
	// OS is what the image is for: linux or windows.
	OS string
	// Version is the version of the language that it builds with, unless a build argument says
	// otherwise; "" for templates that have none.
	Version string
	// Notes are sentences on what the user should know or decide: a missing lock file, a command
	// that had to be guessed, a version that was asked for and is not used.
	Notes []string
}

// ErrWASM says that a runtime is built by the WASM frontend and has no template.
var ErrWASM = errors.New("WebAssembly is not built from a template: write a ZImagefile with a wasm section")

// Render renders the template of a runtime for the project in a directory. The text depends on the
// manifests, lock files and file names of the project only, and always builds from its root. It
// returns ErrWASM for WebAssembly, a graph.PosError for a manifest that cannot be read, and an error
// that says what is missing where the project has no program of the language.
func Render(r Runtime, dir fs.FS) (*Template, error) {
	t, err := render(r, dir)
	if err != nil {
		return nil, fmt.Errorf("preparing runtime %s: %w", r.Name, err)
	}
	return t, nil
}

func render(r Runtime, dir fs.FS) (*Template, error) {
	if r.WASM != NotWASM {
		return nil, ErrWASM
	}
	c := &common{project: &project{fs: dir}, Runtime: r}
	if err := c.chooseVersion(); err != nil {
		return nil, err
	}
	name, data, err := c.model()
	if err != nil {
		return nil, err
	}
	text, err := execute(name, data)
	if err != nil {
		return nil, err
	}
	return &Template{Dockerfile: text, OS: r.OS, Version: c.Version, Notes: c.notes}, nil
}

// model looks at the project and gives the template's name and what it is executed with.
func (c *common) model() (string, any, error) {
	var data any
	var err error
	name := c.Runtime.Language
	switch c.Runtime.Language {
	case "node", "bun":
		name = "javascript"
		data, err = c.javascript()
	case "python":
		data, err = c.python()
	case "go":
		data, err = c.golang()
	case "rust":
		data, err = c.rust()
	case "deno":
		data, err = c.deno()
	case "static":
		data, err = c.static()
		if js, ok := data.(*javascript); ok && err == nil {
			return "javascript", js, nil
		}
	case "nanoserver", "servercore":
		name = "windows"
		data, err = c.windows()
	default:
		err = fmt.Errorf("there is no template for the language %q: take a runtime of Get or Detect", c.Runtime.Language)
	}
	return name, data, err
}

// common is what all templates are executed with.
type common struct {
	*project
	Runtime Runtime
	// Version is the default of the version argument, VersionFrom where it comes from ("" if it is
	// just the default).
	Version, VersionFrom string
	// Cmd is the command of the image.
	Cmd   []string
	notes []string
}

// note says something to the user.
func (c *common) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// chooseVersion settles the version of the language: the release line of the runtime, more exactly
// if the project has a version of that line, or what the project asks for if the runtime has no
// lines.
func (c *common) chooseVersion() error {
	language := c.Runtime.Language
	c.Version = c.Runtime.Version
	if language == "static" {
		language = "node"
	}
	if c.Version == "" {
		c.Version = defaultVersion(language)
	}
	h, err := c.versionHint(language)
	if err != nil || h.version == "" {
		return err
	}
	v, _, ok := parseVersion(h.version)
	line, _, _ := parseVersion(c.Runtime.Version)
	switch {
	case language == "go": // newer ones build older modules, and get fixes
		def, _, _ := parseVersion(defaultGo)
		if def.less(v.cut(2)) {
			c.Version, c.VersionFrom = v.cut(2).String(), h.from
		}
	case c.Runtime.Version == "", ok && v.within(line):
		c.Version, c.VersionFrom = h.version, h.from
	case ok && !line.within(v):
		c.note("%s asks for version %s, %s is version %s: name another runtime, or leave the choice to --runtime-auto", h.from, h.version, c.Runtime.Name, c.Runtime.Version)
	}
	return nil
}

// execute runs a template and tidies up its result.
func execute(name string, data any) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{
		"exec": execForm, "words": func(w ...string) []string { return w }, "join": strings.Join,
		"copyLine": copyLine,
	}).ParseFS(templateFiles, "templates/*.tmpl")
	if err != nil {
		panic("runtimes: " + err.Error()) // the templates are part of the program
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, name+".tmpl", data); err != nil {
		panic("runtimes: " + err.Error())
	}
	text := emptyLines().ReplaceAll(out.Bytes(), []byte("\n\n"))
	return append(bytes.TrimSpace(text), '\n'), nil
}

var emptyLines = lazyregexp.New(`\n{3,}`)

// execForm writes a command as a list.
func execForm(words []string) (string, error) {
	var out strings.Builder
	out.WriteByte('[')
	for i, w := range words {
		if i > 0 {
			out.WriteString(", ")
		}
		var word bytes.Buffer
		enc := json.NewEncoder(&word)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(w); err != nil {
			return "", err
		}
		out.WriteString(strings.TrimSpace(word.String()))
	}
	out.WriteByte(']')
	return out.String(), nil
}

// copyLine writes an instruction that copies files of the project to where they are in it.
func copyLine(files []string, to string) (string, error) {
	return "COPY " + strings.Join(files, " ") + " " + to, plain(files...)
}
