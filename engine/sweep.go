package engine

import (
	"os"
	"path"
	"path/filepath"
	"time"
)

const (
	// sweepEvery is how often the state directory is looked through.
	sweepEvery = 24 * time.Hour
	// leftAge is from when on a file that has not got its name yet is taken for that of
	// a process which was killed: writing one takes milliseconds.
	leftAge = 24 * time.Hour
)

// sweepState removes, once a day, the files that killed processes have left in the
// state directory: where everybody writes a file beside its place and renames it. The
// memo, the stat indexes and the image store see to theirs.
func (e *Engine) sweepState(now time.Time) {
	dir := e.stateDir()
	if dir == "" {
		return
	}
	marker := filepath.Join(dir, "swept")
	if fi, err := os.Stat(marker); err == nil {
		// A marker from the future is that of a clock that was wrong.
		if age := now.Sub(fi.ModTime()); age < sweepEvery && age > -sweepEvery {
			return
		}
	}
	// The marker comes first, so that others do not start as well.
	if os.WriteFile(marker, nil, 0o600) != nil || os.Chtimes(marker, time.Time{}, now) != nil {
		return // there is nothing, or nothing can be removed
	}
	for _, pattern := range []string{"images/.*", "last/.*", "git/refs/.*", "bin/runc-*.tmp", "client-id.*"} {
		sweepFiles(filepath.Join(dir, filepath.FromSlash(path.Dir(pattern))), path.Base(pattern), now)
	}
}

// sweepFiles removes the old files of a directory whose names match a pattern.
func sweepFiles(dir, pattern string, now time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if ok, err := path.Match(pattern, e.Name()); err != nil || !ok {
			continue
		}
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() || now.Sub(fi.ModTime()) < leftAge {
			continue
		}
		_ = os.Remove(filepath.Join(dir, e.Name())) // if it fails, it is there tomorrow
	}
}
