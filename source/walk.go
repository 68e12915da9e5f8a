package source

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"sync"

	"github.com/zlayer-dev/zlayer/graph"
)

// folded is what a directory comes down to.
type folded struct {
	sum   sum // of what counts in it
	files int
	bytes int64
	here  bool // the filter lets something in it through
	count bool // something in it counts
	// files of several links, which may be the same as others of the selection
	links []fileRef
	list  []listed // every entry that counts, if asked for
}

// fileRef is an entry of a directory.
type fileRef struct {
	n *dirNode
	i int
}

func (f fileRef) entry() *entry { return &f.n.entries[f.i] }

// listed is an entry that counts, and its place.
type listed struct {
	fileRef
	rel string
}

// walk goes through a view, in parallel.
type walk struct {
	v       *View
	lenient bool // passes over what cannot be read
	list    bool // collects the entries
	noHash  bool // reads no files; sums are not to be used
}

// item is an entry of a directory on its way into the sum.
type item struct {
	i            int
	in, selected bool
	sub          *subItem // of a directory
}

// subItem is what is below a directory.
type subItem struct {
	walk  bool
	below states
	f     folded
}

// dir folds a directory. It remembers what it found, if nothing special was asked.
func (w *walk) dir(ctx context.Context, n *dirNode, s states) (folded, error) {
	plain := !w.list && !w.noHash && s.selected == nil
	if plain {
		if f := w.v.remembered(n, &s); f != nil {
			return *f, nil
		}
	}
	f, err := w.fold(ctx, n, s)
	if err == nil && plain && !w.lenient {
		w.v.remember(n, &s, f)
	}
	return f, err
}

func (w *walk) fold(ctx context.Context, n *dirNode, s states) (folded, error) {
	if err := ctx.Err(); err != nil {
		return folded{}, err
	}
	if err := w.v.t.list(n); err != nil {
		return folded{}, err
	}
	items := make([]item, 0, len(n.entries))
	files := make([]int, 0, len(n.entries))
	whole := s.whole()
	for i := range n.entries {
		e := &n.entries[i]
		v := verdict{in: true, selected: true, walk: e.kind == kindDir}
		if !whole {
			var err error
			if v, err = w.v.judge(&s, e); err != nil {
				return folded{}, err
			}
		} else if w.list {
			v.below.rel = join(s.rel, e.name)
		}
		if !v.in && !v.walk {
			continue
		}
		it := item{i: i, in: v.in, selected: v.selected}
		if e.kind == kindDir {
			it.sub = &subItem{walk: v.walk, below: v.below}
		}
		items = append(items, it)
		if e.kind == kindFile && v.in && v.selected {
			files = append(files, i)
		}
	}
	if err := w.contents(ctx, n, items, files); err != nil {
		return folded{}, err
	}
	return w.sum(n, s.rel, items), nil
}

// contents reads what is in the directories and the files of a directory.
func (w *walk) contents(ctx context.Context, n *dirNode, items []item, files []int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(items)+1)
	var wg sync.WaitGroup
	for k := range items {
		if items[k].sub == nil || !items[k].descend() {
			continue
		}
		work := func() {
			if errs[k] = w.below(ctx, n.entries[items[k].i].dir, &items[k]); errs[k] != nil {
				cancel()
			}
		}
		if w.v.t.walker() {
			wg.Go(func() {
				defer w.v.t.walkerDone()
				work()
			})
		} else {
			work()
		}
	}
	if !w.noHash {
		errs[len(items)] = w.hash(ctx, n, files)
	}
	wg.Wait()
	return firstCause(errs)
}

// descend tells whether what is below a directory matters: for what counts, or,
// if the filter does not let the directory itself through, for whether it is there.
func (it *item) descend() bool {
	return it.sub.walk && (!it.sub.below.selected.nothing() || !it.in)
}

// below folds a directory of a directory.
func (w *walk) below(ctx context.Context, n *dirNode, it *item) error {
	f, err := w.dir(ctx, n, it.sub.below)
	switch {
	case err == nil:
		it.sub.f = f
		return nil
	case isGone(err) && n.gone():
		it.in = false
		return nil
	case errors.Is(err, fs.ErrPermission) && !it.in, w.lenient && ctx.Err() == nil:
		return nil
	default:
		return unreadable(err)
	}
}

func (w *walk) hash(ctx context.Context, n *dirNode, files []int) error {
	err := w.v.t.hashFiles(ctx, n, files)
	switch {
	case err == nil:
		return nil
	case !w.lenient:
		return unreadable(err)
	}
	for _, i := range files { // around the one that cannot be read
		if err := w.v.t.hashFiles(ctx, n, []int{i}); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// firstCause is the first error that is not the consequence of another one.
func firstCause(errs []error) error {
	var cancelled error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		if cancelled == nil {
			cancelled = err
		}
	}
	return cancelled
}

// sum puts together what counts in a directory.
func (w *walk) sum(n *dirNode, rel string, items []item) folded {
	out := folded{}
	var buf []byte
	count := 0
	for k := range items {
		it := &items[k]
		e := &n.entries[it.i]
		var below *folded
		if it.sub != nil {
			below = &it.sub.f
			here := it.in || below.here
			out.here = out.here || here
			if !below.count && !(it.selected && here) {
				continue
			}
			out.files += below.files
			out.bytes += below.bytes
			out.links = append(out.links, below.links...)
		} else {
			out.here = out.here || it.in
			if !it.in || !it.selected {
				continue
			}
			out.files++
			if !w.noHash { // else a file may be being hashed, and be changed by that
				if e.kind == kindFile {
					out.bytes += e.size
				}
				if e.more != nil && e.more.linked {
					out.links = append(out.links, fileRef{n, it.i})
				}
			}
		}
		out.count = true
		count++
		if w.list {
			out.list = append(out.list, listed{fileRef{n, it.i}, join(rel, e.name)})
			if below != nil {
				out.list = append(out.list, below.list...)
			}
		}
		if !w.noHash {
			buf = w.v.t.appendEntry(buf, e, below)
		}
	}
	h := graph.NewHasher("zlayer.dir.v1")
	h.Int(count)
	h.Bytes(buf)
	out.sum = sumOf(h)
	return out
}

// appendEntry frames an entry for hashing. Everything is of fixed length or
// preceded by its length, and the kind says which fields follow.
func (t *Trees) appendEntry(buf []byte, e *entry, below *folded) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(e.name)))
	buf = append(buf, e.name...)
	attrs := e.xattrs()
	if e.dir != nil {
		attrs = e.dir.xattrs
	}
	marks := byte(0)
	if attrs != nil {
		marks |= 1
	}
	if e.kind != kindFile && e.flags&flagTouched != 0 {
		marks |= 2
	}
	buf = append(buf, byte(e.kind), marks)
	buf = binary.BigEndian.AppendUint16(buf, t.countedPerm(e.kind, e.perm))
	if attrs != nil {
		buf = append(buf, attrs[:]...)
	}
	switch e.kind {
	case kindFile:
		s := e.counted()
		buf = append(buf, s[:]...)
	case kindDir:
		buf = append(buf, below.sum[:]...)
	case kindLink:
		buf = binary.AppendUvarint(buf, uint64(len(e.link())))
		buf = append(buf, e.link()...)
	case kindChar, kindBlock:
		buf = binary.BigEndian.AppendUint64(buf, e.more.rdev)
	}
	return buf
}

// remembered is the result for a directory that was folded before with the same
// states: shared by all views if everything in it counts, and by those with the
// same exclude patterns if nothing else matters.
func (v *View) remembered(n *dirNode, s *states) *folded {
	if s.whole() {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.full
	}
	mu, memo := v.memoFor(s)
	mu.Lock()
	defer mu.Unlock()
	return memo[n]
}

func (v *View) remember(n *dirNode, s *states, f folded) {
	if s.whole() {
		n.mu.Lock()
		n.full = &f
		n.mu.Unlock()
		return
	}
	mu, memo := v.memoFor(s)
	mu.Lock()
	memo[n] = &f
	mu.Unlock()
}

func (v *View) memoFor(s *states) (*sync.Mutex, map[*dirNode]*folded) {
	if v.exclude != nil && constant(s.include, true, true) {
		return &v.exclude.mu, v.exclude.memo
	}
	return &v.mu, v.memo
}
