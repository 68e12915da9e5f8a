package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The daemon's copy of a directory goes by size and time. When a file has changed and
// both have not, the directory gets another name; else it keeps the one it has.
func TestSettle(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x")
	stamp := time.Date(2024, time.March, 1, 10, 20, 30, 0, time.UTC)
	write := func(text string) {
		t.Helper()
		writeFiles(t, dir, map[string]string{"x": text})
		if err := os.Chtimes(file, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM scratch\nCOPY x /x\n"})
	write("one")
	e := openBare(t)
	nameOf := func() string {
		t.Helper()
		r, err := e.newRun(Request{})
		if err != nil {
			t.Fatal(err)
		}
		j, err := r.prepareCall(Request{Context: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer j.close()
		before := j.locals.unique("context", dir)
		if j.compiled, err = j.compileKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.settleLocals(t.Context(), []*job{j})
		after := j.locals.unique("context", dir)
		if before == after {
			t.Error("settling gives no name")
		}
		if got, ok := j.locals.dirOf(before); !ok || got != dir {
			t.Errorf("the name that the graph was compiled with stands for %q", got)
		}
		if got := r.sources.dirs.syncID(dir); got != j.locals.syncID(dir) {
			t.Errorf("the session has the directory as %q, the build as %q", got, j.locals.syncID(dir))
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		return after
	}
	first := nameOf()
	if again := nameOf(); again != first {
		t.Errorf("nothing has changed, but the name: %s, was %s", again, first)
	}
	write("two")
	second := nameOf()
	if second == first {
		t.Errorf("a file of equal size and time has changed, and the name is still %s", first)
	}
	if again := nameOf(); again != second {
		t.Errorf("nothing has changed, but the name: %s, was %s", again, second)
	}
	// What the daemon sees by itself needs no other name.
	writeFiles(t, dir, map[string]string{"x": "longer"})
	if third := nameOf(); third != second {
		t.Errorf("a file of another size gave the name %s, was %s", third, second)
	}
}
