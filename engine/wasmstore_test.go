package engine

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/store"
)

// Binaries that are as small as can be.
var (
	emptyModule    = []byte("\x00asm\x01\x00\x00\x00")
	greetComponent = []byte("\x00asm\x0d\x00\x01\x00\x0b\x0b\x01\x00\x05greet\x01\x00\x00")
)

// wasmRegistry is a registry, with or without lists of referrers of its own.
func wasmRegistry(t *testing.T, lists bool) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(lists)))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// imported is an engine with a binary in its store.
func imported(t *testing.T, data []byte, names ...string) (*Engine, *store.Store, ocispecs.Descriptor) {
	t.Helper()
	e := openBare(t)
	d, err := e.ImportWasm(t.Context(), data, WasmImport{Names: names, World: "greeter", Annotations: map[string]string{"b": "2", "a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	desc, err := s.Resolve(t.Context(), names[0])
	if err != nil || desc.Digest != d {
		t.Fatalf("the store has %s, %v, want %s", desc.Digest, err, d)
	}
	return e, s, desc
}

// TestImportWasm: an imported binary is the artifact that a build makes of it.
func TestImportWasm(t *testing.T) {
	e, _, desc := imported(t, greetComponent, "plugin:1", "example.org/other:2")
	info, err := wasm.Inspect(greetComponent)
	if err != nil {
		t.Fatal(err)
	}
	want, err := wasm.Pack(greetComponent, info, wasm.PackOptions{Name: "plugin", World: "greeter", Annotations: map[string]string{"a": "1", "b": "2"}})
	if err != nil || desc.Digest != want.Descriptor.Digest {
		t.Errorf("imported as %s, a build makes %s, %v", desc.Digest, want.Descriptor.Digest, err)
	}
	for _, ref := range []string{"plugin:1", "example.org/other:2", desc.Digest.String()} {
		if data, err := e.StoredWasm(t.Context(), ref); err != nil || !bytes.Equal(data, greetComponent) {
			t.Errorf("%s holds %q, %v", ref, data, err)
		}
	}
}

func TestImportWasmMistakes(t *testing.T) {
	e := openBare(t)
	for _, c := range []struct {
		data []byte
		name string
		want string
	}{
		{[]byte("hello, world"), "x", "not a WebAssembly binary"},
		{nil, "x", "not a WebAssembly binary"},
		{emptyModule[:7], "x", "not a WebAssembly binary"},
		{[]byte("\x00asm\x02\x00\x00\x00"), "x", "module version 2, known is 1"},
		{append(slices.Clone(emptyModule), 1, 9, 1), "x", "damaged WebAssembly binary: at byte 10: section 1 of 9 bytes: it ends too early"},
		{emptyModule, "Not A Name", "invalid reference format"},
	} {
		_, err := e.ImportWasm(t.Context(), c.data, WasmImport{Names: []string{c.name}})
		var input *InputError
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &input) {
			t.Errorf("%q as %s: %v, want %q", c.data, c.name, err, c.want)
		}
	}
	if _, err := e.ImportWasm(t.Context(), emptyModule, WasmImport{}); err == nil || !strings.Contains(err.Error(), "needs a name") {
		t.Errorf("without a name: %v", err)
	}
}

// TestPullWasm takes an artifact through registries to another engine, with what refers to it.
func TestPullWasm(t *testing.T) {
	statement := []byte(`{"predicateType":"https://spdx.dev/Document","predicate":{"packages":[]}}`)
	for _, lists := range []bool{true, false} {
		tag := wasmRegistry(t, lists) + "/plugin:1"
		e, s, desc := imported(t, greetComponent, tag)
		info, err := e.storedArtifact(t, tag)
		if err != nil {
			t.Fatal(err)
		}
		referrer, err := info.Attest("plugin.wasm", statement)
		if err != nil {
			t.Fatal(err)
		}
		d := &wasmDelivery{ctx: t.Context(), artifact: info, referrers: []*wasm.Artifact{referrer}}
		for _, b := range d.blobs() {
			if err := content.WriteBlob(t.Context(), s.Content(), b.desc.Digest.String(), bytes.NewReader(b.data), b.desc); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.attach(s); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Push(t.Context(), tag, store.PushOptions{}); err != nil {
			t.Fatal(err)
		}

		other := openBare(t)
		for range 2 {
			data, digest, err := other.PullWasm(t.Context(), tag)
			if err != nil || digest != desc.Digest || !bytes.Equal(data, greetComponent) {
				t.Fatalf("pulled %s, %q, %v, want %s", digest, data, err, desc.Digest)
			}
		}
		theirs, err := other.Store()
		if err != nil {
			t.Fatal(err)
		}
		if err := theirs.Verify(t.Context(), tag); err != nil {
			t.Error(err)
		}
		list, err := theirs.Referrers(t.Context(), desc.Digest)
		if err != nil || len(list) != 1 || list[0].Digest != referrer.Descriptor.Digest {
			t.Errorf("pulled with it: %+v, %v, want %s", list, err, referrer.Descriptor.Digest)
		}
	}
}

// storedArtifact reads an artifact back.
func (e *Engine) storedArtifact(t *testing.T, ref string) (*wasm.Artifact, error) {
	t.Helper()
	data, err := e.StoredWasm(t.Context(), ref)
	if err != nil {
		return nil, err
	}
	info, err := wasm.Inspect(data)
	if err != nil {
		return nil, err
	}
	return wasm.Pack(data, info, wasm.PackOptions{Name: "plugin", World: "greeter", Annotations: map[string]string{"a": "1", "b": "2"}})
}

// TestPullWasmMistakes: what is no artifact, or not whole, stays out of the store.
func TestPullWasmMistakes(t *testing.T) {
	host := wasmRegistry(t, true)
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	two, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		static.NewLayer(emptyModule, wasm.LayerMediaType), static.NewLayer(greetComponent, wasm.LayerMediaType))
	if err != nil {
		t.Fatal(err)
	}
	push := func(tag string, what remote.Taggable) {
		t.Helper()
		ref, err := name.NewTag(host + "/" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Push(ref, what); err != nil {
			t.Fatal(err)
		}
	}
	push("image:1", img)
	push("two:1", two)
	push("index:1", mutate.AppendManifests(v1.ImageIndex(empty.Index), mutate.IndexAddendum{Add: img}))
	e := openBare(t)
	for tag, want := range map[string]string{
		"image:1":   "is no artifact of WebAssembly: it has 0 layers of WebAssembly",
		"two:1":     "is no artifact of WebAssembly: it has 2 layers of WebAssembly",
		"index:1":   "it is an index of images",
		"missing:1": "NAME_UNKNOWN",
	} {
		if _, _, err := e.PullWasm(t.Context(), host+"/"+tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", tag, err, want)
		}
	}
	if _, _, err := e.PullWasm(t.Context(), "Not A Name"); err == nil || !strings.Contains(err.Error(), "invalid reference format") {
		t.Errorf("a name that is none: %v", err)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Images(t.Context(), store.ListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("the store has %+v, %v", list, err)
	}
}
