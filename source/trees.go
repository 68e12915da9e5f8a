package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// Options are the settings of a run. The zero value keeps nothing between runs.
type Options struct {
	// CacheDir is where stat indexes are kept; "" keeps none. It is made when needed.
	CacheDir string
	// Workers bounds how many directories are read at once, by default four times
	// GOMAXPROCS. No more than GOMAXPROCS files are hashed at once.
	Workers int
	// NormalizeModes hashes NormalizedMode instead of the permission bits.
	NormalizeModes bool
	// Touched are absolute paths to be taken as changed: their digests differ from
	// those of what is on disk. One that does not exist counts as a file that is there.
	Touched map[string]bool
}

// Trees is what one run knows of local directories. Its methods may be called
// concurrently. Work that several callers need is done by one of them under its
// context; if that one is cancelled, the next goes on.
type Trees struct {
	opts    Options
	random  string // what SyncID says without an index
	now     func() time.Time
	reading func(path string) // told of each file that was read; for tests
	top     *dirNode          // the root of the file system
	walkers chan struct{}
	hashers chan struct{}
	buffers sync.Pool
	fresh   atomic.Int64               // files hashed
	touched map[string]map[string]bool // directory -> names below it, true if itself touched

	mu       sync.Mutex
	views    map[string]*View
	excludes map[string]*matcher
	roots    []*root
	files    map[string]*single
	closed   bool
}

// sum is a SHA-256.
type sum [sha256.Size]byte

func sumOf(h *graph.Hasher) sum {
	var s sum
	if _, err := hex.Decode(s[:], []byte(h.Digest().Encoded())); err != nil {
		panic("a digest that is not hexadecimal")
	}
	return s
}

func (s sum) digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(s[:]))
}

// Open starts a run. Nothing is read yet.
func Open(o Options) *Trees {
	procs := runtime.GOMAXPROCS(0)
	if o.Workers <= 0 {
		o.Workers = 4 * procs
	}
	t := &Trees{
		opts:     o,
		random:   randomID(),
		now:      time.Now,
		top:      &dirNode{},
		walkers:  make(chan struct{}, o.Workers),
		hashers:  make(chan struct{}, min(procs, o.Workers)),
		touched:  touchedTree(o.Touched),
		views:    map[string]*View{},
		excludes: map[string]*matcher{},
		files:    map[string]*single{},
	}
	return t
}

// touchedTree lists, for every directory above a touched path, the names that
// lead to it.
func touchedTree(paths map[string]bool) map[string]map[string]bool {
	tree := map[string]map[string]bool{}
	for p, ok := range paths {
		if !ok {
			continue
		}
		for leaf, p := true, filepath.Clean(p); ; leaf = false {
			dir, name := filepath.Split(p)
			if name == "" {
				break
			}
			dir = filepath.Clean(dir)
			if tree[dir] == nil {
				tree[dir] = map[string]bool{}
			}
			tree[dir][name] = tree[dir][name] || leaf
			p = dir
		}
	}
	return tree
}

// View returns the directory as a local source with the filter would send it.
// The path has to be absolute and clean, without links. Asking again for the same
// gives the same View.
func (t *Trees) View(dir string, f Filter) (*View, error) {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return nil, fmt.Errorf("reading %s: not a clean absolute path", dir)
	}
	key := f.key(dir)
	t.mu.Lock()
	v := t.views[key]
	t.mu.Unlock()
	if v != nil {
		return v, nil
	}
	st, err := lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("reading a local directory: %w", err)
	}
	if st.kind != kindDir {
		return nil, fmt.Errorf("reading a local directory: %s is not a directory", dir)
	}
	r := t.root(t.node(dir), dir, &st)
	v, err = t.newView(r, dir, f)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.views[key]; other != nil {
		return other, nil
	}
	t.views[key] = v
	return v, nil
}

// node returns the node of an absolute directory, without reading anything.
func (t *Trees) node(dir string) *dirNode {
	n := t.top
	for name := range strings.SplitSeq(filepath.ToSlash(dir), "/") {
		if name != "" {
			n = n.kid(name)
		}
	}
	return n
}

// exclude returns the matcher of exclude patterns, one for each directory, so
// that views that differ only in what they include share what they know.
func (t *Trees) exclude(dir string, patterns []string) (*matcher, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	key := Filter{Exclude: patterns}.key(dir)
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.excludes[key]; m != nil {
		return m, nil
	}
	m, err := newMatcher(patterns)
	if err != nil {
		return nil, err
	}
	t.excludes[key] = m
	return m, nil
}

// single is a file that was asked for by its path.
type single struct {
	once sync.Mutex
	done bool
	dir  *dirNode
	e    entry
}

// File returns the digest of the bytes of one file, whatever filters say; false
// if there is none. Links are followed. Modes do not count.
func (t *Trees) File(ctx context.Context, abs string) (digest.Digest, bool, error) {
	touched := t.isTouched(abs)
	resolved, err := filepath.EvalSymlinks(abs)
	if err == nil {
		touched = touched || t.isTouched(resolved)
		var s sum
		s, err = t.file(ctx, resolved)
		if err == nil {
			if touched {
				s = salted(s)
			}
			return s.digest(), true, nil
		}
	}
	switch {
	case !isGone(err):
		return "", false, fmt.Errorf("reading a file: %w", err)
	case touched:
		return salted(sum{}).digest(), true, nil
	default:
		return "", false, nil
	}
}

// file hashes the file at a path without links.
func (t *Trees) file(ctx context.Context, path string) (sum, error) {
	n := t.node(filepath.Dir(path))
	t.mu.Lock()
	f := t.files[path]
	if f == nil {
		f = &single{dir: n}
		t.files[path] = f
	}
	t.mu.Unlock()
	f.once.Lock()
	defer f.once.Unlock()
	if f.done {
		return f.e.sum, nil
	}
	if err := t.readSingle(ctx, path, n, &f.e); err != nil {
		return sum{}, err
	}
	f.done = true
	return f.e.sum, nil
}

// readSingle fills in the entry of a file, from the listing of its directory if
// that has been read.
func (t *Trees) readSingle(ctx context.Context, path string, n *dirNode, e *entry) error {
	notFile := &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	name := filepath.Base(path)
	if listed, i, ok := n.listedEntry(name); listed {
		switch {
		case !ok:
			return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		case n.entries[i].kind != kindFile:
			return notFile
		}
		if err := t.hashFiles(ctx, n, []int{i}); err != nil {
			return err
		}
		if *e = n.entries[i]; e.flags&flagPhantom != 0 {
			return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return nil
	}
	st, err := lstat(path)
	if err != nil {
		return err
	}
	if st.kind != kindFile {
		return notFile
	}
	*e = entryOf(name, &st)
	t.fromIndexes(n, []*entry{e})
	if e.flags&flagSum == 0 {
		return t.hashOne(ctx, path, e)
	}
	return nil
}

func (t *Trees) isTouched(path string) bool {
	return t.touched[filepath.Dir(path)][filepath.Base(path)]
}

// Close writes what was learned into the indexes and removes those that nobody
// has used for a month. Its error means that the next run will be slower.
func (t *Trees) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	roots := slices.Clone(t.roots)
	t.mu.Unlock()
	if t.opts.CacheDir == "" {
		return nil
	}
	var errs []error
	for _, r := range roots {
		errs = append(errs, t.save(r))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("writing stat indexes: %w", err)
	}
	t.trimIndexes(roots)
	return nil
}

// isGone tells that an error means that there is nothing at a path.
func isGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || isNotDir(err)
}
