package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestBadIndex(t *testing.T) {
	var report strings.Builder
	for _, text := range []string{
		``,
		`{"schemaVersion":2,"manif`,
		`[]`,
		`{}`,
		`{"schemaVersion":1,"manifests":[]}`,
		`{"schemaVersion":2}`,
		`{"schemaVersion":2,"manifests":[]} {}`,
		`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:abc","size":1}]}`,
		`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:../../../../etc/passwd","size":1}]}`,
		`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"` + someDigest + `","size":-1}]}`,
		`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","size":1}]}`,
	} {
		s := openStore(t)
		blob := putBlob(t, s, []byte("precious"), "text/plain")
		if err := os.WriteFile(s.path("index.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := s.Images(context.Background(), ListOptions{})
		if err == nil {
			t.Errorf("%s is accepted", text)
			continue
		}
		fmt.Fprintf(&report, "%s\n\t%s\n", text, strings.ReplaceAll(err.Error(), s.Dir(), "<store>"))
		// Nothing may take a damaged index for an empty one.
		if _, err := s.GC(context.Background(), GCPolicy{Grace: -1}); err == nil || !s.has(blob.Digest) {
			t.Errorf("gc on %s: %v, blob there: %v", text, err, s.has(blob.Digest))
		}
		if err := s.Tag(context.Background(), "a", "b"); err == nil {
			t.Errorf("tagging on %s works", text)
		}
		if b, _ := os.ReadFile(s.path("index.json")); string(b) != text {
			t.Errorf("the damaged index was overwritten with %s", b)
		}
	}
	golden(t, "bad_index", report.String())
}

func TestImportNames(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	one := putImage(t, s, randomImage(t, 100, 2, "linux/amd64"))
	two := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))

	importAs(t, s, one)
	importAs(t, s, one, "app", "localhost:5000/x/y:1", "docker.io/library/app:latest")
	importAs(t, s, two, "app")
	importAs(t, s, two)
	if got, want := indexEntries(t, s), fmt.Sprintf("docker.io/library/app:latest %s\nlocalhost:5000/x/y:1 %s\n", two.Digest, one.Digest); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, e := range must[*ocispecs.Index](t)(s.readIndex()).Manifests {
		if a := e.Annotations; a[annotationName] != a[ocispecs.AnnotationRefName] || a[annotationName] == "" {
			t.Errorf("annotations %v", a)
		}
	}
	for _, bad := range []string{"", "App", "app@" + someDigest, "a b", "app:", strings.Repeat("a/", 200) + "a"} {
		if err := s.Import(ctx, one, bad); err == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
	img := must[v1.Image](t)(layout.Path(s.Dir()).Image(v1.Hash{Algorithm: "sha256", Hex: two.Digest.Encoded()}))
	if h := must[v1.Hash](t)(img.Digest()); h.String() != two.Digest.String() {
		t.Errorf("go-containerregistry reads %s, want %s", h, two.Digest)
	}
}

func indexEntries(t testing.TB, s *Store) string {
	t.Helper()
	var b strings.Builder
	for _, e := range must[*ocispecs.Index](t)(s.readIndex()).Manifests {
		fmt.Fprintf(&b, "%s %s\n", entryName(e), e.Digest)
	}
	return b.String()
}

// The descriptor that BuildKit returns has the time of the export in it.
func TestUnchangedImportWritesNothing(t *testing.T) {
	s := openStore(t)
	d := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	d.Annotations = map[string]string{ocispecs.AnnotationCreated: "2026-01-01T00:00:00Z"}
	importAs(t, s, d, "app", "app:2")
	before := snapshot(t, s.Dir())
	d.Annotations = map[string]string{ocispecs.AnnotationCreated: "2026-01-02T00:00:00Z"}
	importAs(t, s, d, "app", "app:2")
	if after := snapshot(t, s.Dir()); before != after {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// snapshot lists all files with what changes when they are written.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		fmt.Fprintln(&b, path, fi.Size(), fi.ModTime().UnixNano(), fi.Mode())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestImportIncomplete(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(t *testing.T, s *Store, m ocispecs.Manifest, d ocispecs.Descriptor)
		is     error
		digest func(m ocispecs.Manifest, d ocispecs.Descriptor) ocispecs.Descriptor
	}{
		{"missing layer", func(t *testing.T, s *Store, m ocispecs.Manifest, _ ocispecs.Descriptor) {
			os.Remove(s.blobPath(m.Layers[1].Digest))
		}, ErrMissing, func(m ocispecs.Manifest, _ ocispecs.Descriptor) ocispecs.Descriptor { return m.Layers[1] }},
		{"missing config", func(t *testing.T, s *Store, m ocispecs.Manifest, _ ocispecs.Descriptor) {
			os.Remove(s.blobPath(m.Config.Digest))
		}, ErrMissing, func(m ocispecs.Manifest, _ ocispecs.Descriptor) ocispecs.Descriptor { return m.Config }},
		{"missing manifest", func(t *testing.T, s *Store, _ ocispecs.Manifest, d ocispecs.Descriptor) {
			os.Remove(s.blobPath(d.Digest))
		}, ErrMissing, func(_ ocispecs.Manifest, d ocispecs.Descriptor) ocispecs.Descriptor { return d }},
		{"cut-off layer", func(t *testing.T, s *Store, m ocispecs.Manifest, _ ocispecs.Descriptor) {
			if err := os.Truncate(s.blobPath(m.Layers[0].Digest), 3); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged, func(m ocispecs.Manifest, _ ocispecs.Descriptor) ocispecs.Descriptor { return m.Layers[0] }},
		{"damaged manifest", func(t *testing.T, s *Store, _ ocispecs.Manifest, d ocispecs.Descriptor) {
			damage(t, s, d.Digest)
		}, ErrDamaged, func(_ ocispecs.Manifest, d ocispecs.Descriptor) ocispecs.Descriptor { return d }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			d := putImage(t, s, randomImage(t, 100, 2, "linux/amd64"))
			var m ocispecs.Manifest
			if err := s.readJSON(d, maxManifestBytes, &m); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, s, m, d)
			err := s.Import(context.Background(), d, "app")
			var blob *BlobError
			if !errors.Is(err, tt.is) || !errors.As(err, &blob) || blob.Digest != tt.digest(m, d).Digest {
				t.Errorf("got %v, want %v of %s", err, tt.is, tt.digest(m, d).Digest)
			}
			if e := indexEntries(t, s); e != "" {
				t.Errorf("entries after a failed import: %s", e)
			}
		})
	}
}

func TestImportMediaTypes(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	blob := putBlob(t, s, []byte("{}"), "application/x-whatever")
	if err := s.Import(ctx, blob, "app"); err == nil || !strings.Contains(err.Error(), "application/x-whatever is neither") {
		t.Errorf("got %v", err)
	}
	// Unknown layer and config types are an artifact: none of the store's business.
	m := ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: blob, Layers: []ocispecs.Descriptor{blob}}
	m.SchemaVersion = 2
	raw := must[[]byte](t)(json.Marshal(m))
	importAs(t, s, putBlob(t, s, raw, ocispecs.MediaTypeImageManifest), "artifact")
	sum := must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true}))[0]
	if sum.Err != nil || len(sum.Platforms) != 0 || sum.Manifests != 1 {
		t.Errorf("got %+v", sum)
	}
	// A foreign layer may be anywhere.
	m.Layers = append(m.Layers, ocispecs.Descriptor{
		MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: someDigest, Size: 10,
		URLs: []string{"https://example.com/layer"},
	})
	raw = must[[]byte](t)(json.Marshal(m))
	importAs(t, s, putBlob(t, s, raw, ocispecs.MediaTypeImageManifest), "foreign")
	// A manifest whose descriptor names no digest a path could be made of.
	raw = []byte(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:../../x","size":1},"layers":[]}`)
	if err := s.Import(ctx, putBlob(t, s, raw, ocispecs.MediaTypeImageManifest), "evil"); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// Entries of other tools keep their place and their names.
func TestForeignEntries(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	bare := d
	bare.Annotations = map[string]string{ocispecs.AnnotationRefName: "latest"}
	idx := emptyIndex()
	idx.Manifests = append(idx.Manifests, bare)
	idx.Annotations = map[string]string{"who": "another tool"}
	if err := os.WriteFile(s.path("index.json"), must[[]byte](t)(json.Marshal(idx)), 0o644); err != nil {
		t.Fatal(err)
	}
	importAs(t, s, d, "app")
	if err := s.Tag(ctx, "latest", "found"); err != nil {
		t.Error(err)
	}
	got := must[*ocispecs.Index](t)(s.readIndex())
	if len(got.Manifests) != 3 || got.Annotations["who"] != "another tool" {
		t.Errorf("got %+v", got)
	}
}
