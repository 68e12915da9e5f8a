package engine

import (
	"archive/tar"
	"encoding/json"
	"io"
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

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
	for _, r := range d.referrers {
		index.Manifests = append(index.Manifests, r.Descriptor)
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
		if err := d.writeData(filepath.Join(dir, filepath.FromSlash(n)), data[n]); err != nil {
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

// fileTar writes the file, and what is said about it, as an archive.
func (d *wasmDelivery) fileTar(w io.Writer) error {
	names, data, err := d.files()
	if err != nil {
		return err
	}
	return writeTar(w, names, data)
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
