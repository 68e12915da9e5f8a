package source

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

func TestNestedIgnore(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir,
		".dockerignore = # a comment\n*.log\n\n**/tmp\n",
		"web/.dockerignore = dist\n!keep.log\n**/*.map\n/rooted\n..\n.\n",
		"web/keep.log", "web/a.map", "web/src/b.map", "web/dist/x", "web/src/dist/y", "web/rooted", "a.map", "x.log", "web/x.log",
		"tmp/.dockerignore = !*\n", "tmp/x",
		"odd {*} !name/.dockerignore = f*\n", "odd {*} !name/foo", "odd {*} !name/bar", "odd {x} !name/foo",
		"deep/a/.dockerignore = **\n!b\n", "deep/a/b/c", "deep/a/x")
	trees := open(t, Options{})
	patterns, origin, err := NestedIgnore(t.Context(), trees, dir, "")
	must(t, err)
	v := view(t, trees, dir, Filter{Exclude: patterns})
	for p, want := range map[string]string{
		"x.log":                ".dockerignore:2",
		"web/x.log":            "",
		"web/dist":             "web/.dockerignore:1",
		"web/dist/x":           "web/.dockerignore:1",
		"web/src/dist/y":       "",
		"web/a.map":            "web/.dockerignore:3",
		"web/src/b.map":        "web/.dockerignore:3",
		"a.map":                "",
		"web/rooted":           "web/.dockerignore:4",
		"web/keep.log":         "",
		"tmp/x":                ".dockerignore:4", // its own file is not even looked for
		"odd {*} !name/foo":    "odd {*} !name/.dockerignore:1",
		"odd {*} !name/bar":    "",
		"odd {x} !name/foo":    "",
		"deep/a/b/c":           "",
		"deep/a/x":             "deep/a/.dockerignore:1",
		"deep/a/.dockerignore": "deep/a/.dockerignore:1",
		"nothing":              "",
	} {
		got := ""
		if file, line, ok := origin(p); ok {
			got = fmt.Sprintf("%s:%d", file, line)
		}
		if got != want {
			t.Errorf("%s is excluded by %q, want %q", p, got, want)
		}
		if there := slices.Contains(paths(t, v, Selection{Path: p}), p); p != "nothing" && there != (want == "") {
			t.Errorf("%s is there: %v; excluded by %q", p, there, want)
		}
	}
	// with another name for the file of the root
	tree(t, dir, "Dockerfile.dockerignore = web\n")
	patterns, _, err = NestedIgnore(t.Context(), open(t, Options{}), dir, "Dockerfile.dockerignore")
	must(t, err)
	if !slices.Contains(patterns, "web") || slices.ContainsFunc(patterns, func(p string) bool { return strings.HasPrefix(p, "web/") }) {
		t.Errorf("patterns are %q", patterns)
	}
	tree(t, dir, "bad/.dockerignore = ok\n[\n")
	if _, _, err := NestedIgnore(t.Context(), open(t, Options{}), dir, ""); err == nil || !strings.Contains(err.Error(), "bad/.dockerignore") {
		t.Errorf("got %v, want an error about bad/.dockerignore", err)
	}
}

func TestWhyExcluded(t *testing.T) {
	patterns := []string{"a", "", "!a/b", "**/*.log", "a/b/c.log", "!x.log"}
	for p, want := range map[string]int{
		"a": 0, "a/x": 0, "a/b": -1, "a/b/y": -1, "a/b/c.log": 3, "d.log": 3, "x.log": -1, "b": -1, "d/e.log": 3,
	} {
		i, ok := WhyExcluded(patterns, p)
		if !ok {
			i = -1
		}
		if i != want {
			t.Errorf("%s is excluded by pattern %d, want %d", p, i, want)
		}
	}
	if _, ok := WhyExcluded([]string{"["}, "["); ok {
		t.Error("a pattern that is none excludes something")
	}
	// it says that a path is excluded when patternmatcher does
	g := gen{rand.New(rand.NewPCG(3, 3))}
	for range 2000 {
		patterns := g.patterns(true)
		m, err := patternmatcher.New(patterns)
		if err != nil {
			continue
		}
		p := filepath.Join(g.name(), g.name())
		first, info, err := m.MatchesUsingParentResults(filepath.Dir(p), patternmatcher.MatchInfo{})
		_ = first
		if err != nil {
			continue
		}
		want, _, err := m.MatchesUsingParentResults(p, info)
		if err != nil {
			continue
		}
		i, got := WhyExcluded(patterns, p)
		if got != want || got && strings.HasPrefix(filepath.Clean(strings.TrimSpace(patterns[i])), "!") {
			t.Errorf("%q: %s is excluded: %v (%d), want %v", patterns, p, got, i, want)
		}
	}
}
