package memo_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// smallDisk is a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("zlayer-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a tmpfs is not possible here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDirFull(t *testing.T) {
	ctx, c := t.Context(), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	d := &memo.Dir{Path: filepath.Join(smallDisk(t), "memo"), MaxAge: time.Hour, Now: c.now}
	must(t, d.Put(ctx, memotest.WithParts(memotest.Record(1), 400_000)))
	must(t, d.Put(ctx, memotest.WithParts(memotest.Record(2), 400_000)))
	err := d.Put(ctx, memotest.WithParts(memotest.Record(3), 400_000))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Put to a full disk: %v, want %v", err, syscall.ENOSPC)
	}
	if _, err := d.Get(ctx, memotest.Key(3)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("what did not fit: %v, want ErrNotFound", err)
	}
	if n := len(files(t, d)); n != 2 {
		t.Errorf("%d files, want the two that fit", n)
	}
	if _, err := d.Get(ctx, memotest.Key(1)); err != nil {
		t.Error(err)
	}
	// Once there is something that nobody wants any more, it makes room.
	c.t = c.t.Add(2 * time.Hour)
	must(t, d.Put(ctx, memotest.WithParts(memotest.Record(3), 400_000)))
	if _, err := d.Get(ctx, memotest.Key(3)); err != nil {
		t.Error(err)
	}
}

func TestDirReadOnly(t *testing.T) {
	ctx, c := t.Context(), &clock{t: time.Now()}
	dir := smallDisk(t)
	d := &memo.Dir{Path: filepath.Join(dir, "memo"), Now: c.now}
	must(t, d.Put(ctx, memotest.WithParts(memotest.Record(1), 1000)))
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remounting is not possible here: %v", err)
	}
	c.t = c.t.Add(48 * time.Hour) // time to note the use, which cannot be
	r, err := d.Get(ctx, memotest.Key(1))
	must(t, err)
	if parts, err := d.ReadParts(ctx, r); err != nil || len(parts) != 1000 {
		t.Errorf("parts: %d bytes, %v", len(parts), err)
	}
	if err := d.Put(ctx, memotest.Record(2)); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Put: %v, want %v", err, syscall.EROFS)
	}
	var warnings []error
	s := memo.Tolerant(d, func(err error) { warnings = append(warnings, err) })
	for range 10 {
		must(t, s.Put(ctx, memotest.Record(2)))
	}
	if _, err := s.Get(ctx, memotest.Key(1)); err != nil {
		t.Errorf("reading after writing was given up: %v", err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "read-only") {
		t.Errorf("warnings %v, want one that says read-only", warnings)
	}
}
