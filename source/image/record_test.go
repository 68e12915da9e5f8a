package image

import (
	"os"
	"path/filepath"
	"testing"
)

// damageAll cuts every record short.
func damageAll(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no records in %s: %v", dir, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, text[:len(text)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecordsWithoutDirectory(t *testing.T) {
	s := newServer(t)
	ref, want := s.put(t, "base:1")
	for _, dir := range []string{"", "/dev/null/x"} {
		if res, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); err != nil || res.Digest != want {
			t.Errorf("directory %q: got %v, %v", dir, res.Digest, err)
		}
	}
}
