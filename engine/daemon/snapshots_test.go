//go:build linux

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
)

// TestRepairSnapshots fakes what a kill between two steps leaves.
func TestRepairSnapshots(t *testing.T) {
	root := t.TempDir()
	store, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	var kept, renamed string
	err = store.WithTransaction(t.Context(), true, func(ctx context.Context) error {
		for key, id := range map[string]*string{"a": &kept, "b": &renamed} {
			s, err := storage.CreateSnapshot(ctx, snapshots.KindActive, key, "")
			if err != nil {
				return err
			}
			*id = s.ID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "snapshots")
	for _, name := range []string{kept, "rm-" + renamed, "3", "new-123", "rm-99"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "fs"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := repairSnapshots(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{kept: true, renamed: true, "rm-" + renamed: false, "3": false, "new-123": false, "rm-99": false} {
		if _, err := os.Stat(filepath.Join(dir, name, "fs")); (err == nil) != want {
			t.Errorf("%s: exists is %v, want %v", name, err == nil, want)
		}
	}
}

func TestRepairSnapshotsOfNothing(t *testing.T) {
	root := t.TempDir()
	store, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.WithTransaction(t.Context(), true, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "snapshots", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := repairSnapshots(t.Context(), root); err != nil {
		t.Errorf("store without a snapshot: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "snapshots", "1")); err == nil {
		t.Error("a directory without a record is still there")
	}
	if err := repairSnapshots(t.Context(), filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}
