package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func save(t testing.TB, s *Store, o SaveOptions, refs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Save(context.Background(), &buf, refs, o); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func opener(b []byte) tarball.Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func TestSaveDocker(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	one := randomImage(t, 1000, 3, "linux/amd64")
	importAs(t, s, putImage(t, s, one), "one:1", "ghcr.io/me/one:v")
	importAs(t, s, putIndex(t, s, randomIndex(t, "linux/s390x", "linux/riscv64")), "multi")
	archive := save(t, s, SaveOptions{Format: FormatDocker, Platform: &ocispecs.Platform{OS: "linux", Architecture: "riscv64"}}, "multi")
	want := must[v1.Image](t)(s.Image(ctx, "multi", &ocispecs.Platform{OS: "linux", Architecture: "riscv64"}))
	compareDocker(t, archive, "multi", want)

	archive = save(t, s, SaveOptions{Format: FormatDocker}, "one:1", "ghcr.io/me/one:v")
	compareDocker(t, archive, "one:1", one)
	compareDocker(t, archive, "ghcr.io/me/one:v", one)
	m := must[tarball.Manifest](t)(tarball.LoadManifest(opener(archive)))
	if len(m) != 1 || len(m[0].RepoTags) != 2 {
		t.Errorf("one image with two names is saved as %+v", m)
	}
	if again := save(t, s, SaveOptions{Format: FormatDocker}, "one:1", "ghcr.io/me/one:v"); !bytes.Equal(archive, again) {
		t.Error("saving twice gives different bytes")
	}
	err := s.Save(ctx, io.Discard, []string{"multi"}, SaveOptions{Format: FormatDocker})
	if err == nil || !strings.Contains(err.Error(), "2 platforms (linux/s390x, linux/riscv64)") {
		t.Errorf("no platform for this host: got %v", err)
	}
}

// compareDocker reads an archive with go-containerregistry.
func compareDocker(t *testing.T, archive []byte, ref string, want v1.Image) {
	t.Helper()
	tag := must[name.Tag](t)(name.NewTag(ref))
	got := must[v1.Image](t)(tarball.Image(opener(archive), &tag))
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	if g, w := must[v1.Hash](t)(got.ConfigName()), must[v1.Hash](t)(want.ConfigName()); g != w {
		t.Errorf("%s: config %s, want %s", ref, g, w)
	}
	g, w := must[*v1.Manifest](t)(got.Manifest()).Layers, must[*v1.Manifest](t)(want.Manifest()).Layers
	if len(g) != len(w) {
		t.Fatalf("%s: %d layers, want %d", ref, len(g), len(w))
	}
	for i := range g {
		if g[i].Digest != w[i].Digest || g[i].Size != w[i].Size {
			t.Errorf("%s: layer %d is %s, want %s", ref, i, g[i].Digest, w[i].Digest)
		}
	}
}

func TestSaveOCI(t *testing.T) {
	s := openStore(t)
	d := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, d, "multi:7")
	dir := t.TempDir()
	untar(t, save(t, s, SaveOptions{}, "multi:7"), dir)
	idx := must[v1.ImageIndex](t)(layout.ImageIndexFromPath(dir))
	if err := validate.Index(must[v1.ImageIndex](t)(idx.ImageIndex(v1.Hash{Algorithm: "sha256", Hex: d.Digest.Encoded()}))); err != nil {
		t.Error(err)
	}
	want := map[string]string{annotationName: "docker.io/library/multi:7", ocispecs.AnnotationRefName: "7"}
	if diff := cmp.Diff(want, must[*v1.IndexManifest](t)(idx.IndexManifest()).Manifests[0].Annotations); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func untar(t testing.TB, b []byte, dir string) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, hdr.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, must[[]byte](t)(io.ReadAll(tr)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	gz := func(b []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, _ = w.Write(b)
		w.Close()
		return buf.Bytes()
	}
	zst := func(b []byte) []byte {
		w, _ := zstd.NewWriter(nil)
		return w.EncodeAll(b, nil)
	}
	for _, format := range []Format{FormatOCI, FormatDocker} {
		for packing, pack := range map[string]func([]byte) []byte{"plain": slices.Clone[[]byte], "gzip": gz, "zstd": zst} {
			t.Run(string(format)+" "+packing, func(t *testing.T) {
				from, to, ctx := openStore(t), openStore(t), context.Background()
				importAs(t, from, putIndex(t, from, randomIndex(t, "linux/amd64", "linux/arm64")), "multi", "ghcr.io/m:1")
				single := putImage(t, from, randomImage(t, 300, 2, "linux/amd64"))
				importAs(t, from, single)
				o := SaveOptions{Format: format, Platform: &ocispecs.Platform{OS: "linux", Architecture: "arm64"}}
				refs := []string{"multi", "ghcr.io/m:1"}
				if format == FormatOCI {
					o.Platform = nil
					refs = append(refs, single.Digest.String())
				}
				list, err := to.Load(ctx, bytes.NewReader(pack(save(t, from, o, refs...))), LoadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if len(list) != len(refs)-1 {
					t.Fatalf("got %+v", list)
				}
				want := must[ocispecs.Descriptor](t)(from.Resolve(ctx, "multi")).Digest
				if format == FormatDocker {
					img := must[v1.Image](t)(from.Image(ctx, "multi", o.Platform))
					want = v1Digest(must[v1.Hash](t)(img.Digest()))
				}
				for _, ref := range refs[:2] {
					if got := must[ocispecs.Descriptor](t)(to.Resolve(ctx, ref)).Digest; got != want {
						t.Errorf("%s is %s, want %s", ref, got, want)
					}
				}
				checkWhole(t, to)
				before := snapshot(t, to.path("blobs"))
				if _, err := to.Load(ctx, bytes.NewReader(save(t, from, o, refs...)), LoadOptions{}); err != nil {
					t.Error(err)
				}
				if after := snapshot(t, to.path("blobs")); before != after {
					t.Error("loading again wrote blobs")
				}
				if left, _ := os.ReadDir(to.private(sessionsDir)); len(left) != 0 {
					t.Errorf("sessions left: %v", left)
				}
			})
		}
	}
}

// Archives that go-containerregistry writes have compressed layers, no index.json.
func TestLoadTarball(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	img := randomImage(t, 1000, 3, "linux/amd64")
	var buf bytes.Buffer
	if err := tarball.Write(must[name.Tag](t)(name.NewTag("app:1")), img, &buf); err != nil {
		t.Fatal(err)
	}
	list := must[[]Loaded](t)(s.Load(ctx, &buf, LoadOptions{}))
	if len(list) != 1 || !slices.Equal(list[0].Names, []string{"docker.io/library/app:1"}) {
		t.Fatalf("got %+v", list)
	}
	got := must[v1.Image](t)(s.Image(ctx, "app:1", nil))
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	if g, w := must[v1.Hash](t)(got.ConfigName()), must[v1.Hash](t)(img.ConfigName()); g != w {
		t.Errorf("config %s, want %s", g, w)
	}
	checkWhole(t, s)
}
