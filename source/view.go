package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
)

// View is a directory as a local source with a filter would send it. Its methods
// may be called concurrently.
type View struct {
	t       *Trees
	root    *root
	dir     string
	filter  Filter
	include *matcher // nil includes all
	exclude *matcher // nil excludes nothing

	mu       sync.Mutex
	memo     map[*dirNode]*folded
	contents map[string]*content
}

// content is what was found out about a selection.
type content struct {
	mu   sync.Mutex
	done bool
	sel  Selection
	c    Content
}

func (t *Trees) newView(r *root, dir string, f Filter) (*View, error) {
	includes, err := t.includes(r.n, f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", dir, err)
	}
	v := &View{t: t, root: r, dir: dir, filter: f, memo: map[*dirNode]*folded{}, contents: map[string]*content{}}
	if len(includes) > 0 {
		if v.include, err = newMatcher(includes); err != nil {
			return nil, fmt.Errorf("reading the include patterns of %s: %w", dir, err)
		}
	}
	if v.exclude, err = t.exclude(dir, f.Exclude); err != nil {
		return nil, fmt.Errorf("reading the exclude patterns of %s: %w", dir, err)
	}
	return v, nil
}

// states is where a walk stands: what is known of all patterns in a directory.
type states struct {
	rel              string // the directory, relative to the view
	include, exclude *matchState
	selected         *selectState // nil when everything is selected
}

// selectState is the same for the patterns of a selection, which are relative to
// the selected directory.
type selectState struct {
	layer            *layer
	rel              string
	include, exclude *matchState
}

// layer are the patterns of a selection.
type layer struct{ include, exclude *matcher }

// verdict is what happens to an entry.
type verdict struct {
	in       bool // the filter lets it through
	selected bool // and the selection takes it
	walk     bool // a directory in which something may be let through
	below    states
}

func (v *View) start() states {
	return states{include: v.include.start(), exclude: v.exclude.start()}
}

// whole tells whether everything below is let through and selected, and nothing
// whether nothing is.
func (s *states) whole() bool {
	return s.selected == nil && constant(s.include, true, true) && constant(s.exclude, false, false)
}

func (s *states) nothing() bool {
	return s.include != nil && constant(s.include, false, false) || s.exclude != nil && constant(s.exclude, true, false)
}

// constant tells whether a state gives the answer want to everything; absent is
// the result for no patterns.
func constant(m *matchState, want, absent bool) bool {
	if m == nil {
		return want == absent
	}
	return m.constant && m.value == want
}

// judge decides about an entry of the directory that the states are of, in the
// way of the Walk of fsutil's filter and, for the selection, of its copy.
func (v *View) judge(s *states, e *entry) (verdict, error) {
	t := target{dir: s.rel, name: e.name}
	isDir := e.kind == kindDir
	var incHit, excHit []bool
	if isDir {
		incHit, excHit = v.include.hits(), v.exclude.hits()
	}
	out := verdict{in: true, walk: isDir}
	if v.include != nil {
		m, err := v.include.match(s.include, &t, incHit)
		if err != nil {
			return verdict{}, err
		}
		if !m {
			if isDir && v.include.includePrefixes && !v.include.leadsInto(t.path(), false) {
				return verdict{}, nil
			}
			out.in = false
		}
	}
	if v.exclude != nil {
		m, err := v.exclude.match(s.exclude, &t, excHit)
		if err != nil {
			return verdict{}, err
		}
		if m {
			if isDir && v.exclude.exceptionPrefixes && (!v.exclude.exclusions || !v.exclude.leadsInto(t.path(), true)) {
				return verdict{}, nil
			}
			out.in = false
		}
	}
	if isDir {
		out.below = states{rel: t.path()}
		if v.include != nil {
			out.below.include = v.include.enter(t.path(), incHit)
		}
		if v.exclude != nil {
			out.below.exclude = v.exclude.enter(t.path(), excHit)
		}
		out.walk = !out.below.nothing()
	}
	return out, v.judgeSelected(s, e, &out)
}

func (v *View) judgeSelected(s *states, e *entry, out *verdict) error {
	if s.selected == nil {
		out.selected = true
		return nil
	}
	sel := s.selected
	t := target{dir: sel.rel, name: e.name}
	isDir := e.kind == kindDir
	below := &selectState{layer: sel.layer}
	out.selected = true
	if m := sel.layer.include; m != nil {
		hit := m.hits()
		ok, err := m.match(sel.include, &t, hit)
		if err != nil {
			return err
		}
		out.selected = ok
		if isDir {
			below.include = m.enter(t.path(), hit)
		}
	}
	if m := sel.layer.exclude; m != nil {
		hit := m.hits()
		ok, err := m.match(sel.exclude, &t, hit)
		if err != nil {
			return err
		}
		if ok {
			out.selected = false
		}
		if isDir {
			below.exclude = m.enter(t.path(), hit)
		}
	}
	if isDir {
		below.rel = t.path()
		if !below.whole() {
			out.below.selected = below
		}
	}
	return nil
}

// whole tells whether everything below is selected, and nothing whether nothing is.
func (s *selectState) whole() bool {
	return constant(s.include, true, true) && constant(s.exclude, false, false)
}

func (s *selectState) nothing() bool {
	return s != nil && (s.include != nil && constant(s.include, false, false) || s.exclude != nil && constant(s.exclude, true, false))
}

// hits is room for what match finds out.
func (m *matcher) hits() []bool {
	if m == nil {
		return nil
	}
	return make([]bool, len(m.patterns))
}

// place is a directory on the way to something, with the states in it.
type place struct {
	n *dirNode
	s states
}

// leaf is what a path leads to: an entry, or the view's root, or nothing.
type leaf struct {
	rel     string
	missing bool
	in      place    // the directory that the entry is in
	e       *entry   // nil for the root
	i       int      // of e in the directory
	v       verdict  // about e
	links   []linkAt // followed on the way
}

// linkAt is a link that was followed.
type linkAt struct {
	rel string
	e   *entry
}

// maxLinks is how many links are followed before a path is taken for a circle.
const maxLinks = 255

// find follows a path of the view, links included, as far as there is something.
// The last component is followed only if follow is set.
func (v *View) find(path string, follow bool) (leaf, error) {
	stack := []place{{v.root.n, v.start()}}
	out := leaf{}
	todo := components(path)
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		at := stack[len(stack)-1]
		rel := join(at.s.rel, name)
		next, err := v.step(at, name)
		if err != nil {
			return leaf{}, err
		}
		next.rel, next.links = rel, out.links
		switch {
		case next.missing:
			next.rel = join(rel, strings.Join(todo, "/"))
			return next, nil
		case next.e.kind == kindLink && (follow || len(todo) > 0):
			out.links = append(out.links, linkAt{rel, next.e})
			if len(out.links) > maxLinks {
				return leaf{rel: rel, missing: true, links: out.links}, nil
			}
			if strings.HasPrefix(next.e.link(), "/") {
				stack = stack[:1]
			}
			todo = append(components(next.e.link()), todo...)
		case next.e.kind == kindDir:
			stack = append(stack, place{next.e.dir, next.v.below})
			if len(todo) == 0 {
				return next, nil
			}
		case len(todo) > 0: // below something that is no directory
			return leaf{rel: join(rel, strings.Join(todo, "/")), missing: true, links: out.links}, nil
		default:
			return next, nil
		}
	}
	return v.leafAt(stack, out.links)
}

// leafAt is the directory at the end of a stack, reached by a way that ended in
// a link or in "..".
func (v *View) leafAt(stack []place, links []linkAt) (leaf, error) {
	if len(stack) == 1 {
		return leaf{in: stack[0], links: links}, nil
	}
	at := stack[len(stack)-2]
	n := stack[len(stack)-1].n
	out, err := v.step(at, n.name)
	out.rel, out.links = join(at.s.rel, n.name), links
	return out, err
}

// step looks a name up in a directory.
func (v *View) step(at place, name string) (leaf, error) {
	out := leaf{in: at, missing: true}
	if err := v.t.list(at.n); err != nil {
		if isGone(err) {
			return out, nil
		}
		return leaf{}, unreadable(err)
	}
	i, ok := at.n.find(name)
	if !ok {
		return out, nil
	}
	e := &at.n.entries[i]
	verdict, err := v.judge(&at.s, e)
	if err != nil {
		return leaf{}, err
	}
	if !verdict.in && !verdict.walk {
		return out, nil
	}
	out.missing, out.e, out.i, out.v = false, e, i, verdict
	return out, nil
}

// components are the parts of a path, without empty ones and ".".
func components(path string) []string {
	var out []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return out
}

func join(dir, name string) string {
	if dir == "" || name == "" {
		return dir + name
	}
	return dir + "/" + name
}

// unreadable says what to do about a directory or file that cannot be read.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: exclude it in the ignore file, or make it readable", err)
	}
	return err
}

// walkAll is a walk that hashes every file of the view, whatever it is for; what
// cannot be read is passed over.
func (v *View) walkAll(ctx context.Context) error {
	w := walk{v: v, lenient: true}
	_, err := w.dir(ctx, v.root.n, v.start())
	return err
}
