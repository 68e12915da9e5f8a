package frontend

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestRefFS(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"sub/a": "1", "sub/deep/b.txt": "22", "outside": "3"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fsys := RefFS(t.Context(), dirRef{dir: dir}, "sub")
	if err := fstest.TestFS(fsys, "a", "deep/b.txt"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nothing", "outside", "deep/nothing"} {
		if _, err := fs.Stat(fsys, name); !os.IsNotExist(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := fs.ReadFile(fsys, "../outside"); err == nil {
		t.Error("a path led out of the directory")
	}
}

func TestInDir(t *testing.T) {
	for _, c := range [][3]string{
		{"", "a", "a"}, {".", "!a", "!a"}, {"x", "a/*", "x/a/*"}, {"x", "!a", "!x/a"}, {"x", ".", "x"}, {"x", "/a", "x/a"},
		{"a[b]*?\\", "*", `a\[b]\*\?\\/*`},
	} {
		if got := InDir(c[0], c[1]); got != c[2] {
			t.Errorf("InDir(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
