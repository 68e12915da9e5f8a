package source

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// Selection is what an operation takes from a local source. It may count more
// than the operation uses, never less.
type Selection struct {
	// Path is what is copied, or the selector of a mount; "" and "/" are everything.
	Path string
	// Wildcard says that Path may be a pattern.
	Wildcard bool
	// FollowSymlink says that a link at the end of Path stands for its target.
	// Links before the end always do. A link that was followed counts, too.
	FollowSymlink bool
	// Include and Exclude are patterns relative to what Path selects.
	Include, Exclude []string
	// DirContents says that of a directory its contents are copied. It makes no
	// difference to what counts.
	DirContents bool
}

// CopySelection is what a copy takes from its source.
func CopySelection(c *pb.FileActionCopy) Selection {
	return Selection{
		Path:     c.Src,
		Wildcard: c.AllowWildcard,
		// unpacking an archive follows links
		FollowSymlink: c.FollowSymlink || c.AttemptUnpackDockerCompatibility,
		Include:       c.IncludePatterns,
		Exclude:       c.ExcludePatterns,
		DirContents:   c.DirCopyContents,
	}
}

// MountSelection is what a mount of a source shows.
func MountSelection(m *pb.Mount) Selection {
	return Selection{Path: m.Selector, FollowSymlink: true}
}

// Content is what a selection comes down to.
type Content struct {
	// Digest is equal for equal content. It does not depend on the patterns that
	// select it. That a path leads nowhere has a digest of its own.
	Digest digest.Digest
	// Files counts what is selected apart from directories.
	Files int
	// Bytes is the size of the selected files.
	Bytes int64
}

// Entry is one path of a selection.
type Entry struct {
	// Path is relative to the view, with slashes. It need not be UTF-8.
	Path string
	// Mode is the type and the permission bits that count.
	Mode fs.FileMode
	// Link is the target of a symbolic link.
	Link string
	// Same is the first path of the selection that is the same file, if there is
	// one before Path (a hard link).
	Same string
	// Digest is that of a file's bytes.
	Digest digest.Digest
	// Xattrs is the digest of the extended attributes that count, "" without any.
	Xattrs digest.Digest
	// Device is the number of a device.
	Device uint64
	// Size is that of a file.
	Size int64
}

// key is a string that is equal for selections of the same.
func (s Selection) key() string {
	flags := strconv.FormatBool(s.Wildcard) + strconv.FormatBool(s.FollowSymlink)
	return Filter{Include: s.Include, Follow: []string{flags}, Exclude: s.Exclude}.key(s.Path)
}

// Digest returns the digest of a selection, and what it consists of. It is
// computed once.
func (v *View) Digest(ctx context.Context, s Selection) (Content, error) {
	key := s.key()
	v.mu.Lock()
	c := v.contents[key]
	if c == nil {
		c = &content{sel: s}
		v.contents[key] = c
	}
	v.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return c.c, nil
	}
	got, err := v.selected(ctx, s, walk{v: v})
	if err != nil {
		return Content{}, fmt.Errorf("reading %s: %w", v.dir, err)
	}
	c.c, c.done = got.content(), true
	return c.c, nil
}

// Entries lists a selection in order of paths.
func (v *View) Entries(ctx context.Context, s Selection) ([]Entry, error) {
	got, err := v.selected(ctx, s, walk{v: v, list: true})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", v.dir, err)
	}
	firsts := got.firsts()
	var out []Entry
	for _, l := range got.entries() {
		e := l.entry()
		entry := Entry{Path: l.rel, Mode: e.kind.typeBits() | fileMode(v.t.countedPerm(e.kind, e.perm)), Link: e.link()}
		attrs := e.xattrs()
		switch e.kind {
		case kindFile:
			entry.Digest, entry.Size = e.counted().digest(), e.size
		case kindDir:
			attrs = e.dir.xattrs
		case kindChar, kindBlock:
			entry.Device = e.more.rdev
		}
		if attrs != nil {
			entry.Xattrs = attrs.digest()
		}
		if first := firsts[l.fileRef]; first != l.rel {
			entry.Same = first
		}
		out = append(out, entry)
	}
	return out, nil
}

// selected is a selection that was walked.
type selected struct {
	v     *View
	parts []part
	links []linkAt // followed on the way, each once

}

// part is one path of a selection.
type part struct {
	leaf leaf
	f    folded
}

// selected finds and walks a selection.
func (v *View) selected(ctx context.Context, s Selection, w walk) (*selected, error) {
	lay, err := newLayer(s)
	if err != nil {
		return nil, err
	}
	leaves, links, err := v.leaves(ctx, s)
	if err != nil {
		return nil, err
	}
	out := &selected{v: v}
	seen := map[string]bool{}
	for _, l := range links {
		if !seen[l.rel] {
			seen[l.rel] = true
			out.links = append(out.links, l)
		}
	}
	slices.SortFunc(out.links, func(a, b linkAt) int { return cmp.Compare(a.rel, b.rel) })
	slices.SortFunc(leaves, func(a, b leaf) int { return cmp.Compare(a.rel, b.rel) })
	leaves = slices.CompactFunc(leaves, func(a, b leaf) bool { return a.rel == b.rel })
	for _, l := range leaves {
		p, err := w.part(ctx, l, lay)
		if err != nil {
			return nil, err
		}
		out.parts = append(out.parts, p)
	}
	return out, nil
}

func newLayer(s Selection) (*layer, error) {
	if len(s.Include) == 0 && len(s.Exclude) == 0 {
		return nil, nil
	}
	var lay layer
	var err error
	if len(s.Include) > 0 {
		if lay.include, err = newMatcher(s.Include); err != nil {
			return nil, fmt.Errorf("reading the include patterns of %s: %w", s.Path, err)
		}
	}
	if len(s.Exclude) > 0 {
		if lay.exclude, err = newMatcher(s.Exclude); err != nil {
			return nil, fmt.Errorf("reading the exclude patterns of %s: %w", s.Path, err)
		}
	}
	return &lay, nil
}

// part walks one leaf of a selection.
func (w *walk) part(ctx context.Context, l leaf, lay *layer) (part, error) {
	p := part{leaf: l}
	switch {
	case l.missing:
	case l.e == nil || l.e.kind == kindDir:
		at := l.in
		if l.e != nil {
			at = place{l.e.dir, l.v.below}
		}
		at.s.selected = lay.start()
		f, err := w.dir(ctx, at.n, at.s)
		switch {
		case l.e != nil && (err == nil && !l.v.in && !f.here || err != nil && isGone(err) && at.n.gone()):
			p.leaf.missing = true
			return p, nil
		case err != nil:
			return part{}, unreadable(err)
		}
		p.f = f
	default:
		n := l.in.n
		if l.e.kind == kindFile && !w.noHash {
			if err := w.v.t.hashFiles(ctx, n, []int{l.i}); err != nil {
				return part{}, unreadable(err)
			}
		}
		p.f = folded{files: 1, here: true, count: true}
		if w.noHash {
			return p, nil
		}
		if l.e.kind == kindFile {
			p.f.bytes = l.e.size
		}
		if l.e.more != nil && l.e.more.linked {
			p.f.links = []fileRef{{n, l.i}}
		}
	}
	return p, nil
}

// start is the state of a selection's patterns in the directory it selects.
func (l *layer) start() *selectState {
	if l == nil {
		return nil
	}
	return &selectState{layer: l, include: l.include.start(), exclude: l.exclude.start()}
}

// rel is the path of a file relative to the view.
func (s *selected) rel(f fileRef) string {
	return join(f.n.under(s.v.root.n), f.entry().name)
}

// groups are the selected paths that are the same file, in order.
func (s *selected) groups() [][]fileRef {
	type id struct{ dev, ino uint64 }
	byID := map[id][]fileRef{}
	for _, p := range s.parts {
		for _, f := range p.f.links {
			k := id{f.entry().more.dev, f.entry().ino}
			if !slices.Contains(byID[k], f) {
				byID[k] = append(byID[k], f)
			}
		}
	}
	var out [][]fileRef
	for _, g := range byID {
		if len(g) > 1 {
			slices.SortFunc(g, func(a, b fileRef) int { return cmp.Compare(s.rel(a), s.rel(b)) })
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b []fileRef) int { return cmp.Compare(s.rel(a[0]), s.rel(b[0])) })
	return out
}

// firsts maps the files of groups to the first path of their group.
func (s *selected) firsts() map[fileRef]string {
	out := map[fileRef]string{}
	for _, g := range s.groups() {
		for _, f := range g {
			out[f] = s.rel(g[0])
		}
	}
	return out
}

// content sums a selection up.
func (s *selected) content() Content {
	var c Content
	h := graph.NewHasher("zlayer.selection.v1")
	h.Int(len(s.links))
	for _, l := range s.links {
		c.Files++
		h.String(l.rel)
		h.Bytes(s.v.t.appendEntry(nil, l.e, nil))
	}
	h.Int(len(s.parts))
	for _, p := range s.parts {
		c.Files += p.f.files
		c.Bytes += p.f.bytes
		h.String(p.leaf.rel)
		switch {
		case p.leaf.missing:
			h.String("missing")
		case p.leaf.e == nil:
			h.String("root")
			h.Bytes(p.f.sum[:])
		default:
			h.String("entry")
			h.Bytes(s.v.t.appendEntry(nil, p.leaf.e, &p.f))
		}
	}
	groups := s.groups()
	h.Int(len(groups))
	for _, g := range groups {
		h.Int(len(g))
		for _, f := range g {
			h.String(s.rel(f))
		}
	}
	c.Digest = h.Digest()
	return c
}

// entries are all entries of a selection in order, each once.
func (s *selected) entries() []listed {
	var out []listed
	for _, l := range s.links {
		n, name := s.v.root.n, path.Base(l.rel)
		for _, part := range components(path.Dir(l.rel)) {
			n = n.kid(part)
		}
		if i, ok := n.find(name); ok {
			out = append(out, listed{fileRef{n, i}, l.rel})
		}
	}
	for _, p := range s.parts {
		if !p.leaf.missing && p.leaf.e != nil {
			out = append(out, listed{fileRef{p.leaf.in.n, p.leaf.i}, p.leaf.rel})
		}
		out = append(out, p.f.list...)
	}
	slices.SortFunc(out, func(a, b listed) int { return cmp.Compare(a.rel, b.rel) })
	return slices.CompactFunc(out, func(a, b listed) bool { return a.rel == b.rel })
}
