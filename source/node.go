package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// dirNode is a directory on disk, read when first needed. All views share it.
type dirNode struct {
	parent *dirNode
	name   string

	mu     sync.Mutex // listing, and the fields below
	kids   map[string]*dirNode
	listed bool
	err    error
	root   atomic.Pointer[root] // if a view was asked of this directory
	full   *folded              // everything below, unfiltered

	// These are set by listing and then read without a lock. The stat and sum of
	// an entry that is a file change while hashMu is held.
	entries []entry // sorted by name
	xattrs  *sum
	hashMu  sync.Mutex
}

const (
	flagSum     = 1 << iota // sum is set
	flagFresh               // sum was computed in this run
	flagTouched             // to be taken as changed
	flagPhantom             // not there, but touched
	flagSocket
)

// entry is a name in a directory. There may be a million of them.
type entry struct {
	name               string
	size, mtime, ctime int64
	ino                uint64
	more               *more
	dir                *dirNode // of a directory
	sum                sum      // of a file's bytes
	perm               uint16
	kind               kind
	flags              uint8
}

// more is what few entries have.
type more struct {
	link   string
	rdev   uint64
	linked bool // other names of the same file may be selected, too
	dev    uint64
	xattrs *sum
}

func entryOf(name string, st *stat) entry {
	e := entry{name: name, size: st.size, mtime: st.mtime, ctime: st.ctime, ino: st.ino, perm: st.perm, kind: st.kind}
	if st.socket {
		e.flags |= flagSocket | flagSum
		e.sum = sha256.Sum256(nil)
	}
	if st.linked || st.rdev != 0 {
		e.more = &more{rdev: st.rdev, linked: st.linked, dev: st.dev}
	}
	return e
}

func (e *entry) stat() stat {
	return stat{size: e.size, mtime: e.mtime, ctime: e.ctime, ino: e.ino, perm: e.perm, kind: e.kind}
}

func (e *entry) xattrs() *sum {
	if e.more == nil {
		return nil
	}
	return e.more.xattrs
}

func (e *entry) setXattrs(s *sum) {
	if s == nil && e.more == nil {
		return
	}
	m := more{}
	if e.more != nil {
		m = *e.more
	}
	m.xattrs = s
	e.more = &m
}

func (e *entry) link() string {
	if e.more == nil {
		return ""
	}
	return e.more.link
}

// counted is the sum of a file as it counts.
func (e *entry) counted() sum {
	if e.flags&flagTouched != 0 {
		return salted(e.sum)
	}
	return e.sum
}

// salted is the digest of a version of a file that differs from the one on disk.
func salted(s sum) sum {
	return sha256.Sum256(append([]byte("zlayer.touched.v1\x00"), s[:]...))
}

// path is the absolute path of a directory.
func (n *dirNode) path() string {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return string(filepath.Separator) + strings.Join(names, string(filepath.Separator))
}

// under returns the path of n relative to an ancestor, with slashes.
func (n *dirNode) under(top *dirNode) string {
	var names []string
	for ; n != top; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// kid returns the node of a directory in n, which may be there or not.
func (n *dirNode) kid(name string) *dirNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listed {
		if i, ok := n.find(name); ok && n.entries[i].dir != nil {
			return n.entries[i].dir
		}
	}
	return n.kidLocked(name)
}

func (n *dirNode) kidLocked(name string) *dirNode {
	k := n.kids[name]
	if k == nil {
		k = &dirNode{parent: n, name: name}
		if n.kids == nil {
			n.kids = map[string]*dirNode{}
		}
		n.kids[name] = k
	}
	return k
}

// find looks a name up in a listed directory. It looks at nothing of entries but their
// names: files may be hashed meanwhile.
func (n *dirNode) find(name string) (int, bool) {
	return sort.Find(len(n.entries), func(i int) int { return strings.Compare(name, n.entries[i].name) })
}

// listedEntry looks a name up if the directory was listed.
func (n *dirNode) listedEntry(name string) (listed bool, i int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.listed || n.err != nil {
		return false, 0, false
	}
	i, ok = n.find(name)
	return true, i, ok
}

// list reads a directory unless that has been done. Its error stays for the run.
func (t *Trees) list(n *dirNode) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listed {
		return n.err
	}
	path := n.path()
	entries, attrs, err := t.readDir(path)
	names := t.touched[path]
	if err != nil && !(isGone(err) && names != nil) {
		n.listed, n.err = true, err
		return err
	}
	n.entries, n.xattrs = addTouched(entries, names), attrs
	for i := range n.entries {
		if e := &n.entries[i]; e.kind == kindDir {
			if n.kids == nil {
				e.dir = &dirNode{parent: n, name: e.name}
			} else {
				e.dir = n.kids[e.name]
				if e.dir == nil {
					e.dir = &dirNode{parent: n, name: e.name}
				}
			}
		}
	}
	n.kids = nil
	n.listed = true
	t.dirFromIndexes(n)
	return nil
}

// gone tells whether the directory was not there when it was read.
func (n *dirNode) gone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listed && n.err != nil && isGone(n.err)
}

// addTouched marks what is to be taken as changed, and adds what is not there.
func addTouched(entries []entry, names map[string]bool) []entry {
	if len(names) == 0 {
		return entries
	}
	for i := range entries {
		leaf, ok := names[entries[i].name]
		// what is a file and has a touched path below it was a directory
		if ok && (leaf || entries[i].kind != kindDir) {
			entries[i].flags |= flagTouched
		}
	}
	there := len(entries)
	for name, leaf := range names {
		if slices.ContainsFunc(entries[:there], func(e entry) bool { return e.name == name }) {
			continue
		}
		e := entry{name: name, perm: 0o644, kind: kindFile, flags: flagTouched | flagPhantom | flagSum}
		if !leaf {
			e = entry{name: name, perm: 0o755, kind: kindDir, flags: flagPhantom}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries
}

// statChunk is how many entries of a directory one worker looks at.
const statChunk = 1024

// readDir lists a directory and looks at every entry. What vanishes meanwhile is
// left out.
func (t *Trees) readDir(path string) ([]entry, *sum, error) {
	dir, err := openDir(path)
	if err != nil {
		return nil, nil, err
	}
	defer dir.close()
	buf := t.buffer()
	names, err := dir.names(buf[:])
	t.buffers.Put(buf)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	entries := make([]entry, len(names))
	errs := make([]error, (len(names)+statChunk-1)/statChunk)
	var wg sync.WaitGroup
	for c := range errs {
		lo, hi := c*statChunk, min((c+1)*statChunk, len(names))
		work := func() { errs[c] = statEntries(dir, names[lo:hi], entries[lo:hi]) }
		if c < len(errs)-1 && t.walker() {
			wg.Go(func() {
				defer t.walkerDone()
				work()
			})
		} else {
			work()
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	attrs, err := dir.xattrs()
	if err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(entries, func(e entry) bool { return e.name == "" }), attrs, nil
}

// statEntries fills in entries for names; one that is gone stays empty.
func statEntries(dir openedDir, names []string, entries []entry) error {
	for i, name := range names {
		st, err := dir.lstat(name)
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		e := entryOf(name, &st)
		if e.kind == kindLink {
			path := filepath.Join(dir.path, name)
			target, err := os.Readlink(path)
			if isGone(err) || errors.Is(err, fs.ErrInvalid) {
				continue
			}
			if err != nil {
				return fmt.Errorf("reading a link: %w", err)
			}
			attrs, err := readXattrs(path)
			if err != nil && !isGone(err) {
				return err
			}
			e.more = &more{link: target, xattrs: attrs}
		}
		if e.kind == kindFifo || e.kind == kindChar || e.kind == kindBlock {
			attrs, err := readXattrs(filepath.Join(dir.path, name))
			if err != nil && !isGone(err) {
				return err
			}
			e.setXattrs(attrs)
		}
		entries[i] = e
	}
	return nil
}

// walker takes one of the places of workers, if there is a free one.
func (t *Trees) walker() bool {
	select {
	case t.walkers <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *Trees) walkerDone() { <-t.walkers }
