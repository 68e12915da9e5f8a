package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tonistiigi/fsutil"
)

// strictFS is a directory whose files the daemon gets whole or not at all.
// BuildKit's sender takes a file that cannot be opened for an empty one, and after
// one that fails in the middle both sides wait for ever: fail has to end the build.
type strictFS struct {
	fsutil.FS
	dir  string
	fail func(error)
}

var _ fsutil.FS = strictFS{}

// Walk implements fsutil.FS. A file that vanishes during the walk is left out by
// itself; fsutil would leave out what comes after it in its directory, too.
func (s strictFS) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	return s.FS.Walk(ctx, target, func(path string, entry fs.DirEntry, err error) error {
		err = fn(path, entry, err)
		if errors.Is(err, fs.ErrNotExist) && entry != nil && !entry.IsDir() {
			return nil
		}
		return err
	})
}

// Open implements fsutil.FS. It does not fail: reading does.
func (s strictFS) Open(name string) (io.ReadCloser, error) {
	path := filepath.Join(s.dir, name)
	f, err := os.Open(path)
	if err != nil {
		if fi, serr := os.Lstat(path); serr == nil && fi.Mode()&fs.ModeSocket != 0 {
			return io.NopCloser(strings.NewReader("")), nil // what BuildKit makes of a socket
		}
		s.failed(err)
	}
	return &strictFile{file: f, openErr: err, failed: s.failed}, nil
}

// failed ends the build because of a file.
func (s strictFS) failed(err error) {
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: it was there a moment ago: build again", err)
	}
	s.fail(inputErrorf("reading a local directory: %w", err))
}

// strictFile is an open file, or the error of opening it.
type strictFile struct {
	file    *os.File
	openErr error
	failed  func(error)
}

// Read implements io.Reader.
func (f *strictFile) Read(p []byte) (int, error) {
	if f.openErr != nil {
		return 0, f.openErr
	}
	n, err := f.file.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.failed(err)
	}
	return n, err
}

// Close implements io.Closer.
func (f *strictFile) Close() error {
	if f.openErr != nil {
		return nil
	}
	return f.file.Close()
}
