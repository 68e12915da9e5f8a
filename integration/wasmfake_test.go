package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// Binaries that are as small as can be, in the notation of printf.
const (
	smallModule    = `\000asm\001\000\000\000`
	smallComponent = `\000asm\r\000\001\000\013\013\001\000\005greet\001\000\000` // exports greet
)

// fakeTools is a toolchain image whose compilers compile nothing: they write the binary $BINARY to
// where they are told (a module that does nothing, without $BINARY), after a look at how they are
// called, which $EXPECT has.
func fakeTools(programs ...string) files {
	script := `#!/bin/sh
case "$1 $2" in "--print target-list") echo wasm32-wasip1; echo wasm32-wasip2; exit ;; "component --version") exit ;; esac
name=${0##*/}
[ -z "$EXPECT" ] || [ "$name $*" = "$EXPECT" ] || { echo "called as: $name $*" >&2; echo "expected:  $EXPECT" >&2; exit 3; }
out=$FAKE_OUT BINARY=${BINARY-'` + smallModule + `'}
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
mkdir -p "${out%/*}" && printf "$BINARY" >"$out" && echo "$FAKE_SAYS"
`
	f := files{"fake.sh": script, "Dockerfile": "FROM busybox\nCOPY --chmod=755 fake.sh /bin/fake\nRUN for p in " + strings.Join(programs, " ") + "; do ln -s /bin/fake /bin/$p; done\n"}
	return f
}

// fakeBuild is a build with fake compilers.
func fakeBuild(t *testing.T, image string, tools files, project files) engine.Request {
	t.Helper()
	return engine.Request{Context: project.dir(t), BuildContexts: map[string]string{image: tools.dir(t)}}
}

const greetWIT = "package demo:greet@0.1.0;\nworld greeter { export greet: func(name: string) -> string; }\n"

// TestWasmCommands holds the commands of languages whose compilers cannot be had here against what
// they have to be, down to the argument vectors that arrive.
func TestWasmCommands(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	const rust = "docker.io/library/rust:1.91-bookworm"
	const python = "docker.io/library/python:3.13-slim-bookworm"
	messages := `{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"app"},"filenames":["/wasm/target/wasm32-wasip2/release/app.wasm"],"executable":null,"fresh":false}`
	for _, c := range []struct {
		name, image string
		programs    []string
		project     files
		wasm        string // the wasm section
		binary      string
		kind        wasm.Kind
	}{
		{
			"python", python, []string{"componentize-py", "pip"}, files{"app.py": "", "wit/world.wit": greetWIT, "setup.py": ""},
			"build_args: {EXPECT: 'componentize-py -d wit -w demo:greet/greeter@0.1.0 componentize app -p . -o /wasm/module.wasm'}", smallComponent, wasm.Component,
		},
		{
			"tinygo", "docker.io/tinygo/tinygo:0.39.0", []string{"tinygo"}, files{"go.mod": "module x\n", "main.go": "package main\n", "api/world.wit": greetWIT},
			"target: preview2\n  wit: api\n  world: greeter\n  features: [a, b]\n  build_args: {EXPECT: 'tinygo build -target=wasip2 -tags a b --wit-package ./api --wit-world greeter -o /wasm/module.wasm .'}", smallComponent, wasm.Component,
		},
		{
			"zig", python, []string{"zig"}, files{"build.zig": ""},
			"features: [x=1]\n  build_args: {EXPECT: 'zig build -Dtarget=wasm32-wasi -Dx=1 --prefix /wasm/zig --global-cache-dir /root/.cache/zig', FAKE_OUT: /wasm/zig/bin/any-name.wasm}", smallModule, wasm.Module,
		},
		{
			"rust-component", rust, []string{"cargo", "cargo-component"}, files{"Cargo.toml": "[package]\nname = \"my-app\"\n[package.metadata.component]\n", "wit/world.wit": greetWIT},
			"build_args: {EXPECT: 'cargo component build', FAKE_OUT: /wasm/target/wasm32-wasip1/debug/my_app.wasm}", smallComponent, wasm.Component,
		},
		{
			"rust-preview2", rust, []string{"cargo", "rustc"}, files{"Cargo.toml": "[package]\nname = \"app\"\n", "Cargo.lock": ""},
			"language: rust\n  build_args: {EXPECT: 'cargo build --target wasm32-wasip2 --message-format=json-render-diagnostics --locked', FAKE_OUT: /wasm/target/wasm32-wasip2/release/app.wasm, FAKE_SAYS: '" + messages + "'}", smallComponent, wasm.Component,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			project := maps.Clone(c.project)
			project["ZImagefile"] = "wasm:\n  " + strings.Replace(c.wasm, "build_args: {", `build_args: {BINARY: '`+c.binary+`', `, 1) + "\n"
			dir := t.TempDir()
			req := fakeBuild(t, c.image, fakeTools(c.programs...), project)
			req.Outputs = []engine.Output{{Type: engine.OutputLocal, Dest: dir}}
			req.WasmFormat = engine.WasmFile
			res := build(t, e, req)
			if res.Wasm.Info.Kind != c.kind {
				t.Errorf("got a %s, want a %s", res.Wasm.Info.Kind, c.kind)
			}
			if _, err := os.Stat(filepath.Join(dir, "module.wasm")); err != nil {
				t.Error(err)
			}
		})
	}
}

// fakeC is a project in C with a compiler that writes the binary.
func fakeC(t *testing.T, binary, section string) engine.Request {
	t.Helper()
	return fakeBuild(t, "docker.io/library/debian:bookworm-slim", fakeTools("clang"), files{
		"main.c": "int main() {}\n", "ZImagefile": "wasm:\n  build_args: {BINARY: '" + binary + "'}\n" + section,
	})
}

// TestWasmBroken: a result that is not what was asked for is told with the place that asks, and goes
// nowhere.
func TestWasmBroken(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	for _, c := range []struct{ name, binary, section, want string }{
		{"text", "hello world", "", "not a WebAssembly binary"},
		{"empty", "", "", "not a WebAssembly binary"},
		{"truncated", `\000asm\001\000\000\000\001\011\001`, "", "at byte 10: section 1 of 9 bytes: it ends too early"},
		{"version", `\000asm\002\000\000\000`, "", "module version 2, known is 1"},
		{"component", smallComponent, "  target: preview1\n", "a component where a module is asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := fakeC(t, c.binary, c.section)
			req.Tags = []string{"wasm/broken-" + c.name}
			_, err := e.Build(t.Context(), req)
			var pe *graph.PosError
			if !errors.As(err, &pe) || !strings.Contains(err.Error(), c.want) || pe.Pos.Line != 2 && pe.Pos.Line != 1 || !strings.HasSuffix(pe.Pos.File, "ZImagefile") || len(pe.Source) == 0 {
				t.Errorf("got %v (%+v), want %q at the wasm section", err, pe, c.want)
			}
			s, serr := e.Store()
			if serr != nil {
				t.Fatal(serr)
			}
			if _, err := s.Resolve(t.Context(), req.Tags[0]); err == nil {
				t.Error("the store has it")
			}
		})
	}
}

// TestWasmMistakes: what is wrong is told before anything is built.
func TestWasmMistakes(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	for _, c := range []struct {
		name, section string
		change        func(*engine.Request)
		want          string
	}{
		{"world", "  world: mine\n", nil, "ZImagefile:3:10: there is no world mine"},
		{"wit", "  wit: ../wit\n", nil, "ZImagefile:3:8: wit ../wit is outside of the build context"},
		{"platform", "", func(r *engine.Request) { r.Platforms = []string{"linux/arm64"} }, "WebAssembly is not built for linux/arm64"},
		{"load", "", func(r *engine.Request) { r.Outputs = []engine.Output{{Type: engine.OutputDocker, Writer: &buffer{}}} }, "output docker cannot take WebAssembly"},
		{"format", "", func(r *engine.Request) { r.WasmFormat = "tar" }, `format "tar" is none of artifact, image and file`},
		{"no place", "  oci: false\n", nil, "the result is a file and there is no place for it"},
		{"attestation", "", func(r *engine.Request) {
			r.Attests, r.Outputs = map[string]string{"provenance": ""}, []engine.Output{{Type: engine.OutputLocal, Dest: filepath.Join(t.TempDir(), "x.wasm")}}
		}, "there is no place for attestations beside a file alone"},
		{"output", "  oci: false\n  output: ../x.wasm\n", nil, "ZImagefile:4:11: output ../x.wasm is outside of the build context"},
		{"push", "", func(r *engine.Request) { r.Push = true }, "nothing to push"},
		{"annotation", "", func(r *engine.Request) { r.Annotations = map[string]string{"index:a": "b"} }, "has a manifest and nothing else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := fakeC(t, smallModule, c.section)
			if c.change != nil {
				c.change(&req)
			}
			if _, err := e.Build(t.Context(), req); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	plain := files{"Dockerfile": "FROM scratch\n"}.dir(t)
	if _, err := e.Build(t.Context(), engine.Request{Context: plain, WasmFormat: engine.WasmImage}); err == nil || !strings.Contains(err.Error(), "does not describe a WebAssembly build") {
		t.Errorf("a Dockerfile in a form of WebAssembly: %v", err)
	}
}

// TestWasmOutputs: one build goes to all the places that take it.
func TestWasmOutputs(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	req := fakeC(t, smallModule, "  output: out/app.wasm\nlabels: {made.by: hand}\n")
	var archive, plain buffer
	dir := t.TempDir()
	req.Tags = []string{"wasm/outputs:1"}
	req.Outputs = []engine.Output{
		{Type: engine.OutputStore}, {Type: engine.OutputOCI, Writer: &archive}, {Type: engine.OutputTar, Writer: &plain},
		{Type: engine.OutputOCI, Dest: filepath.Join(dir, "layout"), Attrs: map[string]string{"tar": "false"}},
		{Type: engine.OutputLocal, Dest: filepath.Join(dir, "files")}, {Type: engine.OutputLocal, Dest: filepath.Join(dir, "one.wasm")},
	}
	res := build(t, e, req)
	data, m := storedWasm(t, e, "wasm/outputs:1")
	if m.Annotations["made.by"] != "hand" || m.Annotations["org.opencontainers.image.title"] != "outputs" {
		t.Errorf("annotations %v", m.Annotations)
	}
	for _, f := range []string{filepath.Join(dir, "files", "app.wasm"), filepath.Join(dir, "one.wasm"), filepath.Join(req.Context, "out", "app.wasm")} {
		if got, err := os.ReadFile(f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %q, %v", f, got, err)
		}
	}
	if got := readFiles(t, &plain); got["app.wasm"] != string(data) || len(got) != 1 {
		t.Errorf("the archive of files has %q", got)
	}
	blob := "blobs/sha256/" + res.Digest.Encoded()
	layout := readFiles(t, &archive)
	raw, err := os.ReadFile(filepath.Join(dir, "layout", blob))
	if err != nil || layout[blob] != string(raw) || !strings.Contains(layout["index.json"], res.Digest.String()) {
		t.Errorf("the layouts lack %s: %v", blob, err)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inspect(t.Context(), "wasm/outputs:1"); err != nil {
		t.Errorf("inspecting the artifact: %v", err)
	}
	if err := s.Verify(t.Context(), "wasm/outputs:1"); err != nil {
		t.Errorf("verifying the artifact: %v", err)
	}
}

// TestWasmImage: the same build as a container image, whose platform and entry point runtimes go by.
func TestWasmImage(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	req := fakeC(t, smallModule, "")
	req.WasmFormat, req.Tags = engine.WasmImage, []string{"wasm/image"}
	build(t, e, req)
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), "wasm/image", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.OS, " ", c.Architecture, " ", c.Config.Entrypoint); got != "wasi wasm [/module.wasm]" {
		t.Errorf("got %s", got)
	}
	if req.Tags = nil; buildFiles(t, e, req)["module.wasm"] == "" {
		t.Error("the image has no module.wasm")
	}
}

// TestWasmRuntime: --runtime wasm is what zlayer wasm build does, and the memo knows either.
func TestWasmRuntime(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	req := fakeBuild(t, "docker.io/library/debian:bookworm-slim", fakeTools("clang"), files{"main.c": "int main() {}\n"})
	req.Runtime, req.Tags = "wasm", []string{"wasm/runtime"}
	res := build(t, e, req)
	if res.Wasm == nil || res.Wasm.Info.Kind != wasm.Module {
		t.Errorf("got %+v", res.Wasm)
	}
	other := req
	other.Runtime, other.Wasm = "", &engine.WasmOptions{Language: "c"}
	if again := build(t, e, other); again.Digest != res.Digest || again.Changed {
		t.Errorf("as a WebAssembly build it is %s, changed %v, want %s and no change", again.Digest, again.Changed, res.Digest)
	}
	req.Runtime = "wasm-component" // which a module is not
	if err := buildFails(t, e, req); !strings.Contains(err.Error(), "node:22-bookworm-slim") {
		t.Errorf("as a component: %v, want that the tools for it are not here", err)
	}
}

// TestWasmWhy: what has changed since a WebAssembly build is told as of any other.
func TestWasmWhy(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	req := fakeC(t, smallModule, "  features: [A=1]\n")
	// What it leaves in its own context is no part of the next build.
	out := filepath.Join(req.Context, "out.wasm")
	req.Wasm, req.Outputs = &engine.WasmOptions{Features: []string{"B"}}, []engine.Output{{Type: engine.OutputLocal, Dest: out}}
	why := func() *engine.Why {
		t.Helper()
		w, err := e.Why(t.Context(), req, "")
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if _, err := e.Why(t.Context(), req, ""); !errors.Is(err, engine.ErrNoRecord) {
		t.Errorf("before the first build: %v", err)
	}
	build(t, e, req)
	if w := why(); !w.Same {
		t.Errorf("after the build: %+v", w)
	}
	req.Wasm.Features = append(req.Wasm.Features, "C")
	if w := why(); w.Same {
		t.Errorf("with another option: %+v", w)
	}
	req.Wasm.Features = req.Wasm.Features[:1]
	files{"main.c": "int main() { return 1; }\n"}.write(t, req.Context)
	w := why()
	var changes []string
	for _, s := range w.Stages {
		for _, c := range s.Changes {
			changes = append(changes, fmt.Sprint(s.Name, " ", c.Kind, " ", c.Name))
		}
	}
	if w.Same || !slices.Contains(changes, "build file-edited main.c") {
		t.Errorf("after the edit: %q", changes)
	}
}

// TestWasmCancel: a build that is given up leaves nothing.
func TestWasmCancel(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	req := fakeC(t, smallModule, "  output: out/x.wasm\n  pre_build: [\"echo ready; sleep 600\"]\n")
	req.Tags = []string{"wasm/cancel"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req.Events = func(ev solver.Event) {
		if ev.Kind == solver.Output && strings.Contains(string(ev.Log.Data), "ready") {
			cancel()
		}
	}
	if _, err := e.Build(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), req.Tags[0]); err == nil {
		t.Error("the store has it")
	}
	if _, err := os.Stat(filepath.Join(req.Context, "out")); err == nil {
		t.Error("the file was written")
	}
}

// TestWasmNested: another build takes the file of a WebAssembly build.
func TestWasmNested(t *testing.T) {
	t.Parallel()
	labtest.Start(t)
	e := openEngine(t)
	inner := fakeC(t, smallModule, "")
	dir := files{"ZImagefile": "stages:\n  plugin: {build: plugin}\n  app:\n    base: scratch\n    steps:\n      - copy: /module.wasm\n        from: plugin\n        to: /plugins/x.wasm\n"}.dir(t)
	if err := os.CopyFS(filepath.Join(dir, "plugin"), os.DirFS(inner.Context)); err != nil {
		t.Fatal(err)
	}
	// the nested build's image is its own business, so its toolchain comes as an argument of it
	text, err := os.ReadFile(filepath.Join(dir, "plugin", "ZImagefile"))
	if err != nil {
		t.Fatal(err)
	}
	files{
		"plugin/ZImagefile": string(text) + "  image: " + fakeImage(t, e) + "\n",
	}.write(t, dir)
	got := buildFiles(t, e, engine.Request{Context: dir})
	if got["plugins/x.wasm"] != "\x00asm\x01\x00\x00\x00" {
		t.Errorf("the image has %q", got)
	}
}

// fakeImage pushes the fake toolchain to the lab's registry.
func fakeImage(t *testing.T, e *engine.Engine) string {
	t.Helper()
	name := labtest.Start(t).Addr() + "/wasm/fake-tools:1"
	build(t, e, engine.Request{Context: fakeTools("clang").dir(t), Tags: []string{name}, Push: true})
	return name
}

// TestWasmCompileError: what the compiler says comes through whole, with file and line.
func TestWasmCompileError(t *testing.T) {
	t.Parallel()
	labtest.Require(t, "golang:1.26-bookworm")
	e := openEngine(t)
	project := maps.Clone(goHello)
	project["main.go"] = "package main\n\nfunc main() {\n\tundefinedThing()\n}\n"
	var said strings.Builder
	_, err := e.Build(t.Context(), engine.Request{Context: project.dir(t), Wasm: &engine.WasmOptions{}, Events: func(ev solver.Event) {
		if ev.Kind == solver.Output {
			said.Write(ev.Log.Data)
		}
	}})
	if err == nil || !strings.Contains(said.String(), "./main.go:4:2: undefined: undefinedThing") {
		t.Errorf("got %v, and as output:\n%s", err, said.String())
	}
}
