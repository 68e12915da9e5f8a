package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/store"
)

// WasmInfo is what a WebAssembly binary says about itself.
type WasmInfo = wasm.Info

// InspectWasm reads a WebAssembly binary. An error says what is damaged.
func InspectWasm(data []byte) (*WasmInfo, error) { return wasm.Inspect(data) }

// WasmChecks are what a binary can be held against.
type WasmChecks struct {
	// Target is preview1 or preview2, "" for either.
	Target string
	// World is a world that is known, or one of the WIT files; "" is the only one of the
	// WIT files, or none.
	World string
	// WIT is a file or directory with WIT files.
	WIT string
}

// ValidateWasm holds a binary against a target and a world.
func ValidateWasm(info *WasmInfo, c WasmChecks) error {
	b := wasm.Build{Target: wasm.Target(c.Target)}
	switch b.Target {
	case "", wasm.Preview1, wasm.Preview2:
	default:
		return inputErrorf("unknown target %q: it is preview1 or preview2", c.Target)
	}
	world, err := findWorld(c)
	if err != nil {
		return asInput(err)
	}
	b.World = world
	return b.Check(info)
}

func findWorld(c WasmChecks) (*wasm.World, error) {
	if c.WIT != "" {
		abs, err := filepath.Abs(c.WIT)
		if err != nil {
			return nil, err
		}
		wit, err := wasm.ReadWIT(os.DirFS(filepath.Dir(abs)), filepath.Base(abs))
		if err != nil {
			return nil, err
		}
		w, err := wit.World(c.World)
		return &w, err
	}
	if c.World == "" {
		return nil, nil
	}
	w, ok := wasm.KnownWorld(c.World)
	if !ok {
		return nil, fmt.Errorf("there is no world %s: name its WIT files, or one of %s", c.World, strings.Join(wasm.KnownWorlds(), ", "))
	}
	return &w, nil
}

// StoredWasm gives the binary of an artifact in the store.
func (e *Engine) StoredWasm(ctx context.Context, ref string) ([]byte, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	img, err := s.Image(ctx, ref, nil)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	_, layer, err := wasmLayer(ref, raw)
	if err != nil {
		return nil, err
	}
	return readLayer(img, layer)
}

// wasmLayer finds the binary in a manifest.
func wasmLayer(ref string, raw []byte) (ocispecs.Manifest, ocispecs.Descriptor, error) {
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, ocispecs.Descriptor{}, fmt.Errorf("reading the manifest of %s: %w", ref, err)
	}
	layer, err := wasm.Layer(m)
	if err != nil {
		return m, layer, inputErrorf("%s is no artifact of WebAssembly: %w", ref, err)
	}
	return m, layer, nil
}

// readLayer reads one layer, whose size and digest are compared.
func readLayer(img v1.Image, desc ocispecs.Descriptor) ([]byte, error) {
	if desc.Size > maxWasm {
		return nil, fmt.Errorf("the layer %s is larger than %d MiB", desc.Digest, maxWasm>>20)
	}
	h, err := v1.NewHash(desc.Digest.String())
	if err != nil {
		return nil, err
	}
	l, err := img.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, desc.Size+1))
	if err == nil && digest.FromBytes(data) != desc.Digest {
		err = fmt.Errorf("the layer %s has other bytes", desc.Digest)
	}
	return data, err
}

// WasmImport says how a binary becomes an artifact.
type WasmImport struct {
	// Names are those in the store; the first gives the title.
	Names       []string
	Annotations map[string]string
	// World is the world that a component was built for.
	World   string
	Created time.Time
}

// ImportWasm makes an artifact of a binary and puts it into the store. Equal binaries and options
// give the digest that a build gives.
func (e *Engine) ImportWasm(ctx context.Context, data []byte, o WasmImport) (digest.Digest, error) {
	info, err := wasm.Inspect(data)
	if err != nil {
		return "", asInput(err)
	}
	s, err := e.Store()
	if err != nil {
		return "", err
	}
	j := &job{engine: e, req: Request{Annotations: o.Annotations}}
	for _, n := range o.Names {
		normal, err := store.NormalName(n)
		if err != nil {
			return "", &InputError{Err: err}
		}
		j.outputs.names = append(j.outputs.names, normal)
	}
	if len(j.outputs.names) == 0 {
		return "", inputErrorf("an artifact needs a name")
	}
	a, err := wasm.Pack(data, info, wasm.PackOptions{Name: j.wasmName(""), World: o.World, Created: o.Created, Annotations: o.Annotations})
	if err != nil {
		return "", err
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return "", err
	}
	defer lease.Close()
	d := &wasmDelivery{ctx: ctx, job: j, data: data, artifact: a}
	return a.Descriptor.Digest, d.store(s, j.outputs.names, false)
}
