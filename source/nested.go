package source

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreName is what nested ignore files are called.
const ignoreName = ".dockerignore"

// NestedIgnore collects the ignore files of a directory and of those below it
// into one list of patterns of the directory that means the same. Every file
// applies to its own directory and what is below; where they contradict each
// other the deeper one wins, as with git. The language in them is that of
// .dockerignore all the same: a pattern is relative to the file's directory, and
// only one that begins with **/ matches at any depth. Files in directories that
// are ignored are not looked for.
//
// rootFile is the ignore file of the directory itself, relative to it, if it is
// not called .dockerignore. origin tells which file and line excludes a path, the
// file relative to the directory; see [WhyExcluded].
func NestedIgnore(ctx context.Context, t *Trees, dir, rootFile string) (patterns []string, origin func(path string) (file string, line int, ok bool), err error) {
	if rootFile == "" {
		rootFile = ignoreName
	}
	c := ignoreCollector{t: t, dir: dir, m: &matcher{}}
	if err := c.collect(ctx, t.node(dir), "", rootFile); err != nil {
		return nil, nil, fmt.Errorf("reading ignore files: %w", err)
	}
	return c.patterns, func(path string) (string, int, bool) {
		i, ok := WhyExcluded(c.patterns, path)
		if !ok {
			return "", 0, false
		}
		return c.origins[i].file, c.origins[i].line, true
	}, nil
}

// ignoreLine is where a pattern was written.
type ignoreLine struct {
	file string
	line int
}

type ignoreCollector struct {
	t        *Trees
	dir      string
	patterns []string
	origins  []ignoreLine
	m        *matcher // of the patterns
}

// collect reads the ignore file of a directory, then those of the directories in
// it that are not ignored.
func (c *ignoreCollector) collect(ctx context.Context, n *dirNode, rel, file string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.t.list(n); err != nil {
		if rel != "" && (isGone(err) || os.IsPermission(err)) {
			return nil // an error if it turns out to be needed
		}
		return err
	}
	if _, ok := n.find(file); ok || rel == "" { // that of the root may lie anywhere
		if err := c.read(rel, file); err != nil {
			return err
		}
	}
	for i := range n.entries {
		e := &n.entries[i]
		if e.kind != kindDir {
			continue
		}
		sub := join(rel, e.name)
		_, ignored, err := c.m.why(sub)
		if err != nil {
			return err
		}
		if ignored {
			continue
		}
		if err := c.collect(ctx, e.dir, sub, ignoreName); err != nil {
			return err
		}
	}
	return nil
}

// read adds the patterns of one file, if there is one.
func (c *ignoreCollector) read(rel, file string) error {
	data, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(rel), file))
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	found := len(c.patterns)
	for i, line := range strings.Split(string(data), "\n") {
		list, err := ignorefile.ReadAll(strings.NewReader(line))
		if err != nil {
			return &fs.PathError{Op: "read", Path: join(rel, file), Err: err}
		}
		for _, p := range list {
			if p, ok := below(rel, p); ok {
				c.patterns = append(c.patterns, p)
				c.origins = append(c.origins, ignoreLine{join(rel, file), i + 1})
			}
		}
	}
	if len(c.patterns) > found {
		if c.m, err = newMatcher(c.patterns); err != nil {
			return fmt.Errorf("%s: %w", join(rel, file), err)
		}
	}
	return nil
}

// below makes a pattern of a directory one of the directory above it. A pattern
// that means nothing in a nested file (the directory itself, or what is outside
// of it) is left out.
func below(rel, pattern string) (string, bool) {
	if rel == "" {
		return pattern, true
	}
	pattern, exception := strings.CutPrefix(pattern, "!")
	pattern = path.Clean(strings.TrimPrefix(strings.TrimSpace(pattern), "/"))
	if pattern == "." || pattern == ".." || strings.HasPrefix(pattern, "../") {
		return "", false
	}
	pattern = escaped(rel) + "/" + pattern
	if exception {
		pattern = "!" + pattern
	}
	return pattern, true
}

// escaped makes a path a pattern that matches just it.
func escaped(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		if c < 0x80 && c != '/' && !isPlain(rune(c)) || c == ' ' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// why walks down to a path and returns which pattern decides about it, -1 if none
// does, and whether it is excluded.
func (m *matcher) why(p string) (decisive int, excluded bool, err error) {
	decisive = -1
	s := m.start()
	parts := components(p)
	for i, name := range parts {
		dir := strings.Join(parts[:i], "/")
		hit := m.hits()
		excluded, err = m.match(s, &target{dir: dir, name: name}, hit)
		if err != nil {
			return -1, false, err
		}
		s = m.enter(join(dir, name), hit)
	}
	matched := false
	for i, p := range m.patterns {
		if s.hit[i] && p.exclusion == matched {
			decisive, matched = i, !p.exclusion
		}
	}
	return decisive, excluded, nil
}

// WhyExcluded tells which of a list of exclude patterns is the reason that a path
// of a directory is left out: the last one that matches it or a directory above
// it. ok is false if the path is not excluded.
func WhyExcluded(patterns []string, path string) (index int, ok bool) {
	used := slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return strings.TrimSpace(p) == "" })
	m, err := newMatcher(used)
	if err != nil {
		return 0, false
	}
	i, excluded, err := m.why(filepath.ToSlash(path))
	if err != nil || !excluded || i < 0 {
		return 0, false
	}
	for index := range patterns {
		if strings.TrimSpace(patterns[index]) == "" {
			continue
		}
		if i == 0 {
			return index, true
		}
		i--
	}
	return 0, false
}
