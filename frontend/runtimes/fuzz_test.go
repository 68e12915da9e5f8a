package runtimes

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/graph"
)

// seeds gives the files of testdata that have one of the names.
func seeds(f *testing.F, names ...string) {
	for _, s := range shapes(f) {
		for name, file := range s.project {
			for _, n := range names {
				if strings.HasSuffix("/"+name, "/"+n) {
					f.Add(file.Data)
				}
			}
		}
	}
}

// checkMistake fails if an error does not point into the file.
func checkMistake(t *testing.T, err error, file string, data []byte) {
	t.Helper()
	if err == nil {
		return
	}
	var pe *graph.PosError
	if !errors.As(err, &pe) || pe.Pos.File != file || pe.Pos.Line > 1+strings.Count(string(data), "\n") {
		t.Errorf("got %#v, want a place in %s", err, file)
	}
}

// checkFile detects and renders a project that consists of the file: whatever the file says, what
// comes out is a Dockerfile with exactly the instructions of the template's kind.
func checkFile(t *testing.T, file string, data []byte, beside map[string]string) {
	t.Helper()
	dir := fstest.MapFS{file: {Data: data}}
	for name, text := range beside {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	d, err := Detect(dir)
	if err != nil {
		return
	}
	for _, format := range []Format{Dockerfile, ZImagefile} {
		text, err := Init(d.Runtime, dir, format)
		if err != nil || format == ZImagefile {
			continue
		}
		ast, err := parser.Parse(strings.NewReader(string(text)))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for _, n := range ast.AST.Children {
			if !strings.Contains(" ARG FROM ENV WORKDIR COPY RUN USER CMD ", " "+n.Value+" ") {
				t.Fatalf("the project could add the instruction %q to\n%s", n.Value, text)
			}
		}
	}
}

func FuzzPackageJSON(f *testing.F) {
	seeds(f, "package.json")
	f.Add([]byte(`{"name":"a\nRUN x","main":"\nRUN x","scripts":{"start":"a\nb","build":"\n"},"workspaces":{"packages":["[",1]},"engines":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parsePackageJSON("package.json", data)
		checkMistake(t, err, "package.json", data)
		checkFile(t, "package.json", data, map[string]string{"a/package.json": "{}"})
	})
}

func FuzzDenoJSON(f *testing.F) {
	seeds(f, "deno.json", "deno.jsonc")
	f.Add([]byte("{\"a\": \"/*\", // \"\n \"tasks\": {\"start\": \"deno run \\n\"}, /* */}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parseDenoJSON("deno.jsonc", data)
		checkMistake(t, err, "deno.jsonc", data)
		if again := plainJSON(plainJSON(data)); len(again) != len(data) {
			t.Errorf("got %d bytes, want %d", len(again), len(data))
		}
		checkFile(t, "deno.jsonc", data, nil)
	})
}

func FuzzPyproject(f *testing.F) {
	seeds(f, "pyproject.toml")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parsePyproject("pyproject.toml", data)
		checkMistake(t, err, "pyproject.toml", data)
		checkFile(t, "pyproject.toml", data, nil)
	})
}

func FuzzRequirements(f *testing.F) {
	seeds(f, "requirements.txt")
	f.Add([]byte("-r requirements.txt\n-r ../x\n-e git+https://example.com/x\n--requirement=a b.txt\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFile(t, "requirements.txt", data, map[string]string{"a b.txt": ""})
	})
}

func FuzzCargoTOML(f *testing.F) {
	seeds(f, "Cargo.toml")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parseCargoTOML("Cargo.toml", data)
		checkMistake(t, err, "Cargo.toml", data)
		checkFile(t, "Cargo.toml", data, map[string]string{"src/main.rs": "", "a/Cargo.toml": "[package]\nname = 'a'"})
	})
}

func FuzzGoMod(f *testing.F) {
	seeds(f, "go.mod", "go.work")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parseGoMod("go.mod", data)
		checkMistake(t, err, "go.mod", data)
		_, err = parseGoWork("go.work", data)
		checkMistake(t, err, "go.work", data)
		checkFile(t, "go.mod", data, map[string]string{"main.go": "package main"})
		checkFile(t, "go.work", data, map[string]string{"go.mod": "module x", "main.go": "package main"})
	})
}

func FuzzVersionRange(f *testing.F) {
	for _, s := range []string{">=3.9,<4", "^20 || 22.x", "18 - 20", "!=3.12.*", "~= 3.11", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, language := range []string{"node", "python"} {
			if h := rangeHint(s, "x", defaultVersion(language), language); h.version != "" {
				if v, rest, ok := parseVersion(h.version); !ok || rest != "" || v.String() != h.version {
					t.Errorf("got version %q", h.version)
				}
			}
		}
	})
}
