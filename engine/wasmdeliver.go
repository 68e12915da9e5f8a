package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
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
	_, err = j.deliverBinary(ctx, res, data)
	return err
}

// deliverBinary checks a binary and takes it to where it was asked for. Nothing is
// delivered of a result that is not what was asked for.
func (j *job) deliverBinary(ctx context.Context, res *Result, data []byte) (changed bool, err error) {
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
	for _, f := range w.deliver {
		if err := f(d); err != nil {
			return d.changed, err
		}
	}
	res.Wasm = &WasmResult{Info: info, File: w.output}
	if d.artifact != nil {
		err = res.fillArtifact(d.artifact, j.outputs)
	}
	return d.changed, err
}

// wasmKey is what the record of a build's binary is filed under.
func (k *keys) wasmKey() digest.Digest {
	h := graph.NewHasher("zlayer.wasm.record.v1")
	h.String(string(k.base))
	return h.Digest()
}

// recallWasm delivers the binary that an earlier build of the same key has made, if
// it is still at hand. The error is errMissed if not.
func (j *job) recallWasm(ctx context.Context, k *keys) (*Result, error) {
	if len(j.outputs.exports) == 0 || len(j.cacheTo) > 0 || j.wasm.compiled() == nil {
		return nil, errMissed
	}
	rec, err := j.run.memo.Get(ctx, k.wasmKey())
	if err != nil || rec.Kind != memo.KindFile {
		return nil, errMissed
	}
	data := j.findWasm(ctx, rec)
	if data == nil {
		return nil, errMissed
	}
	if s := j.outputs.store; s != nil {
		lease, err := s.Lease(ctx)
		if err != nil {
			return nil, err
		}
		defer lease.Close()
	}
	res := &Result{Graph: k.graph, Stages: StageCounts{Cached: len(k.graph.Stages())}}
	j.tell(k, res)
	res.Restored, err = j.deliverBinary(ctx, res, data)
	return res, err
}

// findWasm looks for the binary of a record: in the store, and where earlier builds
// have put it.
func (j *job) findWasm(ctx context.Context, rec *memo.Record) []byte {
	fits := func(data []byte, err error) bool {
		return err == nil && int64(len(data)) == rec.Size && digest.FromBytes(data) == rec.Digest
	}
	if s, err := j.engine.Store(); err == nil {
		desc := ocispecs.Descriptor{Digest: rec.Digest, Size: rec.Size}
		if data, err := content.ReadBlob(ctx, s.Content(), desc); fits(data, err) {
			return data
		}
	}
	for _, f := range j.wasm.files {
		if !strings.HasSuffix(f, ".wasm") {
			f = filepath.Join(f, j.wasm.compiled().File)
		}
		if fi, err := os.Stat(f); err != nil || fi.Size() != rec.Size {
			continue
		}
		if data, err := readWasm(f); fits(data, err) {
			return data
		}
	}
	return nil
}

// rememberWasm records which binary a build has made.
func (j *job) rememberWasm(ctx context.Context, k *keys, res *Result) error {
	b := j.wasm.compiled()
	if b == nil || res.Wasm == nil {
		return nil
	}
	data, err := readWasm(filepath.Join(j.wasm.dir, b.File))
	if err != nil {
		return err
	}
	return j.run.memo.Put(ctx, &memo.Record{
		Key: k.wasmKey(), Kind: memo.KindFile, Digest: digest.FromBytes(data), Size: int64(len(data)), Names: j.outputs.names,
		Tool: j.engine.cfg.Version, Created: time.Now(), Parts: j.partsOf(ctx, k),
	})
}

func readWasm(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("fetching the result: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxWasm+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the result: %w", err)
	}
	if len(data) > maxWasm {
		return nil, fmt.Errorf("fetching the result: it is larger than %d MiB", maxWasm>>20)
	}
	return data, nil
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

// writeFile writes the file. One that has the content already stays as it is.
func (d *wasmDelivery) writeFile(dest string) error {
	if old, err := os.ReadFile(dest); err == nil && bytes.Equal(old, d.data) {
		return nil
	}
	d.changed = true
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	return replaceFile(dest, d.data)
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

// blobs are all parts of the artifact, the manifest last.
func (d *wasmDelivery) blobs() []wasmBlob {
	a := d.artifact
	return []wasmBlob{{a.Content.Config, a.Config}, {a.Content.Layers[0], a.Layer}, {a.Descriptor, a.Manifest}}
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
	if !push {
		return nil
	}
	for _, n := range names {
		o, err := d.job.engine.cfg.pushOptions(n)
		if err != nil {
			return err
		}
		if _, err := s.Push(d.ctx, n, o); err != nil {
			return err
		}
	}
	return nil
}

// pushOptions are how the configuration has the registry of a name asked.
func (c Config) pushOptions(name string) (store.PushOptions, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return store.PushOptions{}, &InputError{Err: err}
	}
	host := reference.Domain(named)
	o := store.PushOptions{Insecure: c.insecureRegistry(host)}
	if files := c.RegistryCAs[host]; len(files) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, f := range files {
			pem, err := os.ReadFile(f)
			if err != nil {
				return o, &InputError{Err: err}
			}
			if !pool.AppendCertsFromPEM(pem) {
				return o, inputErrorf("%s holds no PEM certificate", f)
			}
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
		o.Transport = t
	}
	return o, nil
}

// layout are the files of an OCI layout with the artifact.
func (d *wasmDelivery) layout() (names []string, data map[string][]byte, err error) {
	desc := d.artifact.Descriptor
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex}
	for _, n := range d.job.outputs.names {
		e := desc
		e.Annotations = map[string]string{"io.containerd.image.name": n, ocispecs.AnnotationRefName: refName(n)}
		index.Manifests = append(index.Manifests, e)
	}
	if len(index.Manifests) == 0 {
		desc.Annotations = map[string]string{ocispecs.AnnotationRefName: d.job.wasmName(d.file)}
		index.Manifests = append(index.Manifests, desc)
	}
	data = map[string][]byte{}
	add := func(name string, b []byte) {
		if _, ok := data[name]; !ok {
			names = append(names, name)
		}
		data[name] = b
	}
	for _, b := range d.blobs() {
		add("blobs/"+b.desc.Digest.Algorithm().String()+"/"+b.desc.Digest.Encoded(), b.data)
	}
	add(ocispecs.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispecs.ImageLayoutVersion+`"}`))
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, nil, err
	}
	add(ocispecs.ImageIndexFile, raw)
	return names, data, nil
}

// refName is the tag of a name.
func refName(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		if t, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
			return t.Tag()
		}
	}
	return name
}

// layoutDir writes the artifact as an OCI layout; the index comes last.
func (d *wasmDelivery) layoutDir(dir string) error {
	names, data, err := d.layout()
	if err != nil {
		return err
	}
	for _, n := range names {
		dest := filepath.Join(dir, filepath.FromSlash(n))
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
			return err
		}
		if err := replaceFile(dest, data[n]); err != nil {
			return err
		}
	}
	return nil
}

// layoutTar writes the artifact as an archive.
func (d *wasmDelivery) layoutTar(w io.Writer) error {
	names, data, err := d.layout()
	if err != nil {
		return err
	}
	return writeTar(w, names, data)
}

// fileTar writes the file as an archive.
func (d *wasmDelivery) fileTar(w io.Writer) error {
	return writeTar(w, []string{d.file}, map[string][]byte{d.file: d.data})
}

func writeTar(w io.Writer, names []string, data map[string][]byte) error {
	tw := tar.NewWriter(w)
	for _, n := range names {
		h := &tar.Header{Name: n, Mode: 0o644, Size: int64(len(data[n])), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data[n]); err != nil {
			return err
		}
	}
	return tw.Close()
}

// wasmArchive adds an archive that write fills.
func (j *job) wasmArchive(o Output, write func(*wasmDelivery, io.Writer) error) error {
	var e client.ExportEntry
	finish := len(j.outputs.finish)
	if err := j.fileOutput(o, &e); err != nil {
		return err
	}
	commit := j.outputs.finish[finish:]
	j.outputs.finish = j.outputs.finish[:finish]
	j.wasm.deliver = append(j.wasm.deliver, func(d *wasmDelivery) error {
		w, err := e.Output(nil)
		if err != nil {
			return err
		}
		err = write(d, w)
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		for _, f := range commit {
			if err == nil {
				err = f(d.ctx, ocispecs.Descriptor{})
			}
		}
		return err
	})
	return nil
}
