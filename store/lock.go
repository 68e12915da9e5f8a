package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// lockFile takes the advisory lock on path, waiting as long as ctx lasts, and
// returns what releases it. Each call opens the file anew, so the lock
// also holds between goroutines of one process. Lock files are never removed:
// a lock on a removed file would keep nobody out.
func lockFile(ctx context.Context, path string, shared bool) (func(), error) {
	l := flock.New(path, flock.SetPermissions(0o644))
	try := l.TryLock
	if shared {
		try = l.TryRLock
	}
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		ok, err := try()
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if ok {
			return func() { _ = l.Unlock() }, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("locking %s: %w", path, context.Cause(ctx))
		}
	}
}

// lockBlobs keeps GC away (shared), or everybody who relies on a blob
// (exclusive). Where both locks are needed this one is taken before the index's.
func (s *Store) lockBlobs(ctx context.Context, shared bool) (func(), error) {
	return lockFile(ctx, s.private("blobs.lock"), shared)
}

// readOnly reports that a write was refused for good: nothing to collect garbage
// from or to protect from it.
func readOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}
