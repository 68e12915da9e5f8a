package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallDisk is a file system of 2 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("zlayer-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a full disk needs a small one, and mounting a tmpfs is not possible here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	ctx := context.Background()
	s := must[*Store](t)(Open(filepath.Join(smallDisk(t), "store")))
	t.Cleanup(func() { s.Close() })
	if err := buildImage(ctx, s, 1, 100_000, nil, "small"); err != nil {
		t.Fatal(err)
	}

	// Export: the big layer does not fit.
	if err := buildImage(ctx, s, 2, 3<<20, nil, "big"); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("export: got %v, want %v", err, syscall.ENOSPC)
	}
	if n := checkWhole(t, s); n != 1 {
		t.Errorf("after the export: %d names, want 1", n)
	}
	// The writer's bytes are kept for a second try; aborting makes room.
	for _, st := range must[[]content.Status](t)(s.Content().ListStatuses(ctx)) {
		fi := must[os.FileInfo](t)(s.content.ingests[st.Ref].file.Stat())
		if st.Offset != fi.Size() {
			t.Errorf("the writer counts %d bytes, the file has %d", st.Offset, fi.Size())
		}
		if err := s.Content().Abort(ctx, st.Ref); err != nil {
			t.Error(err)
		}
	}

	// Load: an archive with a layer that does not fit.
	from := openStore(t)
	if err := buildImage(ctx, from, 3, 3<<20, nil, "big"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, bytes.NewReader(save(t, from, SaveOptions{}, "big")), LoadOptions{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("load: got %v, want %v", err, syscall.ENOSPC)
	}
	if n := checkWhole(t, s); n != 1 {
		t.Errorf("after the load: %d names, want 1", n)
	}

	// Tag: no room for a new index.json.
	filler := must[*os.File](t)(os.Create(filepath.Join(s.Dir(), "..", "filler")))
	var full error
	for chunk := make([]byte, 4096); full == nil; {
		_, full = filler.Write(chunk)
	}
	filler.Close()
	if err := s.Tag(ctx, "small", "other"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("tag: got %v, want %v", err, syscall.ENOSPC)
	}
	if n := checkWhole(t, s); n != 1 {
		t.Errorf("after tagging: %d names, want 1", n)
	}
	// Removing and collecting need next to no room, and give some back.
	if err := os.Truncate(filler.Name(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "small"); err != nil {
		t.Error(err)
	}
	if r, err := s.GC(ctx, GCPolicy{Grace: -1}); err != nil || r.Bytes < 100_000 {
		t.Errorf("gc: got %+v, %v", r, err)
	}
	if err := buildImage(ctx, s, 1, 100_000, nil, "small"); err != nil {
		t.Errorf("after gc: %v", err)
	}
}

// A full disk while a blob is being put in place: nothing may lie under its name.
func TestDiskFullAtCommit(t *testing.T) {
	ctx := context.Background()
	s := must[*Store](t)(Open(filepath.Join(smallDisk(t), "store")))
	t.Cleanup(func() { s.Close() })
	for size := 1 << 20; size < 3<<20; size += 64 << 10 {
		b := bytes.Repeat([]byte{byte(size >> 16)}, size)
		d := ocispecs.Descriptor{Digest: digest.FromBytes(b), Size: int64(size)}
		if err := content.WriteBlob(ctx, s.Content(), "r", bytes.NewReader(b), d); err == nil {
			if err := s.Content().Delete(ctx, d.Digest); err != nil {
				t.Fatal(err)
			}
		} else if s.has(d.Digest) {
			t.Errorf("%d bytes: %v, and the blob is there", size, err)
		}
		if list, _ := s.Content().ListStatuses(ctx, "ref==r"); len(list) > 0 {
			if err := s.Content().Abort(ctx, "r"); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkBlobs(t, s)
}

// A store on a read-only disk serves all that does not write.
func TestReadOnlyDisk(t *testing.T) {
	ctx, disk := context.Background(), smallDisk(t)
	dir := filepath.Join(disk, "store")
	s := must[*Store](t)(Open(dir))
	if err := buildImage(ctx, s, 1, 1000, nil, "app"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	s = must[*Store](t)(Open(dir))
	defer s.Close()
	for _, sum := range must[[]Summary](t)(s.Images(ctx, ListOptions{Unpacked: true})) {
		if sum.Err != nil {
			t.Error(sum.Err)
		}
	}
	save(t, s, SaveOptions{Format: FormatDocker}, "app")
	checkWhole(t, s)
	d := must[ocispecs.Descriptor](t)(s.Resolve(ctx, "app"))
	if _, err := s.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(d)); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v, want already exists", err)
	}
	if _, err := s.Content().Writer(ctx, content.WithRef("r")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing: got %v, want %v", err, syscall.EROFS)
	}
	if _, err := s.Lease(ctx); !errors.Is(err, syscall.EROFS) {
		t.Errorf("lease: got %v, want %v", err, syscall.EROFS)
	}
	if _, err := s.Load(ctx, bytes.NewReader(nil), LoadOptions{}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("load: got %v, want %v", err, syscall.EROFS)
	}
}
