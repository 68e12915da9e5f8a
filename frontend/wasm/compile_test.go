package wasm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/graph"
)

var update = flag.Bool("update", false, "rewrite golden files")

// tree is a project: path to content.
type tree map[string]string

func (t tree) fs() fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range t {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

func text(v string) Text { return Text{Value: v} }

const greeterWIT = "package demo:greet@0.1.0;\n\nworld greeter {\n  import wasi:cli/stdout@0.2.0;\n  import acme:log/log;\n  export greet: func(name: string) -> string;\n}\n"

var compileCases = []struct {
	name     string
	project  tree
	settings Settings
	options  Options
}{
	{name: "go", project: tree{"go.mod": "module x\n", "main.go": "package main\n"}},
	{name: "go-files", project: tree{"main.go": "package main\n", "main_test.go": "package main\n", "b.go": "package main\n"}},
	{
		name: "go-everything", project: tree{"go.mod": "module x\n", "cmd/a/main.go": "package main\n", "cmd/b/main.go": "//go:build !wasip1\n\npackage main\n"},
		settings: Settings{
			Pos: graph.Pos{Line: 1}, Language: text("go"), Target: text("preview1"), Optimize: true, OptLevel: text("Os"),
			Output: text("dist/app.wasm"), Features: []Text{text("a"), text("b")}, Image: text("golang:1.26"),
			Env:       []Variable{{"A", "it's"}, {"B", "$x"}},
			PreBuild:  []Command{{Shell: "go generate ./...", Pos: graph.Pos{Line: 7}}, {Exec: []string{"echo", "a b"}}},
			PostBuild: []Command{{Shell: "cat <<EOF\nx\nEOF"}, {Shell: "[ -f a ]"}},
		},
		options: Options{Exclude: []string{"ZImagefile"}, Entrypoint: true},
	},
	{name: "go-preview2", project: tree{"go.mod": "module x\n", "main.go": "package main\n"}, settings: Settings{Adapter: text("command")}},
	{name: "tinygo", project: tree{"go.mod": "module x\n", "main.go": "package main\n", "wit/w.wit": greeterWIT}, settings: Settings{Target: text("preview2"), Optimize: true, Features: []Text{text("t")}}},
	{name: "tinygo-preview1", project: tree{"go.mod": "module x\n", "main.go": "package main\n"}, settings: Settings{Language: text("tinygo"), Target: text("preview1"), Optimize: true, OptLevel: text("O3")}},
	{name: "rust", project: tree{"Cargo.toml": "[package]\nname = \"my-app\"\n"}},
	{
		name: "rust-everything", project: tree{"Cargo.toml": "[package]\nname = \"my-app\"\n[[bin]]\nname = \"tool\"\n", "Cargo.lock": "", "in/w.wit": greeterWIT},
		settings: Settings{Optimize: true, OptLevel: text("O2"), Features: []Text{text("x"), text("y")}, WIT: text("./in"), World: text("greeter")},
	},
	{name: "rust-preview1", project: tree{"Cargo.toml": "[package]\nname = \"my-app\"\n"}, settings: Settings{Target: text("preview1")}},
	{
		name: "rust-adapter", project: tree{"Cargo.toml": "[workspace]\n", "adapters/my.wasm": "x"},
		settings: Settings{Adapter: text("adapters/my.wasm"), Optimize: true},
	},
	{name: "rust-component", project: tree{"Cargo.toml": "[package]\nname = \"c\"\n[package.metadata.component]\n", "wit/w.wit": greeterWIT}},
	{name: "python", project: tree{"requirements.txt": "x\n", "src/app.py": "", "wit/w.wit": greeterWIT}, settings: Settings{Optimize: true, Features: []Text{text("f")}}},
	{name: "typescript", project: tree{"package.json": `{}`, "src/index.ts": "", "wit/w.wit": greeterWIT}},
	{
		name: "javascript-build", project: tree{"package.json": `{"main":"dist/x.js","scripts":{"build":"tsc"},"dependencies":{"a":"1"}}`, "package-lock.json": "", "wit/w.wit": greeterWIT},
		settings: Settings{World: text("demo:greet/greeter")},
	},
	{name: "assemblyscript", project: tree{"package.json": `{"devDependencies":{"assemblyscript":"*"}}`, "assembly/index.ts": ""}},
	{name: "assemblyscript-config", project: tree{"asconfig.json": `{"entries":["a.ts"]}`}, settings: Settings{Optimize: true, OptLevel: text("O"), Target: text("preview2"), Features: []Text{text("simd")}}},
	{name: "c-scanned", project: tree{"main.c": ""}, settings: Settings{Output: text("out/x.wasm")}, options: Options{Scan: true}},
	{name: "c", project: tree{"main.c": "", "src/a.c": "", "src/deep/b.c": "", "include/a.h": ""}},
	{name: "c-everything", project: tree{"src/main.c": ""}, settings: Settings{Optimize: true, OptLevel: text("O"), Features: []Text{text("X=1")}, Target: text("preview2")}},
	{name: "zig", project: tree{"build.zig": ""}, settings: Settings{Optimize: true, OptLevel: text("O3"), Features: []Text{text("log=true")}}},
}

// TestCompile holds the Dockerfiles of builds against golden files, and has BuildKit parse them.
func TestCompile(t *testing.T) {
	for _, c := range compileCases {
		t.Run(c.name, func(t *testing.T) {
			b, err := Compile(c.settings, c.project.fs(), c.options)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(b.Dockerfile, []byte("\n")); n != len(b.Lines) {
				t.Errorf("%d lines have %d positions", n, len(b.Lines))
			}
			ast, err := parser.Parse(bytes.NewReader(b.Dockerfile))
			if err != nil {
				t.Fatalf("%v\n%s", err, b.Dockerfile)
			}
			stages, _, err := instructions.Parse(ast.AST, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, b.Dockerfile)
			}
			if last := stages[len(stages)-1]; last.BaseName != "scratch" {
				t.Errorf("the last stage is based on %s", last.BaseName)
			}
			var out strings.Builder
			fmt.Fprintf(&out, "# language %s, target %s, file %s\n", b.Language, b.Target, b.File)
			if b.World != nil {
				fmt.Fprintf(&out, "# world %s exports %s\n", b.World.Name, b.World.Exports)
			}
			for _, w := range b.Warnings {
				fmt.Fprintf(&out, "# warning: %v\n", w.Err)
			}
			out.Write(b.Dockerfile)
			golden(t, filepath.Join("testdata", "compile", c.name+".Dockerfile"), out.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestCompilePositions: what fails is shown where it was written.
func TestCompilePositions(t *testing.T) {
	c := compileCases[2]
	b, err := Compile(c.settings, c.project.fs(), c.options)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b.Dockerfile), "\n") {
		want := 1
		switch {
		case strings.Contains(line, "go generate"):
			want = 7
		case !strings.Contains(line, "go build"):
			continue
		}
		if b.Lines[i].Line != want {
			t.Errorf("%q comes from line %d, want %d", line, b.Lines[i].Line, want)
		}
	}
}

// TestCompileTwice: what a build leaves in the context changes nothing for the next one.
func TestCompileTwice(t *testing.T) {
	for _, output := range []string{"app.wasm", "out/app.wasm", "a/b/app.wasm", "src/app.wasm", "src/deep/app.wasm"} {
		project := tree{"main.c": "", "src/x.c": ""}
		first, err := Compile(Settings{Output: text(output)}, project.fs(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		project[output] = "wasm"
		second, err := Compile(Settings{Output: text(output)}, project.fs(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first.Dockerfile), string(second.Dockerfile)); diff != "" {
			t.Errorf("%s (-first +second):\n%s", output, diff)
		}
	}
}

func TestCompileMistakes(t *testing.T) {
	at := func(v string, line int) Text { return Text{Value: v, Pos: graph.Pos{File: "Z", Line: line}} }
	goProject := tree{"go.mod": "module x\n", "main.go": "package main\n"}
	for _, c := range []struct {
		name     string
		project  tree
		settings Settings
		want     string
	}{
		{"no language", tree{"README": ""}, Settings{Pos: graph.Pos{File: "Z", Line: 1}}, "Z:1: nothing here says which language"},
		{"unknown language", tree{}, Settings{Language: at("cobol", 3)}, `Z:3: unknown language "cobol"`},
		{"unknown target", goProject, Settings{Target: at("preview3", 2)}, `Z:2: unknown target "preview3"`},
		{"unknown level", goProject, Settings{OptLevel: at("O9", 4)}, `Z:4: unknown opt_level "O9"`},
		{"adapter for a module", goProject, Settings{Target: text("preview1"), Adapter: at("command", 5)}, "Z:5: an adapter makes a component"},
		{"module of python", tree{"app.py": "", "setup.py": ""}, Settings{Target: at("preview1", 2)}, "Z:2: python makes components"},
		{"adapter for python", tree{"app.py": "", "setup.py": ""}, Settings{Adapter: at("command", 2)}, "Z:2: python makes components: an adapter has nothing to do"},
		{"python without wit", tree{"app.py": "", "setup.py": ""}, Settings{}, "components of Python need WIT files"},
		{"python without program", tree{"setup.py": "", "wit/w.wit": greeterWIT}, Settings{}, "the program is not found: call it app.py"},
		{"wit not there", goProject, Settings{WIT: at("no", 2)}, "Z:2: wit no does not exist"},
		{"wit outside", goProject, Settings{WIT: at("../wit", 2)}, "Z:2: wit ../wit is outside of the build context"},
		{"output outside", goProject, Settings{Output: at("/a/b.wasm", 2)}, "Z:2: output /a/b.wasm is outside of the build context"},
		{"output odd", goProject, Settings{Output: at("a b.wasm", 2)}, "Z:2: output \"a b.wasm\" has characters"},
		{"adapter not there", goProject, Settings{Adapter: at("a.wasm", 2)}, "Z:2: adapter a.wasm does not exist"},
		{"world of a module", goProject, Settings{Target: text("preview1"), World: at("zlayer-plugin", 2)}, "Z:2: a world is one of components"},
		{"unknown world", goProject, Settings{World: at("mine", 2)}, "Z:2: there is no world mine: there are no WIT files"},
		{"world not in wit", tree{"go.mod": "", "main.go": "package main\n", "wit/w.wit": greeterWIT}, Settings{World: at("mine", 2)}, "Z:2: there is no world mine: there are greeter"},
		{"bad wit", tree{"go.mod": "", "main.go": "package main\n", "wit/w.wit": "package a:b;\nwurld x {}\n"}, Settings{}, "wit/w.wit:2:1: unexpected \"wurld\""},
		{"bad cargo", tree{"Cargo.toml": "[package]\nname =\n"}, Settings{}, "Cargo.toml:2"},
		{"bad package.json", tree{"package.json": "{\n\n!"}, Settings{}, "package.json:3"},
		{"two programs", tree{"go.mod": "", "cmd/a/a.go": "package main\n", "cmd/b/b.go": "package main\n"}, Settings{}, "there are several programs (./cmd/a, ./cmd/b)"},
		{"no program", tree{"go.mod": "", "x.go": "package x\n"}, Settings{}, "there is no package main"},
		{"image", goProject, Settings{Image: at("a b", 9)}, `Z:9: image "a b" is no image`},
		{"no C", tree{"a.h": ""}, Settings{}, "there are no C sources"},
		{"no AssemblyScript", tree{"asconfig.json": "{}"}, Settings{}, "the program is not found: call it assembly/index.ts"},
		{"no JavaScript", tree{"package.json": "{}", "wit/w.wit": greeterWIT}, Settings{}, "the program is not found: set main in package.json"},
		{"two mistakes", goProject, Settings{Adapter: at("a.wasm", 2), WIT: at("no", 3)}, "Z:3: wit no does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.settings, c.project.fs(), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var pe *graph.PosError
			if strings.HasPrefix(c.want, "Z:") && !errors.As(err, &pe) {
				t.Errorf("%v has no position", err)
			}
		})
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		project tree
		want    Language
	}{
		{tree{"Cargo.toml": "[package]\nname=\"x\"\n[dependencies]\nwit-bindgen = \"0.30\"\n"}, Rust},
		{tree{"Cargo.toml": "[package]\nname=\"x\"\n[package.metadata.component]\npackage=\"a:b\"\n"}, RustComponent},
		{tree{"Cargo.toml": "[package]\nname=\"x\"\n[package.metadata.component]\n"}, RustComponent},
		{tree{"Cargo.toml": "[package]\nname=\"x\"\n[package.metadata.component.target]\npath=\"wit\"\n"}, RustComponent},
		{tree{"Cargo.toml": "# [package.metadata.component]\n[package]\nname=\"x\"\n"}, Rust},
		{tree{"Cargo.toml": "", "cargo-component.toml": ""}, RustComponent},
		{tree{"Cargo.toml": "[dependencies]\nwit-bindgen-rt = { version = \"0.30\" }\n"}, RustComponent},
		{tree{"go.mod": "", "package.json": "{}"}, Go},
		{tree{"main.go": "package main\n"}, Go},
		{tree{"main_test.go": "package main\n", "x.c": ""}, C},
		{tree{"requirements.txt": ""}, Python},
		{tree{"componentize-py.config": ""}, Python},
		{tree{"package.json": `{"scripts":{"b":"npm run x && asc a.ts"}}`}, AssemblyScript},
		{tree{"package.json": `{"scripts":{"b":"basc x"}}`}, TypeScript},
		{tree{"package.json": `{}`, "asconfig.json": ""}, AssemblyScript},
		{tree{"build.zig": "", "src/x.c": ""}, Zig},
		{tree{"src/x.h": ""}, C},
	} {
		if got, err := Detect(c.project.fs()); err != nil || got != c.want {
			t.Errorf("%v: got %s, %v, want %s", c.project, got, err, c.want)
		}
	}
}
