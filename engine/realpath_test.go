package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRealPaths: the paths are those that the standard library finds.
func TestRealPaths(t *testing.T) {
	top := t.TempDir()
	writeFiles(t, top, map[string]string{"a/b/file": "f", "other/file": "o"})
	for link, target := range map[string]string{
		"link": "a", "a/up": "..", "a/b/out": "../../other", "absolute": filepath.Join(top, "a/b"), "a/b/to": "file", "nowhere": "gone", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	var p realPaths
	for range 2 {
		for _, path := range []string{
			"", "a", "a/b", "a/b/file", "link", "link/b", "link/b/file", "a/up/link/b/to", "a/b/out", "a/b/out/file", "absolute/file", "absolute/to",
			"nowhere", "nowhere/x", "loop", "loop/x", "gone", "a/b/file/x", "a/b/../b", "a/b/",
		} {
			abs := top + "/" + path
			want, werr := filepath.EvalSymlinks(abs)
			got, err := p.of(abs)
			if got != want || (err == nil) != (werr == nil) {
				t.Errorf("%s: got %s, %v; want %s, %v", path, got, err, want, werr)
			}
		}
	}
	if got, err := p.of("/"); got != "/" || err != nil {
		t.Errorf("/: %s, %v", got, err)
	}
}
