package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/store"
)

// maxWasm bounds what is taken for a module or component.
const maxWasm = 1 << 30

// wasmDelivery is a result on its way to where it was asked for.
type wasmDelivery struct {
	ctx      context.Context
	job      *job
	file     string // what it is called
	data     []byte
	artifact *wasm.Artifact // nil for a bare file
	changed  bool           // something was not in its place
	// statements are about the result; each has a referrer where there is an artifact.
	statements []wasmStatement
	referrers  []*wasm.Artifact
}

// deliverWasm takes what the daemon gave to its places.
func (j *job) deliverWasm(ctx context.Context, res *Result) error {
	if !j.isWasmArtifact() {
		return nil
	}
	b := j.wasm.compiled()
	if b == nil {
		return fmt.Errorf("delivering the result: %s has not been compiled", j.shownFile)
	}
	data, err := readWasm(filepath.Join(j.wasm.dir, b.File))
	if err != nil {
		return err
	}
	statements, err := j.readStatements()
	if err != nil {
		return err
	}
	_, err = j.deliverBinary(ctx, res, data, statements)
	return err
}

// deliverBinary checks a binary and takes it to where it was asked for, with what is said
// about it. Nothing is delivered of a result that is not what was asked for.
func (j *job) deliverBinary(ctx context.Context, res *Result, data []byte, statements []wasmStatement) (changed bool, err error) {
	w, b := j.wasm, j.wasm.compiled()
	info, err := wasm.Inspect(data)
	if err == nil {
		err = b.Check(info)
	}
	if err != nil {
		return false, w.at(j, err)
	}
	d := &wasmDelivery{ctx: ctx, job: j, file: filepath.Base(b.File), data: data}
	if w.format == WasmArtifact {
		o := wasm.PackOptions{Name: j.wasmName(b.File), Created: j.wasmCreated(), Annotations: j.wasmAnnotations()}
		if b.World != nil {
			o.World = b.World.Name
		}
		if d.artifact, err = wasm.Pack(data, info, o); err != nil {
			return false, err
		}
	}
	if err := d.attest(statements); err != nil {
		return false, err
	}
	w.statements = d.statements
	for _, f := range w.deliver {
		if err := f(d); err != nil {
			return d.changed, err
		}
	}
	res.Wasm = &WasmResult{Info: info, File: w.output, Attestations: d.attestations()}
	if d.artifact != nil {
		err = res.fillArtifact(d.artifact, j.outputs)
	}
	return d.changed, err
}

// fillArtifact reports the artifact as an exporter reports an image.
func (r *Result) fillArtifact(a *wasm.Artifact, o outputs) error {
	desc, err := json.Marshal(a.Descriptor)
	if err != nil {
		return err
	}
	r.Digest, r.ConfigDigest, r.Descriptor = a.Descriptor.Digest, a.Content.Config.Digest, desc
	r.Tags = append([]string(nil), o.names...)
	if r.Metadata == nil {
		r.Metadata = map[string]string{}
	}
	r.Metadata[exptypes.ExporterImageDigestKey] = r.Digest.String()
	r.Metadata[exptypes.ExporterImageConfigDigestKey] = r.ConfigDigest.String()
	r.Metadata[exptypes.ExporterImageDescriptorKey] = base64.StdEncoding.EncodeToString(desc)
	if len(o.names) > 0 {
		r.Metadata[exptypes.ExporterImageNameKey] = strings.Join(o.names, ",")
	}
	return nil
}

// writeFile writes the file alone.
func (d *wasmDelivery) writeFile(dest string) error { return d.writeData(dest, d.data) }

// writeFiles writes the file, and what is said about it, into a directory.
func (d *wasmDelivery) writeFiles(dir string) error {
	names, data, err := d.files()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := d.writeData(filepath.Join(dir, n), data[n]); err != nil {
			return err
		}
	}
	return nil
}

// writeData writes a file. One that has the content already stays as it is.
func (d *wasmDelivery) writeData(dest string, data []byte) error {
	if old, err := os.ReadFile(dest); err == nil && bytes.Equal(old, data) {
		return nil
	}
	d.changed = true
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	return replaceFile(dest, data)
}

// replaceFile writes a file beside its destination and renames it.
func replaceFile(dest string, data []byte) error {
	w := &fileWriter{dest: dest}
	if err := w.open(); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.discard())
	}
	return w.commit()
}

// wasmBlob is a part of an artifact.
type wasmBlob struct {
	desc ocispecs.Descriptor
	data []byte
}

// blobs are all parts of the artifact, the manifest last, and of what refers to it.
func (d *wasmDelivery) blobs() []wasmBlob {
	var list []wasmBlob
	for _, a := range append([]*wasm.Artifact{d.artifact}, d.referrers...) {
		list = append(list, wasmBlob{a.Content.Config, a.Config}, wasmBlob{a.Content.Layers[0], a.Layer}, wasmBlob{a.Descriptor, a.Manifest})
	}
	return list
}

// store puts the artifact into the image store, and from there into registries.
func (d *wasmDelivery) store(s *store.Store, names []string, push bool) error {
	d.changed = d.changed || !s.Named(d.artifact.Descriptor, names...)
	for _, b := range d.blobs() {
		ref := "wasm-" + b.desc.Digest.String()
		if err := content.WriteBlob(d.ctx, s.Content(), ref, bytes.NewReader(b.data), b.desc); err != nil {
			return fmt.Errorf("storing the artifact: %w", err)
		}
	}
	if err := s.Import(d.ctx, d.artifact.Descriptor, names...); err != nil {
		return err
	}
	if err := d.attach(s); err != nil {
		return err
	}
	if !push {
		return nil
	}
	for _, n := range names {
		o, err := d.job.engine.cfg.pushOptions(n)
		if err != nil {
			return err
		}
		if err := d.job.often(d.ctx, func() error {
			_, err := s.Push(d.ctx, n, o)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
