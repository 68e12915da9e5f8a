package memo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Defaults of Dir.
const (
	DefaultMaxAge  = 90 * 24 * time.Hour
	DefaultMaxSize = 512 << 20
)

// Dir is a Store in a directory, one file a record. Any number of processes may use
// the same one, it may be deleted at any time, and on a disk that is read-only Get
// works. It must not be copied.
//
//	<Path>/v1/<first two digits of the key>/<key>   a record
//	<Path>/v1/<first two digits of the key>/.new-*  one that is being written
//	<Path>/trimmed                                  its time is that of the last trim
//
// Files are written under another name and renamed, and not synced: after a power
// cut a name may stand for anything, but a record verifies itself, and the last
// second's records are not worth waiting for the disk.
type Dir struct {
	// Path is the directory; it is made when needed, for the user alone.
	Path string
	// MaxAge and MaxSize are how long a record is kept after it was last used, and
	// how many bytes all may take up. Once a day a Put sees to it, so there can be a
	// day's records more. 0 is the default, less is no limit.
	MaxAge  time.Duration
	MaxSize int64
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	nextTrim atomic.Int64 // when to look at the stamp again, in Unix seconds
}

var (
	_ Store       = (*Dir)(nil)
	_ PartsReader = (*Dir)(nil)
	_ Lister      = (*Dir)(nil)
	_ Deleter     = (*Dir)(nil)
	_ Pruner      = (*Dir)(nil)
)

const (
	dirMode   = 0o700
	newPrefix = ".new-"
	// usedGrain is how old a record's time of use may become before it is written.
	usedGrain = 24 * time.Hour
)

func (d *Dir) root() string { return filepath.Join(d.Path, "v1") }

func (d *Dir) shard(key digest.Digest) string { return filepath.Join(d.root(), key.Encoded()[:2]) }

func (d *Dir) file(key digest.Digest) string { return filepath.Join(d.shard(key), key.Encoded()) }

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	var record *Record
	used, err := d.read(key, func(r *Record, _ frame, _ io.Reader) error {
		record = r
		return nil
	})
	if err == nil {
		d.touch(d.file(key), used)
	}
	return record, err
}

// GetWhole is Get with the Parts of the record, if it has any: one look instead of two
// for who wants both.
func (d *Dir) GetWhole(ctx context.Context, key digest.Digest) (*Record, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	var record *Record
	used, err := d.read(key, func(r *Record, f frame, rest io.Reader) (err error) {
		if record = r; f.parts > 0 {
			record.Parts, err = decodeParts(rest, r)
		}
		return err
	})
	if errors.Is(err, errDamaged) {
		return nil, fmt.Errorf("%w of %s: %w", ErrNotFound, key, err)
	}
	if err != nil {
		return nil, err
	}
	d.touch(d.file(key), used)
	return record, nil
}

// ReadParts implements [PartsReader].
func (d *Dir) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	if err := ready(ctx, r.Key); err != nil {
		return nil, err
	}
	var parts []byte
	_, err := d.read(r.Key, func(have *Record, f frame, rest io.Reader) (err error) {
		if f.parts > 0 && have.PartsDigest == r.PartsDigest {
			parts, err = decodeParts(rest, have)
		}
		return err
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, errDamaged) || err == nil && parts == nil {
		return nil, lostParts(r)
	}
	return parts, err
}

// read shows the record of the key to f, with the rest of its file, and gives the
// file's time of use.
func (d *Dir) read(key digest.Digest, f func(*Record, frame, io.Reader) error) (time.Time, error) {
	file, err := os.Open(d.file(key))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, absent(key)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading memo: %w", err)
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return time.Time{}, fmt.Errorf("reading memo: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return time.Time{}, fmt.Errorf("%w of %s: %s is not a file", ErrNotFound, key, file.Name())
	}
	br := bufio.NewReader(file)
	r, fr, err := decodeHead(br, fi.Size())
	if r, err = believe(key, r, err); err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), f(r, fr, br)
}

// touch notes that a file is used now. At most one write a day keeps reading cheap,
// and one that fails, as on a read-only disk, costs the note only.
func (d *Dir) touch(path string, used time.Time) {
	t := now(d.Now)
	if age := t.Sub(used); age > usedGrain || age < -usedGrain {
		_ = os.Chtimes(path, time.Time{}, t)
	}
}

// Put implements [Store].
func (d *Dir) Put(ctx context.Context, r *Record) error {
	if err := ready(ctx, r.Key); err != nil {
		return err
	}
	data, err := Encode(r)
	if err != nil {
		return err
	}
	err = d.write(r.Key, data)
	if errors.Is(err, syscall.ENOSPC) {
		// What nobody wants any more may be all that is in the way.
		if p, perr := d.Prune(ctx, d.limits()); perr == nil && p.Removed > 0 {
			err = d.write(r.Key, data)
		}
	}
	if err != nil {
		return fmt.Errorf("writing to memo: %w", err)
	}
	d.trim(ctx)
	return nil
}

// write puts data in the key's place. The directory may vanish at any moment, which
// is repaired a few times before it is somebody's intention.
func (d *Dir) write(key digest.Digest, data []byte) error {
	var err error
	for range 3 {
		if err = d.tryWrite(key, data); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(d.shard(key), dirMode); err != nil {
			return err
		}
	}
	return err
}

func (d *Dir) tryWrite(key digest.Digest, data []byte) error {
	f, err := os.CreateTemp(d.shard(key), newPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chtimes(f.Name(), time.Time{}, now(d.Now))
	}
	if err == nil {
		err = os.Rename(f.Name(), d.file(key))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Delete implements [Deleter].
func (d *Dir) Delete(ctx context.Context, key digest.Digest) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	err := os.Remove(d.file(key))
	if errors.Is(err, fs.ErrNotExist) {
		return absent(key)
	}
	if err != nil {
		return fmt.Errorf("removing from memo: %w", err)
	}
	return nil
}

// List implements [Lister].
func (d *Dir) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := d.walk(ctx, func(path string, fi fs.FileInfo) error {
			key := digest.NewDigestFromEncoded(digest.SHA256, fi.Name())
			if checkKey(key) != nil {
				return nil
			}
			var record *Record
			_, err := d.read(key, func(r *Record, _ frame, _ io.Reader) error { record = r; return nil })
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err == nil && !yield(Entry{Record: record, Size: fi.Size(), Used: fi.ModTime()}, nil) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.SkipAll) {
			yield(Entry{}, err)
		}
	}
}

// walk shows every file below the shards to f. What vanishes meanwhile is not there.
func (d *Dir) walk(ctx context.Context, f func(path string, fi fs.FileInfo) error) error {
	shards, err := readDir(d.root())
	if err != nil {
		return err
	}
	for _, s := range shards {
		if !s.IsDir() {
			continue
		}
		files, err := readDir(filepath.Join(d.root(), s.Name()))
		if err != nil {
			return err
		}
		for _, e := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
				continue
			}
			if err != nil {
				return fmt.Errorf("listing memo: %w", err)
			}
			if err := f(filepath.Join(d.root(), s.Name(), e.Name()), fi); err != nil {
				return err
			}
		}
	}
	return nil
}

func readDir(path string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing memo: %w", err)
	}
	return entries, nil
}
