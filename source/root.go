package source

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// root is a directory that a view was asked of, and its index.
type root struct {
	n     *dirNode
	dir   string
	file  string // of the index; "" for none
	stamp int64  // the time of its file system when the run began to look

	mu     sync.Mutex
	base   *index // as last seen on disk; nil for none
	bump   bool   // the daemon may have something that the index does not know of
	dirty  bool   // the index lacks something
	synced bool   // SyncID was asked
}

const (
	day = 24 * time.Hour
	// unusedDays is after how many days files and indexes that nobody asked for
	// are forgotten.
	unusedDays = 30
	// refreshDays is how old the note of the last use may be.
	refreshDays = 7
	// tick is more than the granularity of file times on a file system that keeps
	// fractions of seconds, coarseTick on one that does not.
	tick       = int64(50 * time.Millisecond)
	coarseTick = int64(2100 * time.Millisecond)
	// clockSkew is how far the clock of a file server may be off.
	clockSkew = time.Minute
)

// root returns what belongs to a directory of views, with its index loaded.
func (t *Trees) root(n *dirNode, dir string, st *stat) *root {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.root.Load(); r != nil {
		return r
	}
	r := &root{n: n, dir: dir, dirty: n.listed || len(n.kids) > 0} // then others have looked already
	r.stamp = t.fileTime(dir, st)
	if t.opts.CacheDir != "" && reliableStat {
		r.file = filepath.Join(t.opts.CacheDir, fmt.Sprintf("%x-%x.idx", st.dev, st.ino))
		r.base = loadIndex(r.file, t.now())
	}
	n.root.Store(r)
	t.mu.Lock()
	t.roots = append(t.roots, r)
	t.mu.Unlock()
	return r
}

// loadIndex reads an index, nil if there is none that can be used, and notes that
// it is in use.
func loadIndex(file string, now time.Time) *index {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil
	}
	if fi, err := os.Stat(file); err == nil && now.Sub(fi.ModTime()) > day {
		_ = os.Chtimes(file, now, now) // if it fails, the index is forgotten earlier
	}
	return x
}

// fileTime is a time that a change made to a file of a directory from now on
// cannot lie before, but for a tick.
func (t *Trees) fileTime(dir string, st *stat) int64 {
	now := t.now()
	if !otherClock(dir) {
		return now.UnixNano()
	}
	if cache, err := lstat(t.opts.CacheDir); t.opts.CacheDir != "" && err == nil && cache.dev == st.dev {
		if f, err := os.CreateTemp(t.opts.CacheDir, tempPrefix); err == nil {
			f.Close()
			defer os.Remove(f.Name())
			if st, err := lstat(f.Name()); err == nil {
				return st.ctime
			}
		}
	}
	return now.Add(-clockSkew).UnixNano()
}

// today is the day of a root's stamp as a number.
func (r *root) today() uint16 {
	return uint16(r.stamp / int64(day))
}

// safe tells whether a change after the file was hashed will show.
func (r *root) safe(e *entry) bool {
	gap := tick
	if e.mtime%int64(time.Second) == 0 && e.ctime%int64(time.Second) == 0 {
		gap = coarseTick
	}
	return max(e.mtime, e.ctime)+gap < r.stamp
}

// trusts tells whether a record is still true of a file.
func (r *root) trusts(rec *record, e *entry) bool {
	return rec.flags&recordSafe != 0 && rec.size == e.size && rec.mtime == e.mtime && rec.ctime == e.ctime &&
		rec.ino == e.ino && rec.perm == e.perm && e.ctime <= r.stamp
}

// dirFromIndexes takes from the indexes what they know of a directory that is
// being listed.
func (t *Trees) dirFromIndexes(n *dirNode) {
	files := make([]*entry, 0, len(n.entries))
	for i := range n.entries {
		if n.entries[i].kind == kindFile {
			files = append(files, &n.entries[i])
		}
	}
	t.fromIndexes(n, files)
	for top := n; top != nil; top = top.parent {
		if r := top.root.Load(); r != nil {
			r.compareDir(n)
		}
	}
}

// compareDir finds out whether the index has to be written because of a listed
// directory.
func (r *root) compareDir(n *dirNode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base == nil || r.dirty {
		return
	}
	d, ok := r.base.findDir(n.under(r.n))
	if !ok {
		r.dirty = n.xattrs != nil || slices.ContainsFunc(n.entries, func(e entry) bool { return e.kind == kindFile && e.flags&flagSum != 0 })
		return
	}
	dir := r.base.dir(d)
	r.dirty = r.isOld(dir.seen) || !equalSums(n.xattrs, r.base.xattrSum(dir.xattr))
}

// isOld tells whether the note of the last use has to be renewed.
func (r *root) isOld(seen uint16) bool {
	return int(r.today())-int(seen) >= refreshDays || seen > r.today()
}

// fromIndexes sets the sums of files of a directory, sorted by name, from the
// indexes of the directories that it lies in.
func (t *Trees) fromIndexes(n *dirNode, files []*entry) {
	for top := n; top != nil && len(files) > 0; top = top.parent {
		if r := top.root.Load(); r != nil {
			r.lookUp(n, files)
		}
	}
}

func (r *root) lookUp(n *dirNode, files []*entry) {
	r.mu.Lock()
	x := r.base
	r.mu.Unlock()
	if x == nil {
		return
	}
	d, ok := x.findDir(n.under(r.n))
	if !ok {
		return
	}
	dir := x.dir(d)
	i, end := dir.first, dir.first+dir.count
	lacks := false
	for _, e := range files {
		for i < end && string(x.name(i)) < e.name {
			i++
		}
		var rec record
		known := i < end && string(x.name(i)) == e.name
		if known {
			rec = x.record(i)
			known = r.trusts(&rec, e)
		}
		switch {
		case !known:
			// another index may have known it
			lacks = lacks || e.flags&flagSum != 0 && e.flags&(flagPhantom|flagSocket) == 0
			continue
		case e.flags&flagSum == 0:
			e.sum = rec.sum
			e.flags |= flagSum
			e.setXattrs(x.xattrSum(rec.xattr))
		}
		lacks = lacks || r.isOld(rec.seen)
	}
	if lacks {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
}

// randomID draws an id.
func randomID() string {
	id := newID()
	return hex.EncodeToString(id[:])
}

func newID() (id [16]byte) {
	rand.Read(id[:]) // never fails
	return id
}

func newSerial() uint64 {
	id := newID()
	return binary.LittleEndian.Uint64(id[:])
}

// tempPrefix is how the names of files begin that are not yet, or no longer, indexes.
const tempPrefix = "tmp-"

// trimIndexes removes, once a day, the indexes that nobody used for a month and
// what killed runs left behind. Those of the run's own roots are in use.
func (t *Trees) trimIndexes(own []*root) {
	now := t.now()
	marker := filepath.Join(t.opts.CacheDir, "trimmed")
	if fi, err := os.Stat(marker); err == nil && now.Sub(fi.ModTime()) < day {
		return
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return // there is nothing, or nothing can be removed
	}
	_ = os.Chtimes(marker, now, now) // it has just been written
	entries, err := os.ReadDir(t.opts.CacheDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue
		}
		path, age := filepath.Join(t.opts.CacheDir, e.Name()), now.Sub(fi.ModTime())
		if slices.ContainsFunc(own, func(r *root) bool { return r.file == path }) {
			continue
		}
		if strings.HasSuffix(e.Name(), ".idx") && age > unusedDays*day || strings.HasPrefix(e.Name(), tempPrefix) && age > day {
			os.Remove(path)
		}
	}
}
