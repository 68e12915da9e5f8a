package source

import (
	"context"
	"path"
	"path/filepath"
	"strings"
)

// leaves are what the path of a selection leads to, and the links on the way.
func (v *View) leaves(ctx context.Context, s Selection) ([]leaf, []linkAt, error) {
	base, pattern := path.Join("/", s.Path), ""
	if s.Wildcard {
		base, pattern = splitWildcards(base)
	}
	if pattern == "" {
		l, err := v.find(base, s.FollowSymlink)
		return []leaf{l}, l.links, err
	}
	top, err := v.find(base, true)
	if err != nil || top.missing || top.e != nil && top.e.kind != kindDir {
		return nil, top.links, err
	}
	at := top.in
	if top.e != nil {
		at = place{top.e.dir, top.v.below}
	}
	found, err := v.glob(ctx, at, pattern, "")
	if err != nil {
		return nil, nil, err
	}
	links := top.links
	for i, l := range found {
		if l.e.kind != kindLink || !s.FollowSymlink {
			continue
		}
		if found[i], err = v.find(l.rel, true); err != nil {
			return nil, nil, err
		}
		links = append(links, found[i].links...)
	}
	return found, links, nil
}

// glob finds what matches a pattern below a directory. Like BuildKit it does not
// follow links there.
func (v *View) glob(ctx context.Context, at place, pattern, rel string) ([]leaf, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := v.t.list(at.n); err != nil {
		if isGone(err) {
			return nil, nil
		}
		return nil, unreadable(err)
	}
	var out []leaf
	for i := range at.n.entries {
		e := &at.n.entries[i]
		sub := join(rel, e.name)
		matched, _ := filepath.Match(pattern, sub) // BuildKit takes a bad pattern for one that matches nothing
		deeper := e.kind == kindDir && mayMatchBelow(pattern, sub)
		if !matched && !deeper {
			continue
		}
		verdict, err := v.judge(&at.s, e)
		if err != nil {
			return nil, err
		}
		switch {
		case matched && (verdict.in || verdict.walk):
			out = append(out, leaf{rel: join(at.s.rel, e.name), in: at, e: e, i: i, v: verdict})
		case !matched && verdict.walk:
			below, err := v.glob(ctx, place{e.dir, verdict.below}, pattern, sub)
			if err != nil {
				return nil, err
			}
			out = append(out, below...)
		}
	}
	return out, nil
}

// mayMatchBelow tells whether a pattern of filepath.Match may match something
// below dir. A class of characters may match a slash.
func mayMatchBelow(pattern, dir string) bool {
	if strings.ContainsAny(pattern, `[\`) {
		return true
	}
	parts := strings.Split(pattern, "/")
	n := strings.Count(dir, "/") + 1
	if n >= len(parts) {
		return false
	}
	matched, err := filepath.Match(strings.Join(parts[:n], "/"), dir)
	return matched || err != nil
}

// splitWildcards splits a path before its first component with a wildcard.
func splitWildcards(p string) (base, pattern string) {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if hasWildcard(part) {
			return path.Join("/", strings.Join(parts[:i], "/")), strings.Join(parts[i:], "/")
		}
	}
	return p, ""
}

func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}
