package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestImages(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	created := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	img := must[v1.Image](t)(mutate.CreatedAt(randomImage(t, 1000, 2, "linux/arm64"), v1.Time{Time: created}))
	single := putImage(t, s, img)
	multi := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, single, "b", "a")
	importAs(t, s, multi)

	list := must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true}))
	var names []string
	for _, sum := range list {
		names = append(names, sum.Name)
		if sum.Err != nil {
			t.Error(sum.Err)
		}
	}
	if want := []string{"", "docker.io/library/a:latest", "docker.io/library/b:latest"}; !slices.Equal(names, want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	var size, unpacked int64
	for _, l := range must[[]v1.Layer](t)(img.Layers()) {
		size += must[int64](t)(l.Size())
		unpacked += must[int64](t)(io.Copy(io.Discard, must[io.ReadCloser](t)(l.Uncompressed())))
	}
	size += single.Size + must[*v1.Manifest](t)(img.Manifest()).Config.Size
	want := Summary{
		Name: "docker.io/library/a:latest", Digest: single.Digest, MediaType: single.MediaType,
		Platforms: []string{"linux/arm64"}, Manifests: 1, Size: size, Unpacked: unpacked, Created: created,
	}
	if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := list[0]; got.Manifests != 2 || !slices.Equal(got.Platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("got %+v", got)
	}

	// Sizes are remembered: without the layer's bytes they are still known.
	again := must[[]Summary](t)(s.Images(ctx, ListOptions{}))
	if again[1].Unpacked != -1 {
		t.Errorf("unpacked is %d without being asked for", again[1].Unpacked)
	}
	damage(t, s, single.Digest)
	broken := must[[]Summary](t)(s.Images(ctx, ListOptions{}))
	if !errors.Is(broken[1].Err, ErrDamaged) || broken[0].Err != nil {
		t.Errorf("got %v and %v, want the damaged one only", broken[1].Err, broken[0].Err)
	}
}

// A number cut off by a power cut must not be taken for the size.
func TestSizeFileCutOff(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	img := randomImage(t, 1000, 1, "linux/amd64")
	importAs(t, s, putImage(t, s, img), "a")
	sizes := func() int64 { return must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true}))[0].Unpacked }
	want := sizes()
	layer := must[*v1.Manifest](t)(img.Manifest()).Layers[0].Digest.Hex
	path := s.private(sizesDir, layer)
	for _, text := range []string{"", "1", "-5\n", "x\n"} {
		if err := os.MkdirAll(s.private(sizesDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := sizes(); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestImageValidates(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	ggcr := randomIndex(t, "linux/amd64", "linux/arm64")
	importAs(t, s, putIndex(t, s, ggcr), "multi")
	importAs(t, s, putImage(t, s, randomImage(t, 500, 3, "linux/amd64")), "single")

	idx := must[v1.ImageIndex](t)(s.Index(ctx, "multi"))
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	if got, want := must[v1.Hash](t)(idx.Digest()), must[v1.Hash](t)(ggcr.Digest()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := validate.Image(must[v1.Image](t)(s.Image(ctx, "single", nil))); err != nil {
		t.Error(err)
	}
	img := must[v1.Image](t)(s.Image(ctx, "multi", &ocispecs.Platform{OS: "linux", Architecture: "amd64"}))
	if c := must[*v1.ConfigFile](t)(img.ConfigFile()); c.Architecture != "amd64" {
		t.Errorf("got %s", c.Architecture)
	}
}

func TestDamageIsSeen(t *testing.T) {
	for _, which := range []string{"layer", "config", "manifest", "cut-off layer", "longer layer", "missing layer"} {
		t.Run(which, func(t *testing.T) {
			s, ctx := openStore(t), context.Background()
			d := putImage(t, s, randomImage(t, 5000, 2, "linux/amd64"))
			importAs(t, s, d, "app")
			var m ocispecs.Manifest
			if err := s.readJSON(d, maxManifestBytes, &m); err != nil {
				t.Fatal(err)
			}
			layer := s.blobPath(m.Layers[1].Digest)
			want := ErrDamaged
			switch which {
			case "layer":
				damage(t, s, m.Layers[1].Digest)
			case "config":
				damage(t, s, m.Config.Digest)
			case "manifest":
				damage(t, s, d.Digest)
			case "cut-off layer":
				truncate(t, layer, 10)
			case "longer layer":
				truncate(t, layer, m.Layers[1].Size+1)
			case "missing layer":
				os.Remove(layer)
				want = ErrMissing
			}
			if err := s.Verify(ctx, "app"); !errors.Is(err, want) {
				t.Errorf("verify: got %v, want %v", err, want)
			}
			if err := s.Save(ctx, io.Discard, []string{"app"}, SaveOptions{}); !errors.Is(err, want) {
				t.Errorf("save: got %v, want %v", err, want)
			}
			img, err := s.Image(ctx, "app", nil)
			if err == nil {
				err = validate.Image(img)
			}
			if err == nil { // gzip may notice before the digest does
				t.Error("the image validates")
			}
		})
	}
}

func TestInspect(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	ggcr := randomIndex(t, "linux/amd64", "linux/arm64")
	d := putIndex(t, s, ggcr)
	importAs(t, s, d, "multi", "multi:2")
	in := must[*Inspection](t)(s.Inspect(ctx, "multi"))
	if want := []string{"docker.io/library/multi:2", "docker.io/library/multi:latest"}; !slices.Equal(in.Names, want) {
		t.Errorf("names %q, want %q", in.Names, want)
	}
	if in.Descriptor.Digest != d.Digest || in.Index == nil || len(in.Index.Manifests) != 3 {
		t.Errorf("descriptor %+v, index %+v", in.Descriptor, in.Index)
	}
	if len(in.Images) != 2 || in.Images[1].Platform.Architecture != "arm64" {
		t.Fatalf("images %+v", in.Images)
	}
	if len(in.Others) != 1 || in.Others[0].For != in.Images[0].Descriptor.Digest {
		t.Errorf("others %+v, want the attestation for %s", in.Others, in.Images[0].Descriptor.Digest)
	}
	for _, img := range in.Images {
		if len(img.Layers) != 2 || len(img.History) != 2 {
			t.Fatalf("got %d layers, %d steps", len(img.Layers), len(img.History))
		}
		for i, l := range img.Layers {
			if l.DiffID != img.Config.RootFS.DiffIDs[i] || l.Unpacked < 200 || img.History[i].Layer != l.Digest {
				t.Errorf("layer %+v, step %+v", l, img.History[i])
			}
		}
	}
	sum := must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true}))[0]
	if in.Size != sum.Size || in.Unpacked != sum.Unpacked {
		t.Errorf("inspect says %d/%d, images %d/%d", in.Size, in.Unpacked, sum.Size, sum.Unpacked)
	}
	if _, err := json.Marshal(in); err != nil {
		t.Error(err)
	}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}
