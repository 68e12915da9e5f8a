package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
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
	if again.Digest != res.Digest || again.Stages.Done != 0 {
		t.Errorf("the second build gave %s and built %d stages, want %s and none", again.Digest, again.Stages.Done, res.Digest)
	}

	req.Push, req.Context = false, goHello.dir(t)
	other, err := openFreshEngine(t).Build(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if other.Digest != res.Digest {
		t.Errorf("another daemon made %s, want %s", other.Digest, res.Digest)
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

var _ = exec.Command
