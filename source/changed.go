package source

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

// seen is an entry as a run saw it.
type seen struct {
	path string // absolute
	n    *dirNode
	i    int
	e    entry // a copy
}

// Changed looks again at everything that digests were made from and returns the
// absolute paths that have other content now: edited, new, or gone since they
// were read. It has to be asked when the daemon has read the directories. What
// was given to the daemon then is not what the digests say, so the result must
// not be recorded under them; [Trees.SyncID] will give another id afterwards.
func (t *Trees) Changed(ctx context.Context) ([]string, error) {
	o := t.opts
	o.CacheDir = ""
	now := Open(o)
	t.mu.Lock()
	views := make([]*View, 0, len(t.views))
	for _, v := range t.views {
		views = append(views, v)
	}
	files := make(map[string]*single, len(t.files))
	for path, f := range t.files {
		files[path] = f
	}
	t.mu.Unlock()
	var out []string
	for _, v := range views {
		paths, err := v.changed(ctx, now)
		if err != nil {
			return nil, fmt.Errorf("looking for changes in %s: %w", v.dir, err)
		}
		out = append(out, paths...)
	}
	for path, f := range files {
		f.once.Lock()
		done, s := f.done, f.e.sum
		f.once.Unlock()
		if !done {
			continue
		}
		if other, err := now.file(ctx, path); isGone(err) || err == nil && other != s {
			out = append(out, path)
		} else if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// changed compares a view with what another run finds.
func (v *View) changed(ctx context.Context, now *Trees) ([]string, error) {
	v.mu.Lock()
	var sels []Selection
	for _, c := range v.contents {
		c.mu.Lock()
		if c.done {
			sels = append(sels, c.sel)
		}
		c.mu.Unlock()
	}
	v.mu.Unlock()
	v.root.mu.Lock()
	synced := v.root.synced
	v.root.mu.Unlock()
	if len(sels) == 0 && !synced {
		return nil, nil
	}
	again, err := now.View(v.dir, v.filter)
	if isGone(err) {
		return []string{v.dir}, nil
	}
	if err != nil {
		return nil, err
	}
	if synced {
		// the daemon was sent all of it, selected or not
		paths, err := v.differences(ctx, again, Selection{})
		if err != nil || len(paths) > 0 {
			v.root.mu.Lock()
			v.root.bump = true
			v.root.mu.Unlock()
		}
		if err == nil && len(paths) == 0 {
			return nil, nil
		}
	}
	var out []string
	for _, s := range sels {
		paths, err := v.differences(ctx, again, s)
		if err != nil {
			return nil, err
		}
		out = append(out, paths...)
	}
	return out, nil
}

// differences are the paths of a selection that differ between two runs.
func (v *View) differences(ctx context.Context, again *View, s Selection) ([]string, error) {
	before, err := v.look(ctx, s)
	if err != nil {
		return nil, err
	}
	after, err := again.look(ctx, s)
	if err != nil {
		return nil, err
	}
	var out []string
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case j == len(after) || i < len(before) && before[i].path < after[j].path:
			out = append(out, before[i].path)
			i++
		case i == len(before) || after[j].path < before[i].path:
			out = append(out, after[j].path)
			j++
		default:
			differ, err := v.differ(ctx, again, &before[i], &after[j])
			if err != nil {
				return nil, err
			}
			if differ {
				out = append(out, before[i].path)
			}
			i, j = i+1, j+1
		}
	}
	return out, nil
}

// look lists a selection as it is known, without reading files.
func (v *View) look(ctx context.Context, s Selection) ([]seen, error) {
	got, err := v.selected(ctx, s, walk{v: v, list: true, noHash: true, lenient: true})
	if err != nil {
		return nil, err
	}
	var out []seen
	for _, l := range got.entries() {
		l.n.hashMu.Lock()
		out = append(out, seen{path: filepath.Join(v.dir, filepath.FromSlash(l.rel)), n: l.n, i: l.i, e: *l.entry()})
		l.n.hashMu.Unlock()
	}
	slices.SortFunc(out, func(a, b seen) int {
		switch {
		case a.path < b.path:
			return -1
		case a.path > b.path:
			return 1
		}
		return 0
	})
	return out, nil
}

// differ tells whether an entry counts differently now. Times alone do not count,
// so a file of other times is hashed again, and one that was changed so shortly
// before it was hashed that the times would not tell.
func (v *View) differ(ctx context.Context, again *View, a, b *seen) (bool, error) {
	if a.e.kind != b.e.kind || v.t.countedPerm(a.e.kind, a.e.perm) != v.t.countedPerm(b.e.kind, b.e.perm) {
		return true, nil
	}
	switch a.e.kind {
	case kindDir:
		return !equalSums(a.e.dir.xattrs, b.e.dir.xattrs), nil
	case kindFile:
		sa, sb := a.e.stat(), b.e.stat()
		if sa.sameVersion(&sb) && (a.e.flags&flagFresh == 0 || v.root.safe(&a.e)) {
			return false, nil
		}
		if sa.size != sb.size || a.e.flags&flagSum == 0 {
			return true, nil
		}
		if err := again.t.hashFiles(ctx, b.n, []int{b.i}); err != nil {
			return false, err
		}
		now := &b.n.entries[b.i]
		return now.sum != a.e.sum || !equalSums(now.xattrs(), a.e.xattrs()), nil
	case kindChar, kindBlock:
		return a.e.more.rdev != b.e.more.rdev || !equalSums(a.e.xattrs(), b.e.xattrs()), nil
	default:
		return a.e.link() != b.e.link() || !equalSums(a.e.xattrs(), b.e.xattrs()), nil
	}
}
