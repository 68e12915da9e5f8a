package engine

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/buildkit/client/llb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// TestCopiedFile tells stages that have one file of another as it is there from those
// that have more or something else.
func TestCopiedFile(t *testing.T) {
	platform := ocispecs.Platform{OS: "linux", Architecture: "amd64"}
	stage := func(st llb.State, in ...graph.Input) *graph.Stage {
		t.Helper()
		def, err := st.Marshal(t.Context(), llb.Platform(platform))
		if err != nil {
			t.Fatal(err)
		}
		s, err := graph.NewStage(graph.Spec{Name: "x", Platform: platform, Definition: def.ToPB(), Inputs: in})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tools := llb.Image("docker.io/library/tools@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	build, sources := tools.Run(llb.Shlex("make")).Root(), llb.Scratch().File(llb.Mkfile("a", 0o644, nil))
	file := llb.Copy(build, "/wasm/module.wasm", "/module.wasm")
	reads := graph.Input{Stage: stage(build), Kind: graph.InputCopy}
	for _, c := range []struct {
		name  string
		stage *graph.Stage
		// is: the stage has the file and nothing else; starts: it has that to begin with.
		is, starts bool
	}{
		{"the file", stage(llb.Scratch().File(file), reads), true, true},
		{"scanned", stage(llb.Scratch().File(file).File(llb.Copy(sources, "/none*", "/")), reads), false, true},
		{"two files", stage(llb.Scratch().File(file.Copy(sources, "a", "/a")), reads), false, false},
		{"on an image", stage(tools.File(file), reads), false, false},
		{"another owner", stage(llb.Scratch().File(llb.Copy(build, "/a", "/a", llb.WithUser("7"))), reads), false, false},
		{"another mode", stage(llb.Scratch().File(llb.Copy(build, "/a", "/a", llb.ChmodOpt{Mode: 0o600})), reads), false, false},
		{"some of a directory", stage(llb.Scratch().File(llb.Copy(build, "/a", "/a", &llb.CopyInfo{IncludePatterns: []string{"b"}})), reads), false, false},
		{"of no stage", stage(llb.Scratch().File(file)), false, false},
		{"a base", stage(llb.Scratch().File(file), graph.Input{Stage: stage(build), Kind: graph.InputBase}), false, false},
		{"made", stage(sources), false, false},
		{"nothing", stage(llb.Scratch()), false, false},
	} {
		got, ok := copiedFile(c.stage, c.stage.Head)
		if ok != c.is {
			t.Errorf("%s: a file and nothing else: %v", c.name, ok)
		}
		if ok && (got.from.ID != reads.Stage.ID || got.copy.Src != "/wasm/module.wasm" || got.input != 0) {
			t.Errorf("%s: got %+v", c.name, got)
		}
		if first, ok := copiedFile(c.stage, firstCopy(c.stage)); ok != c.starts || ok && first.from.ID != reads.Stage.ID {
			t.Errorf("%s: begins with a file: %v", c.name, ok)
		}
	}
}

// TestModulesHaveOneKey: what a WebAssembly build is remembered by is what builds look for that nest
// it, whatever they are built for.
func TestModulesHaveOneKey(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	image := strings.TrimPrefix(srv.URL, "http://") + "/tools:1"
	pushImage(t, image)
	dir := project(t, map[string]string{
		"plugin/main.c":     "int main() {}\n",
		"plugin/ZImagefile": "wasm: {image: '" + image + "', output: out/x.wasm}\n",
		"app/ZImagefile":    "stages:\n  it: {build: ../plugin}\n  app:\n    base: scratch\n    steps: [{copy: /x.wasm, from: it, to: /}]\n",
		"from/Dockerfile":   "FROM it\nENTRYPOINT [\"/x.wasm\"]\n",
	})
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	keys := map[string]string{}
	for name, req := range map[string]Request{
		"built":    {Context: dir + "/plugin"},
		"image":    {Context: dir + "/plugin", WasmFormat: WasmImage},
		"nested":   {Context: dir + "/app", Root: dir},
		"platform": {Context: dir + "/app", Root: dir, Platforms: []string{"linux/arm64"}},
		"based on": {Context: dir + "/from", Root: dir, BuildContexts: map[string]string{"it": dir + "/plugin"}},
		"other":    {Context: dir + "/plugin", Wasm: &WasmOptions{Features: []string{"A"}}},
	} {
		r, err := e.newRun(req)
		if err != nil {
			t.Fatal(err)
		}
		j, err := r.prepareCall(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		k, err := j.compileKeys(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range k.graph.Stages() {
			if c, ok := copiedFile(s, firstCopy(s)); ok && c.copy.Src == "/wasm/module.wasm" {
				keys[name] = c.key(k).String()
			}
		}
		if err := errors.Join(j.close(), r.close()); err != nil {
			t.Error(err)
		}
	}
	for name, key := range keys {
		if (key == keys["built"]) == (name == "other") {
			t.Errorf("%s has key %s, the build %s", name, key, keys["built"])
		}
	}
	if len(keys) != 6 {
		t.Errorf("got %v", keys)
	}
}
