package store

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "rewrite golden files")

func openStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// putBlob writes one blob as BuildKit's export does.
func putBlob(t testing.TB, s *Store, b []byte, mediaType string) ocispecs.Descriptor {
	t.Helper()
	d := ocispecs.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if err := content.WriteBlob(context.Background(), s.Content(), d.Digest.String(), bytes.NewReader(b), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// putImage writes an image's blobs without naming it.
func putImage(t testing.TB, s *Store, img v1.Image) ocispecs.Descriptor {
	t.Helper()
	for _, l := range must[[]v1.Layer](t)(img.Layers()) {
		rc := must[io.ReadCloser](t)(l.Compressed())
		b := must[[]byte](t)(io.ReadAll(rc))
		putBlob(t, s, b, string(must[types.MediaType](t)(l.MediaType())))
	}
	putBlob(t, s, must[[]byte](t)(img.RawConfigFile()), ocispecs.MediaTypeImageConfig)
	return putBlob(t, s, must[[]byte](t)(img.RawManifest()), string(must[types.MediaType](t)(img.MediaType())))
}

func putIndex(t testing.TB, s *Store, idx v1.ImageIndex) ocispecs.Descriptor {
	t.Helper()
	for _, d := range must[*v1.IndexManifest](t)(idx.IndexManifest()).Manifests {
		if d.MediaType.IsIndex() {
			putIndex(t, s, must[v1.ImageIndex](t)(idx.ImageIndex(d.Digest)))
		} else {
			putImage(t, s, must[v1.Image](t)(idx.Image(d.Digest)))
		}
	}
	return putBlob(t, s, must[[]byte](t)(idx.RawManifest()), string(must[types.MediaType](t)(idx.MediaType())))
}

func importAs(t testing.TB, s *Store, d ocispecs.Descriptor, names ...string) {
	t.Helper()
	if err := s.Import(context.Background(), d, names...); err != nil {
		t.Fatal(err)
	}
}

// randomImage has OCI media types, a platform and layers of size bytes.
func randomImage(t testing.TB, size int64, layers int64, platform string) v1.Image {
	t.Helper()
	img := must[v1.Image](t)(random.Image(size, layers))
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	config := must[*v1.ConfigFile](t)(img.ConfigFile()).DeepCopy()
	config.OS, config.Architecture, _ = strings.Cut(platform, "/")
	return must[v1.Image](t)(mutate.ConfigFile(img, config))
}

// randomIndex has an image for each platform and an attestation for the first.
func randomIndex(t testing.TB, platforms ...string) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, p := range platforms {
		os, arch, _ := strings.Cut(p, "/")
		img := randomImage(t, 200, 2, p)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}},
		})
		if i == 0 {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
				Add: randomImage(t, 50, 1, "unknown/unknown"),
				Descriptor: v1.Descriptor{
					Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
					Annotations: map[string]string{
						"vnd.docker.reference.type":   "attestation-manifest",
						"vnd.docker.reference.digest": must[v1.Hash](t)(img.Digest()).String(),
					},
				},
			})
		}
	}
	return idx
}

// damage changes a blob's bytes and keeps its size.
func damage(t testing.TB, s *Store, d digest.Digest) {
	t.Helper()
	p := s.blobPath(d)
	b := must[[]byte](t)(os.ReadFile(p))
	b[len(b)/2] ^= 0xff
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// golden compares got with testdata/<name>.txt. Paths of this run read <dir>.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// checkWhole fails unless index.json is readable and everything it names is
// there, byte by byte, and returns how many names there are.
func checkWhole(t testing.TB, s *Store) int {
	t.Helper()
	idx := must[*ocispecs.Index](t)(s.readIndex())
	for _, d := range idx.Manifests {
		if err := s.Verify(context.Background(), d.Digest.String()); err != nil {
			t.Errorf("%s: %v", entryName(d), err)
		}
	}
	checkBlobs(t, s)
	return len(idx.Manifests)
}

// checkBlobs fails if any blob's bytes are not those of its name.
func checkBlobs(t testing.TB, s *Store) {
	t.Helper()
	err := s.eachBlob(context.Background(), func(info content.Info) error {
		b, err := os.ReadFile(s.blobPath(info.Digest))
		if err == nil && digest.FromBytes(b) != info.Digest {
			t.Errorf("blob %s holds other bytes", info.Digest)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
