package engine

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// openBare gives an engine for what needs no daemon.
func openBare(t testing.TB) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// writeFiles writes files below a directory; a text "-> x" is a link to x.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); err == nil && ok {
			err = os.Symlink(target, p)
		} else if err == nil {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// hostArch is the architecture that is built for when none is asked for.
func hostArch() string { return runtime.GOARCH }
