package memo

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	trimEvery = 24 * time.Hour
	// writing is how long a record may take to be written; older unfinished files
	// are what killed processes left.
	writing = time.Hour
)

// Prune implements [Pruner]. It also removes what killed writers left behind.
func (d *Dir) Prune(ctx context.Context, l Limits) (Pruned, error) {
	t := now(d.Now)
	var items []item
	err := d.walk(ctx, func(path string, fi fs.FileInfo) error {
		if strings.HasPrefix(fi.Name(), newPrefix) {
			if t.Sub(fi.ModTime()) > writing {
				return remove(path)
			}
			return nil
		}
		items = append(items, item{name: path, size: fi.Size(), used: fi.ModTime()})
		return nil
	})
	if err != nil {
		return Pruned{}, err
	}
	return prune(ctx, items, l, t, func(it item) (bool, error) {
		if fi, err := os.Stat(it.name); err == nil && !l.All && !fi.ModTime().Equal(it.used) {
			return false, nil // somebody has just put or got it
		}
		return true, remove(it.name)
	})
}

// limits are what a trim leaves.
func (d *Dir) limits() Limits {
	return Limits{
		MaxAge:  max(cmp.Or(d.MaxAge, DefaultMaxAge), 0),
		MaxSize: max(cmp.Or(d.MaxSize, DefaultMaxSize), 0),
	}
}

// trim prunes if nobody has for a day. Its failure is none of Put's: the record is
// there, and the next day comes.
func (d *Dir) trim(ctx context.Context) {
	t, next := now(d.Now), d.nextTrim.Load()
	if t.Unix() < next || !d.nextTrim.CompareAndSwap(next, t.Add(time.Hour).Unix()) {
		return
	}
	stamp := filepath.Join(d.Path, "trimmed")
	if fi, err := os.Stat(stamp); err == nil {
		// A stamp from the future is that of a clock that was wrong.
		if age := t.Sub(fi.ModTime()); age < trimEvery && age > -trimEvery {
			return
		}
	}
	// The stamp comes first, so that others do not start as well.
	if os.WriteFile(stamp, nil, 0o600) != nil || os.Chtimes(stamp, time.Time{}, t) != nil {
		return
	}
	_, _ = d.Prune(ctx, d.limits())
}

// remove is os.Remove for what others may have removed.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
