package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// goHello is a program of Go for WASI. It has no build file.
var goHello = files{
	"go.mod":  "module hello\n\ngo 1.26\n",
	"main.go": "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() { fmt.Println(\"hello from go\", os.Args[1:]) }\n",
}

// runModule runs a module of WASI preview 1 and gives what it prints.
func runModule(t *testing.T, data []byte, args ...string) string {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithStdout(&out).WithStderr(&out).WithArgs(append([]string{"module"}, args...)...).
		WithRandSource(rand.Reader).WithSysWalltime().WithSysNanotime()
	if _, err := r.InstantiateWithConfig(ctx, data, config); err != nil && !strings.Contains(err.Error(), "exit_code(0)") {
		t.Fatalf("running the module: %v\n%s", err, out.String())
	}
	return out.String()
}

// storedWasm gives the binary of an artifact in the store, and its manifest.
func storedWasm(t *testing.T, e *engine.Engine, ref string) ([]byte, ocispecs.Manifest) {
	t.Helper()
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(context.Background(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return data, m
}

// TestWasmGo builds a module with Go's compiler, from no build file at all, and follows the artifact
// through store, registry and two other registry clients. A second build does nothing, and another
// daemon makes the same bytes.
func TestWasmGo(t *testing.T) {
	t.Parallel()
	labtest.Require(t, "golang:1.26-bookworm")
	l := labtest.Start(t)
	e := openEngine(t)
	ctx := context.Background()
	dir := goHello.dir(t)
	tag := l.Addr() + "/wasm/hello:1"
	req := engine.Request{
		Context: dir, Wasm: &engine.WasmOptions{Output: "dist/hello.wasm"}, Tags: []string{tag}, Push: true,
		Labels: map[string]string{"b": "2", "a": "1"},
	}
	// The other daemon pulls the compiler while this one compiles.
	theirs := req
	theirs.Push, theirs.Context = false, goHello.dir(t)
	elsewhere := buildMeanwhile(t.Context(), openFreshEngine(t), theirs)
	res, err := e.Build(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	data, manifest := storedWasm(t, e, tag)
	if got, want := runModule(t, data, "a", "b"), "hello from go [a b]\n"; got != want {
		t.Errorf("the module says %q, want %q", got, want)
	}
	if file, err := os.ReadFile(filepath.Join(dir, "dist", "hello.wasm")); err != nil || !bytes.Equal(file, data) {
		t.Errorf("the file of output is another: %v", err)
	}
	if manifest.Annotations["a"] != "1" || manifest.Annotations["b"] != "2" || manifest.Config.MediaType != wasm.ConfigMediaType {
		t.Errorf("manifest %+v", manifest)
	}
	if res.Wasm == nil || res.Wasm.Info.Kind != wasm.Module || !res.Wasm.Info.Exported("_start") {
		t.Errorf("result %+v", res.Wasm)
	}
	checkRegistry(t, tag, res.Digest.String(), data)

	again, err := e.Build(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != res.Digest || again.Changed || again.Restored {
		t.Errorf("the second build gave %s, changed %v, restored %v, want %s and no change", again.Digest, again.Changed, again.Restored, res.Digest)
	}
	if err := os.Remove(filepath.Join(dir, "dist", "hello.wasm")); err != nil {
		t.Fatal(err)
	}
	if again, err = e.Build(ctx, req); err != nil || again.Changed || !again.Restored {
		t.Errorf("the build after the file was lost: %+v, %v, want it restored", again, err)
	}
	if file, err := os.ReadFile(filepath.Join(dir, "dist", "hello.wasm")); err != nil || !bytes.Equal(file, data) {
		t.Errorf("the lost file is not restored: %v", err)
	}

	other, err := elsewhere()
	if err != nil {
		t.Fatal(err)
	}
	if other.Digest != res.Digest {
		t.Errorf("another daemon made %s, want %s", other.Digest, res.Digest)
	}
}

// buildMeanwhile begins a build, and gives what waits for its end.
func buildMeanwhile(ctx context.Context, e *engine.Engine, req engine.Request) (wait func() (*engine.Result, error)) {
	var res *engine.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err = e.Build(ctx, req)
	}()
	return func() (*engine.Result, error) {
		<-done
		return res, err
	}
}

// checkRegistry pulls an artifact with go-containerregistry and with ORAS.
func checkRegistry(t *testing.T, tag, digest string, data []byte) {
	t.Helper()
	ctx := context.Background()
	ref, err := name.ParseReference(tag)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest.String() != digest {
		t.Errorf("the registry has %s, the store %s", desc.Digest, digest)
	}
	repo, err := orasremote.NewRepository(ref.Context().Name())
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	mem := memory.New()
	root, err := oras.Copy(ctx, repo, ref.Identifier(), mem, "", oras.DefaultCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	if root.Digest.String() != digest {
		t.Errorf("ORAS got %s, the store has %s", root.Digest, digest)
	}
	raw, err := content.FetchAll(ctx, mem, root)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	layer, err := wasm.Layer(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := content.FetchAll(ctx, mem, layer)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("ORAS got another binary: %v", err)
	}
}

// wasmTools are the images that the lab has in place of the default ones.
var wasmTools = map[string]string{"WASM_TOOLS_IMAGE": "node:20-bookworm-slim"}

// rustStandIn is the image of Rust as far as a build depends on it, made of Debian's packages, which
// are old enough to call the target by its former name.
var rustStandIn = files{"Dockerfile": `FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends rustc cargo libstd-rust-dev-wasm32 lld-14 && rm -rf /var/lib/apt/lists/*
`}

// compiled is a build by a real compiler.
type compiled struct {
	name     string
	images   []string
	project  files
	args     map[string]string
	contexts map[string]files // directories that stand for images
	options  engine.WasmOptions
	kind     wasm.Kind
	// check runs the result.
	check func(t *testing.T, e *engine.Engine, data []byte)
}

var compiledCases = []compiled{
	{
		// the toolchain is installed as for everybody: by Debian's packages
		name: "c", images: []string{"debian:bookworm-slim", "node:20-bookworm-slim"}, args: wasmTools,
		project: files{
			"ZImagefile":      "wasm:\n  optimize: true\n  opt_level: Os\n  features: [GREETING=hi]\n  build_args: {NAME: c}\n  pre_build:\n    - echo \"#define NAME \\\"$NAME\\\"\" >src/name.h\n  post_build:\n    - [test, -s, /wasm/module.wasm]\n",
			"src/main.c":      "#include <stdio.h>\n#include \"greet.h\"\n#include \"name.h\"\n#define S(x) #x\n#define T(x) S(x)\nint main(int argc, char **argv) { printf(\"%s from %s %d %s\\n\", T(GREETING), NAME, twice(21), argv[argc - 1]); }\n",
			"src/greet.c":     "#include \"greet.h\"\nint twice(int x) { return 2 * x; }\n",
			"include/greet.h": "int twice(int);\n",
		},
		kind: wasm.Module,
		check: func(t *testing.T, _ *engine.Engine, data []byte) {
			if got, want := runModule(t, data, "z"), "hi from c 42 z\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		},
	},
	{
		// the same compiler, and the lift of what it makes to a component
		name: "c-component", images: []string{"debian:bookworm-slim", "node:20-bookworm-slim"}, args: wasmTools,
		project: files{"main.c": "#include <stdio.h>\nint main(int argc, char **argv) { printf(\"component says %s\\n\", argv[argc - 1]); }\n"},
		options: engine.WasmOptions{Target: "preview2", World: "wasi:cli/command", Optimize: true},
		kind:    wasm.Component,
		check: func(t *testing.T, e *engine.Engine, data []byte) {
			if got, want := runComponent(t, e, data, "jco run /c.wasm a"), "component says a\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		},
	},
	{
		name: "rust", images: []string{"debian:bookworm-slim"}, contexts: map[string]files{"docker.io/library/rust:1.91-bookworm": rustStandIn},
		project: files{
			"Cargo.toml":  "[package]\nname = \"my-tool\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nloud = []\n[lib]\nname = \"other\"\ncrate-type = [\"cdylib\", \"rlib\"]\n[[bin]]\nname = \"my-tool\"\npath = \"src/main.rs\"\n",
			"Cargo.lock":  "version = 3\n\n[[package]]\nname = \"my-tool\"\nversion = \"0.1.0\"\n",
			"src/lib.rs":  "pub fn twice(x: i32) -> i32 { 2 * x }\n",
			"src/main.rs": "fn main() {\n    let args: Vec<String> = std::env::args().skip(1).collect();\n    println!(\"rust {} {:?} {}\", other::twice(21), args, cfg!(feature = \"loud\"));\n}\n",
			// what the host has built must not be taken for the result
			"target/wasm32-wasi/release/my-tool.wasm": "stale",
		},
		options: engine.WasmOptions{Target: "preview1", Features: []string{"loud"}},
		kind:    wasm.Module,
		check: func(t *testing.T, _ *engine.Engine, data []byte) {
			if got, want := runModule(t, data, "x"), "rust 42 [\"x\"] true\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		},
	},
	{
		name: "assemblyscript", images: []string{"node:20-bookworm-slim"}, args: map[string]string{"WASM_IMAGE": "node:20-bookworm-slim"},
		project: files{"asconfig.json": `{"targets": {"release": {"runtime": "stub"}}}`, "assembly/index.ts": "export function add(a: i32, b: i32): i32 { return a + b; }\n"},
		options: engine.WasmOptions{Optimize: true},
		kind:    wasm.Module,
		check: func(t *testing.T, _ *engine.Engine, data []byte) {
			ctx := context.Background()
			r := wazero.NewRuntime(ctx)
			defer r.Close(ctx)
			m, err := r.Instantiate(ctx, data)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.ExportedFunction("add").Call(ctx, 2, 40); err != nil || len(got) != 1 || got[0] != 42 {
				t.Errorf("2 + 40 is %v, %v", got, err)
			}
		},
	},
	{
		name: "typescript", images: []string{"node:20-bookworm-slim"}, args: map[string]string{"WASM_IMAGE": "node:20-bookworm-slim"},
		project: files{
			"package.json":  `{"type": "module"}`,
			"src/index.ts":  "import { name } from './other';\nexport function greet(who: string): string { return `hello ${who} from ${name}`; }\n",
			"src/other.ts":  "export const name: string = 'typescript';\n",
			"wit/world.wit": "package demo:greet@0.1.0;\nworld greeter { export greet: func(who: string) -> string; }\n",
		},
		options: engine.WasmOptions{World: "greeter"},
		kind:    wasm.Component,
		check: func(t *testing.T, e *engine.Engine, data []byte) {
			command := `jco transpile /c.wasm -o /c >/dev/null && cd /usr/local/lib/node_modules/@bytecodealliance/jco && cp -r /c ./c && node -e 'import("./c/c.js").then((m) => console.log(m.greet("you")))'`
			if got, want := runComponent(t, e, data, command), "hello you from typescript\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		},
	},
}

// TestWasmCompilers builds with the compilers there are, runs the results, follows them through the
// registry, and has another daemon compile the same.
func TestWasmCompilers(t *testing.T) {
	labtest.Start(t)
	other := openFreshEngine(t)
	for _, c := range compiledCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, other)
		})
	}
}

func (c *compiled) run(t *testing.T, other *engine.Engine) {
	labtest.Require(t, c.images...)
	e := openEngine(t)
	req := c.request(t)
	req.Push = true
	res := build(t, e, req)
	data, _ := storedWasm(t, e, req.Tags[0])
	if res.Wasm.Info.Kind != c.kind {
		t.Errorf("the result is a %s, want a %s", res.Wasm.Info.Kind, c.kind)
	}
	c.check(t, e, data)
	checkRegistry(t, req.Tags[0], res.Digest.String(), data)
	if again := build(t, e, req); again.Digest != res.Digest || again.Changed {
		t.Errorf("the second build gave %s, changed %v, want %s and no change", again.Digest, again.Changed, res.Digest)
	}
	// The other daemon gets the tools, which are what takes long, and compiles by itself.
	theirs := c.request(t)
	theirs.BuildArgs, theirs.BuildContexts = c.tools(t, e)
	if anew := build(t, other, theirs); anew.Digest != res.Digest {
		t.Errorf("another daemon made %s, want %s", anew.Digest, res.Digest)
	}
}

// request is a build of a copy of the project.
func (c *compiled) request(t *testing.T) engine.Request {
	t.Helper()
	req := engine.Request{
		Context: c.project.dir(t), Wasm: &c.options, Tags: []string{labtest.Start(t).Addr() + "/wasm/" + c.name + ":1"},
		BuildArgs: c.args, BuildContexts: map[string]string{},
	}
	for name, f := range c.contexts {
		req.BuildContexts[name] = f.dir(t)
	}
	return req
}

// tools writes the stages of a build that has been done which have the tools into layouts, and gives
// the arguments and contexts by which another build takes them.
func (c *compiled) tools(t *testing.T, e *engine.Engine) (args, contexts map[string]string) {
	t.Helper()
	req := c.request(t)
	s := wasm.Settings{Target: wasm.Text{Value: c.options.Target}, World: wasm.Text{Value: c.options.World}}
	s.Optimize = c.options.Optimize || strings.Contains(c.project["ZImagefile"], "optimize: true")
	b, err := wasm.Compile(s, os.DirFS(req.Context), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	args, contexts = map[string]string{}, map[string]string{}
	for arg, stage := range map[string]string{wasm.ImageArg: "toolchain", wasm.ToolsImageArg: "tools"} {
		if !strings.Contains(string(b.Dockerfile), " AS "+stage+"\n") {
			continue
		}
		args[arg] = c.name + "-" + stage
		layout := t.TempDir()
		contexts[args[arg]] = "oci-layout://" + layout
		build(t, e, engine.Request{
			Context: files{"Dockerfile": string(b.Dockerfile)}.dir(t), Target: stage, BuildArgs: c.args, BuildContexts: req.BuildContexts,
			Outputs: []engine.Output{{Type: engine.OutputOCI, Dest: layout, Attrs: map[string]string{"tar": "false", "compression": "uncompressed"}}},
		})
	}
	return args, contexts
}

// runComponent runs a command in an image that has jco, on the component /c.wasm, and gives what it
// prints.
func runComponent(t *testing.T, e *engine.Engine, data []byte, command string) string {
	t.Helper()
	dir := files{
		"c.wasm": string(data),
		// the step that installs jco is that of builds, so it has been done
		"Dockerfile": "FROM node:20-bookworm-slim AS tools\nRUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4\n" +
			"FROM tools AS run\nCOPY c.wasm /\nRUN " + command + " >/out.txt\nFROM scratch\nCOPY --from=run /out.txt /\n",
	}.dir(t)
	return buildFiles(t, e, engine.Request{Context: dir})["out.txt"]
}
