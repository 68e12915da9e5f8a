package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// image is an image or index in an OCI layout, read and checked.
type image struct {
	digest digest.Digest // of the manifest or index that index.json names
	parts  []imagePart
}

// imagePart is one manifest of an image.
type imagePart struct {
	descriptor string // platform, annotations and type as the index has them
	digest     digest.Digest
	config     string // pretty JSON
	layers     []string
	diffIDs    []string
	statements []string // in-toto statements of an attestation manifest
	provenance []string // those of them that tell of the build itself, without times and ids
}

// readLayout reads what an OCI layout directory's index.json names. Every blob is
// checked against its digest and size.
func readLayout(dir string) (*image, error) {
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var top ocispecs.Index
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("reading index.json: %w", err)
	}
	if len(top.Manifests) != 1 {
		return nil, fmt.Errorf("reading index.json: got %d images, want 1", len(top.Manifests))
	}
	return readImage(dir, top.Manifests[0])
}

// readImage reads one image of an OCI layout, of which digest and size are known.
func readImage(dir string, d ocispecs.Descriptor) (*image, error) {
	img := &image{digest: d.Digest}
	var index ocispecs.Index // or a manifest, which has no manifests
	if err := readBlob(dir, d, &index); err != nil {
		return nil, err
	}
	descriptors := index.Manifests
	if len(descriptors) == 0 {
		descriptors = []ocispecs.Descriptor{{MediaType: index.MediaType, Digest: d.Digest, Size: d.Size}}
	}
	for _, d := range descriptors {
		p, err := readPart(dir, d)
		if err != nil {
			return nil, err
		}
		img.parts = append(img.parts, p)
	}
	return img, nil
}

func readPart(dir string, d ocispecs.Descriptor) (imagePart, error) {
	p := imagePart{digest: d.Digest, descriptor: describeDescriptor(d)}
	var m ocispecs.Manifest
	if err := readBlob(dir, d, &m); err != nil {
		return p, err
	}
	var config json.RawMessage
	if err := readBlob(dir, m.Config, &config); err != nil {
		return p, err
	}
	p.config = prettyJSON(config)
	var typed ocispecs.Image
	if err := json.Unmarshal(config, &typed); err != nil {
		return p, fmt.Errorf("reading an image config: %w", err)
	}
	for _, id := range typed.RootFS.DiffIDs {
		p.diffIDs = append(p.diffIDs, id.String())
	}
	for _, l := range m.Layers {
		if err := readBlob(dir, l, nil); err != nil {
			return p, err
		}
		p.layers = append(p.layers, fmt.Sprintf("%s %s %d", l.MediaType, l.Digest, l.Size))
		if strings.Contains(l.MediaType, "in-toto") {
			var st json.RawMessage
			if err := readBlob(dir, l, &st); err != nil {
				return p, err
			}
			if strings.Contains(l.Annotations["in-toto.io/predicate-type"], "slsa.dev/provenance") {
				p.provenance = append(p.provenance, settledProvenance(st))
			} else {
				p.statements = append(p.statements, prettyJSON(st))
			}
		}
	}
	return p, nil
}

// readBlob checks a blob and decodes it into v, unless v is nil.
func readBlob(dir string, d ocispecs.Descriptor, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest || int64(len(data)) != d.Size {
		return fmt.Errorf("reading blob %s: it holds %d bytes with digest %s, want %d bytes", d.Digest, len(data), got, d.Size)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading blob %s: %w", d.Digest, err)
	}
	return nil
}

func describeDescriptor(d ocispecs.Descriptor) string {
	d.Digest, d.Size = "", 0
	data, err := json.Marshal(d)
	if err != nil {
		return errors.Join(errors.New("describing a descriptor"), err).Error()
	}
	return string(data)
}

// settledProvenance is a provenance statement without what no two builds have in common.
func settledProvenance(statement []byte) string {
	var v any
	if err := json.Unmarshal(statement, &v); err != nil {
		return err.Error()
	}
	var settle func(any)
	settle = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range []string{"startedOn", "finishedOn", "invocationId"} {
				delete(v, k)
			}
			for _, e := range v {
				settle(e)
			}
		case []any:
			for _, e := range v {
				settle(e)
			}
		}
	}
	settle(v)
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// hasProvenance reports whether the image tells how it was built, and with that when: then neither
// the attestation manifest nor the index is the same twice.
func (img *image) hasProvenance() bool {
	return slices.ContainsFunc(img.parts, func(p imagePart) bool { return len(p.provenance) > 0 })
}

// provenanceText renders what the image tells of its build.
func (img *image) provenanceText() string {
	if img == nil {
		return ""
	}
	var all []string
	for _, p := range img.parts {
		all = append(all, p.provenance...)
	}
	return strings.Join(all, "\n")
}

// text renders the image for a comparison by eye and by diff; all of it but the provenance.
func (img *image) text() string {
	if img == nil {
		return ""
	}
	var b strings.Builder
	if !img.hasProvenance() {
		fmt.Fprintf(&b, "image %s\n", img.digest)
	}
	for _, p := range img.parts {
		p.write(&b)
	}
	return b.String()
}

func (p imagePart) write(b *strings.Builder) {
	fmt.Fprintf(b, "manifest of %s\n", p.descriptor)
	if len(p.provenance) == 0 {
		fmt.Fprintf(b, "digest %s\n", p.digest)
		fmt.Fprintf(b, "layers:\n  %s\n", strings.Join(p.layers, "\n  "))
	}
	fmt.Fprintf(b, "diff ids:\n  %s\n", strings.Join(p.diffIDs, "\n  "))
	fmt.Fprintf(b, "config:\n%s\n", p.config)
	for _, s := range p.statements {
		fmt.Fprintf(b, "statement:\n%s\n", s)
	}
}
