package source

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"
)

// known is what a run knows of the files of a directory.
type known struct {
	rel    string
	n      *dirNode // nil if only single files of it are known
	single []*single
}

// save merges what this run knows below a root into its index on disk, if there
// is anything new.
func (t *Trees) save(r *root) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == "" || r.base != nil && !r.dirty && !r.bump && t.fresh.Load() == 0 {
		return nil
	}
	dirs := t.knownBelow(r.n)
	if r.base == nil && !r.synced && !anySum(dirs) {
		return nil
	}
	if err := os.MkdirAll(t.opts.CacheDir, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(t.opts.CacheDir, "lock"))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Close()
	base := r.base
	if disk := currentIndex(r.file, base); disk != base {
		base = disk
	}
	m := merge{r: r, base: base, today: r.today()}
	m.run(dirs)
	if base != nil && !m.changed && !m.lie && !r.bump {
		r.base, r.dirty = base, false
		return nil
	}
	h := header{id: newID(), serial: newSerial()}
	if base != nil {
		h.id, h.generation = base.id, base.generation
		if m.lie || r.bump {
			h.generation++
		}
	}
	data, err := m.out.encode(h)
	if err != nil {
		return err
	}
	// a generation that was given out must survive a power failure
	if err := t.replaceIndex(r.file, data, base == nil || h.generation != base.generation); err != nil {
		return err
	}
	r.base, err = decodeIndex(data)
	r.bump, r.dirty = false, false
	return err
}

// anySum tells whether there is something to write.
func anySum(dirs []known) bool {
	return slices.ContainsFunc(dirs, func(k known) bool {
		if len(k.single) > 0 {
			return true
		}
		if k.n == nil {
			return false
		}
		k.n.hashMu.Lock()
		defer k.n.hashMu.Unlock()
		return slices.ContainsFunc(k.n.entries, func(e entry) bool { return e.kind == kindFile && e.flags&flagSum != 0 })
	})
}

// currentIndex is what is on disk now: base itself if nobody replaced it.
func currentIndex(file string, base *index) *index {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil
	}
	if base != nil && x.header == base.header {
		return base
	}
	return x
}

// replaceIndex writes a file whole or not at all.
func (t *Trees) replaceIndex(file string, data []byte, durable bool) error {
	f, err := os.CreateTemp(t.opts.CacheDir, tempPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone if all went well
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing a stat index: %w", err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	if durable {
		if d, err := os.Open(t.opts.CacheDir); err == nil {
			_ = d.Sync() // not every file system can
			d.Close()
		}
	}
	return nil
}

// knownBelow lists the directories below top of which something is known, sorted
// by path.
func (t *Trees) knownBelow(top *dirNode) []known {
	singles := map[*dirNode][]*single{}
	t.mu.Lock()
	for _, f := range t.files {
		singles[f.dir] = append(singles[f.dir], f)
	}
	t.mu.Unlock()
	var out []known
	var visit func(n *dirNode, rel string)
	visit = func(n *dirNode, rel string) {
		n.mu.Lock()
		listed := n.listed && n.err == nil
		kids := make([]*dirNode, 0, len(n.kids))
		for _, k := range n.kids {
			kids = append(kids, k)
		}
		n.mu.Unlock()
		switch {
		case listed:
			out = append(out, known{rel: rel, n: n})
			for i := range n.entries {
				if e := &n.entries[i]; e.dir != nil {
					kids = append(kids, e.dir)
				}
			}
		case len(singles[n]) > 0:
			out = append(out, known{rel: rel, single: singles[n]})
		}
		for _, k := range kids {
			visit(k, join(rel, k.name))
		}
	}
	visit(top, "")
	slices.SortFunc(out, func(a, b known) int { return cmp.Compare(a.rel, b.rel) })
	return out
}

// merge puts an old index and what a run knows together.
type merge struct {
	r       *root
	base    *index // may be nil
	today   uint16
	out     indexWriter
	changed bool // the result says something else than the base
	lie     bool // a file is not what BuildKit will take it for
	expired int  // records that nobody asked for in a while
	kept    int
	drop    bool // expired records are left out
}

// run merges twice if so much has expired that it is worth to forget it: that
// makes the daemon fetch everything again, because what is forgotten cannot be
// compared any more.
func (m *merge) run(dirs []known) {
	m.pass(dirs)
	if m.expired > 1000+m.kept/4 {
		m.drop, m.lie = true, true
		m.out = indexWriter{}
		m.pass(dirs)
	}
}

func (m *merge) pass(dirs []known) {
	d, old := 0, 0
	if m.base != nil {
		old = m.base.dirCount()
	}
	for _, k := range dirs {
		for d < old && string(m.base.dirName(d)) < k.rel {
			m.keepDir(d)
			d++
		}
		if d < old && string(m.base.dirName(d)) == k.rel {
			m.mergeDir(&k, d)
			d++
		} else {
			m.mergeDir(&k, -1)
		}
	}
	for ; d < old; d++ {
		m.keepDir(d)
	}
}

// isExpired counts what was last seen too long ago, and tells whether to leave it out.
func (m *merge) isExpired(seen uint16) bool {
	if int(m.today)-int(seen) <= unusedDays {
		m.kept++
		return false
	}
	m.expired++
	return m.drop
}

// keepDir takes over a directory that this run did not look at.
func (m *merge) keepDir(d int) {
	dir := m.base.dir(d)
	if m.isExpired(dir.seen) {
		return
	}
	m.out.add(string(m.base.dirName(d)), dir.seen, m.base.xattrSum(dir.xattr))
	for i := dir.first; i < dir.first+dir.count; i++ {
		m.keepFile(i)
	}
}

func (m *merge) keepFile(i int) {
	if rec := m.base.record(i); !m.isExpired(rec.seen) {
		m.out.file(string(m.base.name(i)), &rec, m.base.xattrSum(rec.xattr))
	}
}

// mergeDir merges a directory with number d of the old index, -1 if it is new.
func (m *merge) mergeDir(k *known, d int) {
	var dir dirRecord
	var oldXattrs *sum
	if d >= 0 {
		dir = m.base.dir(d)
		oldXattrs = m.base.xattrSum(dir.xattr)
	}
	attrs, seen := oldXattrs, m.today
	if k.n != nil {
		attrs = k.n.xattrs
		if d >= 0 && !equalSums(attrs, oldXattrs) {
			m.lie = true // BuildKit compares nothing but modes of directories
		}
	}
	files := m.files(k)
	if d < 0 {
		m.changed = m.changed || len(files) > 0 || attrs != nil
		if len(files) == 0 && attrs == nil {
			return
		}
	} else {
		seen = m.refreshed(dir.seen)
	}
	m.out.add(k.rel, seen, attrs)
	i, end := dir.first, dir.first+dir.count
	for _, f := range files {
		for i < end && string(m.base.name(i)) < f.name {
			m.keepFile(i)
			i++
		}
		if i < end && string(m.base.name(i)) == f.name {
			old := m.base.record(i)
			m.mergeFile(f, &old)
			i++
		} else {
			m.mergeFile(f, nil)
		}
	}
	for ; i < end; i++ {
		m.keepFile(i)
	}
}

// files are copies of the files of a directory whose sums are known.
func (m *merge) files(k *known) []entry {
	var out []entry
	add := func(e *entry) {
		if e.kind == kindFile && e.flags&flagSum != 0 && e.flags&(flagPhantom|flagSocket) == 0 {
			out = append(out, *e)
		}
	}
	if k.n == nil {
		for _, f := range k.single {
			f.once.Lock()
			if f.done {
				add(&f.e)
			}
			f.once.Unlock()
		}
		slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
		return out
	}
	k.n.hashMu.Lock()
	defer k.n.hashMu.Unlock()
	for i := range k.n.entries {
		add(&k.n.entries[i])
	}
	return out
}

// mergeFile writes what is known of a file now, and compares it with what was
// known before as BuildKit will compare it with what the daemon has: by time. The
// daemon may have any version that was ever seen; none of them is newer than the
// record, so a file is only surely fetched again if it is newer still. That the
// record has the same size proves nothing: the version before it may have had
// this one's.
func (m *merge) mergeFile(e entry, old *record) {
	m.kept++
	rec := record{size: e.size, mtime: e.mtime, ctime: e.ctime, ino: e.ino, sum: e.sum, perm: e.perm, seen: m.today}
	if e.flags&flagFresh == 0 || m.r.safe(&e) {
		rec.flags |= recordSafe
	}
	attrs := e.xattrs()
	if old == nil {
		m.changed = true
		m.out.file(e.name, &rec, attrs)
		return
	}
	rec.seen = m.refreshed(old.seen)
	oldAttrs := m.base.xattrSum(old.xattr)
	same := equalSums(attrs, oldAttrs)
	switch {
	case e.mtime < old.mtime, e.mtime == old.mtime && !(e.sum == old.sum && same):
		m.lie = true
	}
	cmp := *old
	cmp.xattr, cmp.seen = 0, rec.seen
	m.changed = m.changed || cmp != rec || !same
	m.out.file(e.name, &rec, attrs)
}

// refreshed is the day to note for something that is in use.
func (m *merge) refreshed(seen uint16) uint16 {
	if !m.r.isOld(seen) {
		return seen
	}
	m.changed = true
	return m.today
}

func equalSums(a, b *sum) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
