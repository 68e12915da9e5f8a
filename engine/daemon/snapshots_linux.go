package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
)

// repairSnapshots makes the directories below a snapshotter's root match its
// records, before it is opened. A snapshotter first renames a directory to its
// number and then commits the record; killed in between, it would choose the
// same number again and fail because the directory exists, in every build from
// then on. Removing is the other way round, so that a directory may be renamed
// to rm-<number> although its record remains.
func repairSnapshots(ctx context.Context, root string) error {
	dir := filepath.Join(root, "snapshots")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for unfinished snapshots: %w", err)
	}
	ids, err := snapshotIDs(ctx, root)
	if err != nil {
		return fmt.Errorf("reading snapshot records: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, ok := ids[e.Name()]; ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if id, ok := strings.CutPrefix(e.Name(), "rm-"); ok {
			if _, ok := ids[id]; ok {
				errs = append(errs, os.Rename(path, filepath.Join(dir, id)))
				continue
			}
		}
		errs = append(errs, os.RemoveAll(path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing unfinished snapshots: %w", err)
	}
	return nil
}

// snapshotIDs returns the numbers that have a record.
func snapshotIDs(ctx context.Context, root string) (map[string]string, error) {
	path := filepath.Join(root, "metadata.db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	store, err := storage.NewMetaStore(path)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	var ids map[string]string
	err = store.WithTransaction(ctx, true, func(ctx context.Context) error {
		var err error
		ids, err = storage.IDMap(ctx)
		if errdefs.IsNotFound(err) {
			return nil // no snapshot has ever been made
		}
		return err
	})
	return ids, err
}
