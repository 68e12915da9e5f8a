package store

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a cached build costs here: every blob is asked for and there, then the
// import finds nothing to change.
func BenchmarkImportUnchanged(b *testing.B) {
	s, ctx := openStore(b), context.Background()
	root := putImage(b, s, randomImage(b, 1000, 10, "linux/amd64"))
	importAs(b, s, root, "app")
	var all []ocispecs.Descriptor
	if err := s.walk(ctx, root, func(d ocispecs.Descriptor, _ []byte) error { all = append(all, d); return nil }); err != nil {
		b.Fatal(err)
	}
	before := snapshot(b, s.Dir())
	for b.Loop() {
		for _, d := range all {
			if _, err := s.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(d)); !errdefs.IsAlreadyExists(err) {
				b.Fatal(err)
			}
		}
		importAs(b, s, root, "app")
	}
	if after := snapshot(b, s.Dir()); before != after {
		b.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func manyImages(b *testing.B, n int) *Store {
	b.Helper()
	s := openStore(b)
	idx := emptyIndex()
	for i := range n {
		config := toJSON(b, ocispecs.Image{Author: fmt.Sprint(i), Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}})
		m := ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: descriptor(ocispecs.MediaTypeImageConfig, config)}
		for j := range 8 {
			m.Layers = append(m.Layers, descriptor(ocispecs.MediaTypeImageLayer, fmt.Sprint(i, j)))
			rawBlob(b, s, fmt.Sprint(i, j))
		}
		rawBlob(b, s, config)
		rawBlob(b, s, toJSON(b, m))
		idx.Manifests = append(idx.Manifests, named(descriptor(m.MediaType, toJSON(b, m)), fmt.Sprintf("docker.io/library/app:%d", i)))
	}
	if err := s.writeIndex(idx); err != nil {
		b.Fatal(err)
	}
	return s
}

// rawBlob writes without fsync: set-up only.
func rawBlob(b *testing.B, s *Store, text string) {
	b.Helper()
	if err := os.WriteFile(s.blobPath(digest.FromString(text)), []byte(text), 0o444); err != nil && !os.IsPermission(err) {
		b.Fatal(err)
	}
}

func BenchmarkImages1000(b *testing.B) {
	s := manyImages(b, 1000)
	for b.Loop() {
		if list, err := s.Images(context.Background(), ListOptions{}); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}

func BenchmarkResolve1000(b *testing.B) {
	s := manyImages(b, 1000)
	for b.Loop() {
		if _, err := s.Resolve(context.Background(), "app:999"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImport1000(b *testing.B) {
	s := manyImages(b, 1000)
	d := must[ocispecs.Descriptor](b)(s.Resolve(context.Background(), "app:1"))
	for i := 0; b.Loop(); i++ {
		importAs(b, s, d, fmt.Sprintf("new:%d", i%2), fmt.Sprintf("new:%d", i))
	}
}

// 1,000 images with 10 blobs each, all in use.
func BenchmarkGC10000Kept(b *testing.B) {
	s := manyImages(b, 1000)
	for b.Loop() {
		if r, err := s.GC(context.Background(), GCPolicy{Grace: -1}); err != nil || r.Kept < 9999 || r.Blobs > 0 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}

func BenchmarkGC10000Gone(b *testing.B) {
	s := openStore(b)
	for b.Loop() {
		b.StopTimer()
		for i := range 10_000 {
			rawBlob(b, s, fmt.Sprint(i))
		}
		b.StartTimer()
		if r, err := s.GC(context.Background(), GCPolicy{Grace: -1}); err != nil || r.Blobs != 10_000 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}

// What durability costs: a blob's way in, and the same without the fsync.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, ctx := openStore(b), context.Background()
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				copy(buf, fmt.Sprint(i, time.Now()))
				w := must[content.Writer](b)(s.Content().Writer(ctx, content.WithRef("r")))
				if _, err := w.Write(buf); err != nil {
					b.Fatal(err)
				}
				if err := w.Commit(ctx, int64(size), ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
