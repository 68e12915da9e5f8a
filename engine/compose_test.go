package engine

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

// What is wrong about builds that nest others is told without a daemon, at the place that nests.
func TestNestingMistakes(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"in/.git/HEAD":        "ref: refs/heads/main\n",
		"in/lib/Dockerfile":   "FROM scratch\nCOPY text /\n",
		"in/lib/text":         "text\n",
		"in/lib/more/text":    "text\n",
		"in/two/ZImagefile.a": "base: scratch\n",
		"in/two/ZImagefile.b": "base: scratch\n",
		"in/none/ZImagefile":  "build: ../lib/more\n",
		"in/many/ZImagefile":  "stages:\n  lib: {build: ../lib}\n  two:\n    build: ../two\n    steps:\n      - {copy: /text, from: lib, to: /}\n",
		"in/one/ZImagefile":   "build: {context: ../two, file: ZImagefile.b}\n",
		"in/file/ZImagefile":  "build:\n  context: ../lib\n  file: Other\n",
		"in/text/ZImagefile":  "build: ../lib/text\n",
		"in/deep/ZImagefile":  "build: ../none\n",
		"out/Dockerfile":      "FROM scratch\nCOPY . /\n",
		"in/far/ZImagefile":   "build: ../../out\n",
	})
	e := openBare(t)
	in := filepath.Join(dir, "in")
	for name, want := range map[string]string{
		"none": "none/ZImagefile:1:8: no ZImagefile, Dockerfile or Containerfile in ",
		"many": "many/ZImagefile:3:3: ",
		"file": "file/ZImagefile:2:3: build file Other does not exist: it is relative to ",
		"text": "text/ZImagefile:1:8: build context ../lib/text is not a directory",
		"deep": "none/ZImagefile:1:8: no ZImagefile, Dockerfile or Containerfile in ",
		"far":  "far/ZImagefile:1:8: " + filepath.Join(dir, "out") + " is outside of " + in + ": name a directory that holds both with --root, or allow it with --allow fs.read=",
	} {
		_, err := e.Why(t.Context(), Request{Context: filepath.Join(in, name)}, "")
		var pe *graph.PosError
		if !errors.As(err, &pe) || len(pe.Source) == 0 {
			t.Errorf("%s: got %v, want a place in a text", name, err)
			continue
		}
		got := strings.TrimPrefix(err.Error(), in+"/")
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
		if name == "many" && !strings.Contains(got, "ZImagefile.a, ZImagefile.b): say which one with file: ") {
			t.Errorf("the candidates are not named: %s", got)
		}
	}
	testNestingChain(t, e, in)
	for name, req := range map[string]Request{
		"one": {}, "far": {Allow: []string{"fs.read=" + filepath.Join(dir, "out")}}, "far/": {Root: dir},
	} {
		req.Context = filepath.Join(in, name)
		if _, err := e.Why(t.Context(), req, ""); !errors.Is(err, ErrNoRecord) {
			t.Errorf("%s with %+v: %v", name, req.Allow, err)
		}
	}
}

// testNestingChain holds the whole of messages against what is expected: the way to where a
// build cannot be nested, and what there is to choose from.
func testNestingChain(t *testing.T, e *Engine, in string) {
	t.Helper()
	writeFiles(t, in, map[string]string{
		"deeper/ZImagefile":              "stages:\n  a:\n    build: ../deep\n",
		"both/ZImagefile":                "stages:\n  a: {build: ../none}\n  b: {build: ../deep}\n",
		"lost/ZImagefile":                "build: ../more\n",
		"more/ZImagefile":                "build: {context: ../lib, file: Other}\n",
		"named/Dockerfile":               "FROM busybox AS one\nFROM corp/two AS two\nCOPY --from=corp/two /text /\n",
		"filesof/Dockerfile":             "FROM scratch\nCOPY --from=corp/two ZImagefile.a /\n",
		"double/Dockerfile":              "FROM corp/two\n",
		"double/Dockerfile.dockerignore": "x\n",
	})
	t.Chdir(in)
	two := map[string]string{"corp/two": "two"}
	no := "no ZImagefile, Dockerfile or Containerfile in lib/more"
	several := "build context corp/two: two has several ZImagefiles (ZImagefile.a, ZImagefile.b): call the one that is meant ZImagefile, which goes before the others; a named context cannot say which"
	for _, c := range []struct {
		dir  string
		with map[string]string
		want string
	}{
		{dir: "none", want: "none/ZImagefile:1:8: " + no},
		{dir: "deep", want: "none/ZImagefile:1:8: " + no + " (nested by deep/ZImagefile:1:8)"},
		{dir: "deeper", want: "none/ZImagefile:1:8: " + no + " (nested by deeper/ZImagefile:2:3 -> deep/ZImagefile:1:8)"},
		{dir: "both", want: "none/ZImagefile:1:8: " + no + " (nested by both/ZImagefile:3:3 -> deep/ZImagefile:1:8)"},
		{dir: "lost", want: "more/ZImagefile:1:8: build file Other does not exist: it is relative to lib (nested by lost/ZImagefile:1:8)"},
		{dir: "named", with: two, want: "named/Dockerfile:2: " + several},
		{dir: "double", with: two, want: "double/Dockerfile:1: " + several},
		{dir: "double", with: map[string]string{"corp/two": "deep"}, want: "none/ZImagefile:1:8: " + no + " (nested by double/Dockerfile:1 -> deep/ZImagefile:1:8)"},
	} {
		// Whoever asks first, and whatever another one has been told.
		if _, err := e.Why(t.Context(), Request{Context: c.dir, Root: in, BuildContexts: c.with, Target: targetOf(c.dir)}, ""); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.dir, err, c.want)
		}
	}
	// Files are files, however many of them can be built.
	if _, err := e.Why(t.Context(), Request{Context: "filesof", Root: in, BuildContexts: two}, ""); !errors.Is(err, ErrNoRecord) {
		t.Errorf("the files of a directory: %v", err)
	}
}

// targetOf spares a test images.
func targetOf(dir string) string {
	if dir == "named" {
		return "two"
	}
	return ""
}
