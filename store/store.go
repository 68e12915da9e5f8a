package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	privateDir  = ".zlayer"
	sessionsDir = "sessions"
	sizesDir    = "sizes"
)

// Store is an image store directory opened by [Open]. Its methods may be called
// from many goroutines, and other processes may use the same directory.
type Store struct {
	dir     string
	content *contentStore

	mu      sync.Mutex
	ingest  *session // made by the first writer
	counter int      // names the files in ingest
	closed  bool

	known indexCache
}

// DefaultDir is where a user's images are kept when nothing else is said:
// $XDG_DATA_HOME/zlayer/store (~/.local/share/zlayer/store), or
// /var/lib/zlayer/store for root.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/zlayer/store", nil
	}
	// The XDG specification has relative values ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "zlayer", "store"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the image store: %w: set HOME or XDG_DATA_HOME, or name a store directory", err)
	}
	return filepath.Join(home, ".local", "share", "zlayer", "store"), nil
}

// Open opens the store in dir, making the directory (for its owner only) and an
// empty layout if there is none. It refuses a directory that holds something
// else, and a layout whose index.json is gone: taking that for an empty store
// would let GC delete every image.
//
// Left-overs of processes that died are removed on the way. A layout on a
// read-only file system can be opened and read.
func Open(dir string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("opening the image store: no directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the image store: %w", err)
	}
	s := &Store{dir: dir}
	s.content = &contentStore{store: s, ingests: map[string]*ingest{}}
	if err := s.init(); err != nil {
		return nil, fmt.Errorf("opening image store %s: %w", dir, err)
	}
	s.sweepSessions()
	return s, nil
}

// Dir is the store's directory, absolute.
func (s *Store) Dir() string { return s.dir }

// Close drops unfinished writes. Leases are their holders' to close. A closed
// store refuses new writes; closing twice is fine.
func (s *Store) Close() error {
	s.content.discardAll()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.ingest == nil {
		return nil
	}
	err := s.ingest.close()
	s.ingest = nil
	if err != nil {
		return fmt.Errorf("closing image store: %w", err)
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) private(elem ...string) string {
	return filepath.Join(append([]string{s.dir, privateDir}, elem...)...)
}

// blobPath is where the blob with a valid digest lives.
func (s *Store) blobPath(d digest.Digest) string {
	return s.path(ocispecs.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// init checks the layout, or makes it. Concurrent first calls agree: the files
// are written under the index lock, oci-layout last.
func (s *Store) init() error {
	switch err := s.checkLayout(); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := s.refuseForeign(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{s.path(ocispecs.ImageBlobsDir, "sha256"), s.private(sessionsDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	unlock, err := lockFile(context.Background(), s.private("index.lock"), false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.checkLayout(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(s.path(ocispecs.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := s.writeIndex(emptyIndex()); err != nil {
			return err
		}
	}
	b, err := json.Marshal(ocispecs.ImageLayout{Version: ocispecs.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return s.replaceFile(ocispecs.ImageLayoutFile, b)
}

// checkLayout says whether an OCI layout is there; fs.ErrNotExist if not.
func (s *Store) checkLayout() error {
	b, err := os.ReadFile(s.path(ocispecs.ImageLayoutFile))
	if err != nil {
		return err
	}
	var layout ocispecs.ImageLayout
	if err := json.Unmarshal(b, &layout); err != nil {
		return fmt.Errorf("reading %s: %w", ocispecs.ImageLayoutFile, err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("the layout has version %q, this zlayer knows 1.x", layout.Version)
	}
	if _, err := os.Stat(s.path(ocispecs.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		// Not %w: the caller would take it for "no layout here".
		return errors.New("index.json is missing: restore it, or remove the directory to start an empty store")
	}
	for _, dir := range []string{s.path(ocispecs.ImageBlobsDir, "sha256"), s.private(sessionsDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil && !readOnly(err) {
			return err
		}
	}
	return nil
}

// refuseForeign guards against a store directory that is somebody's home.
func (s *Store) refuseForeign() error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case privateDir, ocispecs.ImageBlobsDir, ocispecs.ImageIndexFile, ocispecs.ImageLayoutFile, "lost+found":
		default:
			return fmt.Errorf("the directory holds %s and is no OCI layout: name an empty or new directory", e.Name())
		}
	}
	return nil
}

// replaceFile makes name hold b, all or nothing, and durably so on return. The
// caller holds the index lock, so one temporary name will do: what a crash leaves
// of it, the next call overwrites.
func (s *Store) replaceFile(name string, b []byte) error {
	tmp := s.private("replace.tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, s.path(name))
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(s.dir)
}

// syncDir makes the names in dir durable. Windows has no such call and no need.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
