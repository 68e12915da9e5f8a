package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// slot is the directory that one BuildKit owns. See the package comment.
type slot struct {
	state string // the state directory
	name  string
}

const (
	mainSlot      = "main"
	besidePrefix  = "beside-"
	privatePrefix = "private-"
)

func (s slot) dir() string      { return filepath.Join(s.state, s.name) }
func (s slot) lock() string     { return filepath.Join(s.dir(), "lock") }
func (s slot) socket() string   { return filepath.Join(s.dir(), "daemon.sock") }
func (s slot) private() string  { return filepath.Join(s.dir(), "private.sock") }
func (s slot) log() string      { return filepath.Join(s.dir(), "daemon.log") }
func (s slot) root() string     { return filepath.Join(s.dir(), "buildkit") }
func (s slot) tmp() string      { return filepath.Join(s.dir(), "tmp") }
func (s slot) run() string      { return filepath.Join(s.dir(), "run") }
func (s slot) unsynced() string { return filepath.Join(s.dir(), "unsynced") }
func (s slot) selftest() string { return filepath.Join(s.state, "selftest.json") }

// temporary reports whether the slot dies with its owner.
func (s slot) temporary() bool { return s.name != mainSlot }

// mkdirState makes the state directory, readable by its owner alone, and
// refuses one that belongs to somebody else.
func mkdirState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w: set ZLAYER_STATE_DIR to a directory you can write to", err)
	}
	return nil
}

// create makes the slot's directories.
func (s slot) create() error {
	if err := mkdirState(s.state); err != nil {
		return err
	}
	for _, dir := range []string{s.dir(), s.root(), s.tmp(), s.run()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("making the state directory: %w: set ZLAYER_STATE_DIR to a directory you can write to", err)
		}
		if err := checkOwner(dir); err != nil {
			return err
		}
	}
	return nil
}

// checkOwner refuses a directory of another user: two users never share a
// daemon, and root would leave files there that the owner cannot remove.
func checkOwner(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at the state directory: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is not a directory: set ZLAYER_STATE_DIR to another place", dir)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and you are user %d: set ZLAYER_STATE_DIR to a directory of your own", dir, st.Uid, os.Geteuid())
	}
	return nil
}

// errLocked says that somebody else owns a slot.
var errLocked = errors.New("state is in use by another process")

// acquire creates the slot and takes its lock. It does not wait: errLocked
// means that the slot has an owner.
func (s slot) acquire() (*os.File, error) {
	for {
		if err := s.create(); err != nil {
			return nil, err
		}
		f, err := openLock(s.lock())
		if errors.Is(err, os.ErrNotExist) {
			continue // a previous owner removed its temporary slot just now
		}
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("locking %s: %w", s.lock(), err)
		}
		if sameFile(f, s.lock()) {
			return f, nil
		}
		f.Close()
	}
}

// lockFile takes the exclusive lock on path and waits for it as long as ctx
// lets it. Closing the file releases the lock.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	done := make(chan error)
	go func() {
		err := flock(f, unix.LOCK_EX)
		select {
		case done <- err:
		case <-ctx.Done():
			f.Close() // nobody waits any more
		}
	}()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return f, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock: %w: set ZLAYER_STATE_DIR to a directory you can write to", err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sameFile reports whether path still names the open file f.
func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// abandoned returns the temporary slots that have lost their owner.
func abandoned(state string) []slot {
	entries, err := os.ReadDir(state)
	if err != nil {
		return nil
	}
	var out []slot
	for _, e := range entries {
		if e.Type() == fs.ModeDir && (hasPrefix(e.Name(), besidePrefix) || hasPrefix(e.Name(), privatePrefix)) {
			out = append(out, slot{state: state, name: e.Name()})
		}
	}
	return out
}

func hasPrefix(s, prefix string) bool {
	return len(s) > len(prefix) && s[:len(prefix)] == prefix
}
