package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// age makes all blobs look unused for that long.
func age(t testing.TB, s *Store, by time.Duration) {
	t.Helper()
	when := time.Now().Add(-by)
	err := s.eachBlob(context.Background(), func(i content.Info) error {
		return os.Chtimes(s.blobPath(i.Digest), when, when)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func blobCount(t testing.TB, s *Store) (n int, bytes int64) {
	t.Helper()
	err := s.eachBlob(context.Background(), func(i content.Info) error { n, bytes = n+1, bytes+i.Size; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n, bytes
}

func TestGC(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	multi := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, multi, "multi")
	unnamed := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, unnamed)
	kept, keptBytes := blobCount(t, s)
	gone := putImage(t, s, randomImage(t, 100, 3, "linux/amd64"))
	importAs(t, s, gone, "gone")
	if _, err := s.Remove(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	all, allBytes := blobCount(t, s)

	young := GCReport{Kept: kept, KeptBytes: keptBytes, Young: all - kept, YoungBytes: allBytes - keptBytes}
	if diff := cmp.Diff(young, must[GCReport](t)(s.GC(ctx, GCPolicy{}))); diff != "" {
		t.Errorf("young: -want +got:\n%s", diff)
	}
	age(t, s, 2*time.Hour)
	swept := GCReport{Kept: kept, KeptBytes: keptBytes, Blobs: all - kept, Bytes: allBytes - keptBytes}
	if diff := cmp.Diff(swept, must[GCReport](t)(s.GC(ctx, GCPolicy{DryRun: true}))); diff != "" {
		t.Errorf("dry run: -want +got:\n%s", diff)
	}
	if n, _ := blobCount(t, s); n != all {
		t.Errorf("a dry run deleted %d blobs", all-n)
	}
	if diff := cmp.Diff(swept, must[GCReport](t)(s.GC(ctx, GCPolicy{}))); diff != "" {
		t.Errorf("gc: -want +got:\n%s", diff)
	}
	checkWhole(t, s)

	report := must[GCReport](t)(s.GC(ctx, GCPolicy{Untagged: true, Grace: -1}))
	if report.Untagged != 1 || report.Blobs != 3 {
		t.Errorf("untagged: got %+v", report)
	}
	if n := checkWhole(t, s); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	// A memo keeps an image that has no name.
	if _, err := s.Remove(ctx, "multi"); err != nil {
		t.Fatal(err)
	}
	before, _ := blobCount(t, s)
	keep := []digest.Digest{multi.Digest, someDigest, "nonsense"}
	if report := must[GCReport](t)(s.GC(ctx, GCPolicy{Grace: -1, Keep: keep})); report.Blobs != 0 || report.Kept != before {
		t.Errorf("keep: got %+v", report)
	}
	must[GCReport](t)(s.GC(ctx, GCPolicy{Grace: -1}))
	if n, _ := blobCount(t, s); n != 0 {
		t.Errorf("%d blobs left", n)
	}
}

func TestGCLeases(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	other := must[*Store](t)(Open(s.Dir()))
	defer other.Close()
	old := putBlob(t, s, []byte("old"), "text/plain")
	relied := putBlob(t, s, []byte("relied upon"), "text/plain")
	age(t, s, 48*time.Hour)

	lease := must[*Lease](t)(s.Lease(ctx))
	if _, err := s.Content().Writer(ctx, content.WithRef("x"), content.WithDescriptor(relied)); err == nil {
		t.Fatal("the blob should be there")
	}
	fresh := putBlob(t, s, []byte("fresh"), "text/plain")
	report := must[GCReport](t)(other.GC(ctx, GCPolicy{Grace: -1}))
	if report.Blobs != 1 || report.Young != 2 || s.has(old.Digest) || !s.has(relied.Digest) || !s.has(fresh.Digest) {
		t.Errorf("under a lease: got %+v", report)
	}
	for range 2 {
		if err := lease.Close(); err != nil {
			t.Error(err)
		}
	}
	if report := must[GCReport](t)(other.GC(ctx, GCPolicy{Grace: -1})); report.Blobs != 2 {
		t.Errorf("without a lease: got %+v", report)
	}
}

func TestGCUnreadable(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putImage(t, s, randomImage(t, 100, 2, "linux/amd64"))
	importAs(t, s, d, "app")
	junk := putBlob(t, s, []byte("junk"), "text/plain")
	damage(t, s, d.Digest)
	_, err := s.GC(ctx, GCPolicy{Grace: -1})
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "remove the image it belongs to, app:latest,") || !s.has(junk.Digest) {
		t.Errorf("got %v, junk there: %v", err, s.has(junk.Digest))
	}
	if _, err := s.Remove(ctx, "app"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(ctx, GCPolicy{Grace: -1}); err != nil {
		t.Error(err)
	}
	if n, _ := blobCount(t, s); n != 0 {
		t.Errorf("%d blobs left", n)
	}
}

// What an index entry of a kind unknown here refers to is not garbage.
func TestGCUnknownMediaType(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	leaf := putBlob(t, s, []byte("leaf"), "text/plain")
	raw := must[[]byte](t)(json.Marshal(map[string]any{"blobs": []ocispecs.Descriptor{leaf}}))
	root := putBlob(t, s, raw, "application/vnd.oci.artifact.manifest.v1+json")
	idx := emptyIndex()
	idx.Manifests = append(idx.Manifests, root)
	if err := s.writeIndex(idx); err != nil {
		t.Fatal(err)
	}
	if report := must[GCReport](t)(s.GC(ctx, GCPolicy{Grace: -1})); report.Kept != 2 {
		t.Errorf("got %+v", report)
	}
}

// The same bytes can be a layer of one image and the manifest of another.
func TestGCManifestAsLayer(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	config := putBlob(t, s, []byte("{}"), ocispecs.MediaTypeImageConfig)
	m := ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: config, Layers: []ocispecs.Descriptor{
		{MediaType: ocispecs.MediaTypeImageLayer, Digest: d.Digest, Size: d.Size},
	}}
	m.SchemaVersion = 2
	importAs(t, s, putBlob(t, s, must[[]byte](t)(json.Marshal(m)), ocispecs.MediaTypeImageManifest), "a")
	importAs(t, s, d, "b")
	if report := must[GCReport](t)(s.GC(ctx, GCPolicy{Grace: -1})); report.Blobs != 0 {
		t.Errorf("got %+v", report)
	}
	checkWhole(t, s)
}

func TestGCForgetsSizes(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	importAs(t, s, putImage(t, s, randomImage(t, 100, 2, "linux/amd64")), "app")
	must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true}))
	must[Removed](t)(s.Remove(ctx, "app"))
	must[GCReport](t)(s.GC(ctx, GCPolicy{Grace: -1}))
	if left, _ := os.ReadDir(s.private(sizesDir)); len(left) != 0 {
		t.Errorf("sizes left: %v", left)
	}
}

// Whoever relies on a blob holds the lock shared; GC must wait for that.
func TestGCWaits(t *testing.T) {
	s := openStore(t)
	unlock := must[func()](t)(s.lockBlobs(context.Background(), true))
	defer unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("waited long enough")
	cancel(why)
	if _, err := s.GC(ctx, GCPolicy{}); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}

// The other way round: nobody relies on a blob, puts one in place, takes a lease
// or names an image while GC runs.
func TestOthersWaitForGC(t *testing.T) {
	s := openStore(t)
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	why := errors.New("waited long enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	w := must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("new")))
	cancel(why)
	unlock := must[func()](t)(s.lockBlobs(context.Background(), false))
	defer unlock()
	for name, f := range map[string]func() error{
		"relying on a blob": func() error {
			_, err := s.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(d))
			return err
		},
		"commit": func() error { return w.Commit(ctx, 0, "") },
		"lease":  func() error { _, err := s.Lease(ctx); return err },
		"import": func() error { return s.Import(ctx, d, "app") },
	} {
		if err := f(); !errors.Is(err, why) {
			t.Errorf("%s: got %v, want %v", name, err, why)
		}
	}
}
