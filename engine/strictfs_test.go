package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil"
)

// strict opens a directory with the files a, b and c.
func strict(t *testing.T, fail func(error)) (strictFS, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return strictFS{FS: root, dir: dir, fail: fail}, dir
}

func TestFileThatVanishesBeforeItIsRead(t *testing.T) {
	var failure error
	s, dir := strict(t, func(err error) { failure = err })
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open("b")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadAll(f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading gave %v, want an error", err)
	}
	if failure == nil || !strings.Contains(failure.Error(), "build again") {
		t.Errorf("the build was ended because of %v", failure)
	}
}

func TestFileThatVanishesDuringTheWalk(t *testing.T) {
	s, dir := strict(t, func(err error) { t.Error(err) })
	var seen []string
	err := s.Walk(context.Background(), "/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == "a" {
			if err := os.Remove(filepath.Join(dir, "b")); err != nil {
				return err
			}
		}
		if _, err := entry.Info(); err != nil {
			return err
		}
		seen = append(seen, path)
		return nil
	})
	if want := []string{"a", "c"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("got %v, %v, want %v", seen, err, want)
	}
}
