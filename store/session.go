package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	ingestKind = "ingest"
	leaseKind  = "lease"
	loadKind   = "load"

	lockName = "lock" // in the directory of a session
)

// session is a directory in .zlayer/sessions that belongs to a living process: the
// lock on its lock file says so, and the kernel drops that however the process ends.
type session struct {
	dir   string
	lock  *flock.Flock
	start time.Time // by the file system's clock, the one blobs are stamped with
}

func (s *Store) newSession(kind string) (*session, error) {
	for {
		dir, err := os.MkdirTemp(s.private(sessionsDir), kind+"-*")
		if err != nil {
			return nil, err
		}
		ses, err := claimSession(dir)
		if err != nil {
			os.RemoveAll(dir)
			return nil, err
		}
		if ses != nil {
			return ses, nil
		}
	}
}

// claimSession locks a session directory just made; nil if a sweeper saw it
// before it was locked and took it for a dead one.
func claimSession(dir string) (*session, error) {
	path := filepath.Join(dir, lockName)
	l := flock.New(path)
	ok, err := l.TryLock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, nil
	}
	held, err := l.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Stat(path); err == nil && os.SameFile(held, there) {
			return &session{dir: dir, lock: l, start: held.ModTime()}, nil
		}
	}
	_ = l.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}

func (ses *session) close() error {
	err := removeSession(ses.dir)
	if uerr := ses.lock.Unlock(); err == nil {
		err = uerr
	}
	return err
}

// removeSession removes the directory of a session whose lock the caller holds. The lock file
// goes last: a directory without one is empty, whenever this is cut off, and whoever meets it
// may remove it unless somebody has put a lock there meanwhile.
func removeSession(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	for _, path := range []string{filepath.Join(dir, lockName), dir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweepSessions removes the directories of processes that are gone and reports
// how many, and when the oldest of the remaining leases began (zero: none).
// It does what it can: a failure leaves litter, nothing worse.
func (s *Store) sweepSessions() (removed int, oldestLease time.Time) {
	entries, err := os.ReadDir(s.private(sessionsDir))
	if err != nil {
		return 0, time.Time{}
	}
	for _, e := range entries {
		dir := s.private(sessionsDir, e.Name())
		// Not created here: a lock file that appears in a directory about to be removed
		// would keep its owner from removing it.
		l := flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDWR))
		ok, err := l.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			if os.Remove(dir) == nil {
				removed++
			}
			continue
		}
		if err == nil && ok {
			if removeSession(dir) == nil {
				removed++
			}
			_ = l.Unlock()
			continue
		}
		if !strings.HasPrefix(e.Name(), leaseKind+"-") {
			continue
		}
		if fi, err := os.Stat(filepath.Join(dir, lockName)); err == nil {
			if oldestLease.IsZero() || fi.ModTime().Before(oldestLease) {
				oldestLease = fi.ModTime()
			}
		}
	}
	return removed, oldestLease
}

// A Lease keeps GC from deleting any blob that was written or relied upon since
// it was taken, in this process or another, whatever the grace period.
type Lease struct{ ses *session }

// Lease begins a lease. Whoever fills the store takes one before the first blob
// is asked for and closes it after Import; a process that dies loses its leases.
func (s *Store) Lease(ctx context.Context) (*Lease, error) {
	// GC looks for leases under the exclusive lock: one taken now is either seen
	// by it, or begins after it.
	unlock, err := s.lockBlobs(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("taking a lease on the image store: %w", err)
	}
	defer unlock()
	ses, err := s.newSession(leaseKind)
	if err != nil {
		return nil, fmt.Errorf("taking a lease on the image store: %w", err)
	}
	return &Lease{ses: ses}, nil
}

// Close ends the lease. The second and later calls do nothing.
func (l *Lease) Close() error {
	if l.ses == nil {
		return nil
	}
	ses := l.ses
	l.ses = nil
	if err := ses.close(); err != nil {
		return fmt.Errorf("ending a lease on the image store: %w", err)
	}
	return nil
}
