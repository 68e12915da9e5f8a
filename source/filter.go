package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// Filter says which part of a directory a local source is, in the terms of a
// BuildKit local source operation.
type Filter struct {
	Include []string // local.includepattern
	Follow  []string // local.followpaths
	Exclude []string // local.excludepatterns
}

// FilterOf reads a filter from the attributes of a local source operation.
func FilterOf(attrs map[string]string) (Filter, error) {
	var f Filter
	for key, list := range map[string]*[]string{
		pb.AttrIncludePatterns: &f.Include,
		pb.AttrFollowPaths:     &f.Follow,
		pb.AttrExcludePatterns: &f.Exclude,
	} {
		if attrs[key] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(attrs[key]), list); err != nil {
			return Filter{}, fmt.Errorf("reading %s of a local source: %w", key, err)
		}
	}
	return f, nil
}

// key is a string that is equal for equal filters of a directory alone.
func (f Filter) key(dir string) string {
	var b strings.Builder
	add := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	add(dir)
	for _, list := range [][]string{f.Include, f.Follow, f.Exclude} {
		add(strconv.Itoa(len(list)))
		for _, s := range list {
			add(s)
		}
	}
	return b.String()
}

// includes are the patterns of what is in, as NewFilterFS of fsutil forms them
// from include patterns and followed paths; none if everything is.
func (t *Trees) includes(n *dirNode, f Filter) ([]string, error) {
	if len(f.Follow) == 0 {
		return f.Include, nil
	}
	targets, err := fsutil.FollowLinks(&treeFS{t, n}, f.Follow)
	if err != nil {
		return nil, fmt.Errorf("following links: %w", err)
	}
	if targets == nil { // one of them is the directory itself
		return f.Include, nil
	}
	// A path below the one before it adds nothing. fsutil does this to the whole
	// list, which is not sorted, and takes "." for everything: what it sends is
	// what counts.
	var out []string
	last := ""
	for _, p := range slices.Concat(f.Include, targets) {
		switch {
		case p == ".":
			return nil, nil
		case strings.HasPrefix(p, last+"/"):
			continue
		}
		out = append(out, p)
		last = p
	}
	return out, nil
}

// treeFS shows a directory to fsutil.FollowLinks, which looks at single entries
// and single directories.
type treeFS struct {
	t *Trees
	n *dirNode
}

// Walk calls fn for the target and what is directly in it.
func (f *treeFS) Walk(_ context.Context, target string, fn fs.WalkDirFunc) error {
	n, rel := f.n, filepath.ToSlash(filepath.Clean(target))
	if rel != "." {
		dir, name := "", rel
		if i := strings.LastIndexByte(rel, '/'); i >= 0 {
			dir, name = rel[:i], rel[i+1:]
		}
		for part := range strings.SplitSeq(dir, "/") {
			if part == "" {
				continue
			}
			e, err := f.entry(n, part)
			if err != nil {
				return err
			}
			if e.dir == nil {
				return fs.ErrNotExist
			}
			n = e.dir
		}
		e, err := f.entry(n, name)
		if err != nil {
			return err
		}
		err = fn(filepath.FromSlash(rel), dirEntry(rel, e), nil)
		if skips(err) || err == nil && e.dir == nil {
			return nil
		}
		if err != nil {
			return err
		}
		n = e.dir
	}
	if err := f.t.list(n); err != nil {
		return err
	}
	for i := range n.entries {
		e := &n.entries[i]
		p := filepath.Join(filepath.FromSlash(rel), e.name)
		if err := fn(p, dirEntry(p, e), nil); err != nil && !skips(err) {
			return err
		}
	}
	return nil
}

// skips tells whether a walk goes on without what is below: for fsutil that is
// the case when something is gone, too.
func skips(err error) bool { return errors.Is(err, fs.SkipDir) || isGone(err) }

func (f *treeFS) entry(n *dirNode, name string) (*entry, error) {
	if err := f.t.list(n); err != nil {
		return nil, err
	}
	i, ok := n.find(name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &n.entries[i], nil
}

func dirEntry(path string, e *entry) fs.DirEntry {
	st := &fstypes.Stat{Path: filepath.FromSlash(path), Mode: uint32(e.kind.typeBits())}
	if e.kind == kindLink { // a file may be being hashed
		st.Linkname = e.link()
	}
	return &fsutil.DirEntryInfo{Stat: st}
}

// Open is there for the interface; FollowLinks opens nothing.
func (f *treeFS) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}
