package engine

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSweepState(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	put := func(name string, age time.Duration) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, time.Time{}, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names []string) {
		t.Helper()
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(dir, p)
				names = append(names, rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	old := leftAge + time.Minute
	kept := []string{"bin/runc-0123456789abcdef", "client-id", "git/refs/abc", "images/.new-young", "images/abc", "last/abc.course.json", "last/abc.json", "other/.new-1"}
	for _, name := range kept {
		age := 100 * old
		if name == "images/.new-young" {
			age = leftAge - time.Minute
		}
		put(name, age)
	}
	for _, name := range []string{"images/.new-1", "git/refs/.new-2", "last/.abc.json.3", "last/.abc.course.json.4", "bin/runc-123.tmp", "client-id.XYZ"} {
		put(name, old)
	}
	e := &Engine{cfg: Config{StateDir: dir}}
	e.sweepState(now)
	want := append(slices.Clone(kept), "swept")
	slices.Sort(want)
	got := left()
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	// Once a day, whichever process asks.
	there := func() bool { return slices.Contains(left(), "images/.new-1") }
	put("images/.new-1", old)
	e.sweepState(now.Add(sweepEvery - time.Minute))
	if !there() {
		t.Error("swept twice a day")
	}
	e.sweepState(now.Add(sweepEvery))
	if there() {
		t.Error("not swept on the next day")
	}
	// A clock that was wrong does not stop it for long.
	put("images/.new-1", old)
	put("swept", -100*sweepEvery)
	e.sweepState(now)
	if there() {
		t.Error("a marker from the future was believed")
	}
}

// TestRunsSweep: every call that looks at the state directory sees to it.
func TestRunsSweep(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "images", ".new-1")
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * leftAge)
	if err := os.Chtimes(p, old, old); err != nil {
		t.Fatal(err)
	}
	e, err := Open(t.Context(), Config{StateDir: dir, StoreDir: t.TempDir(), DaemonCommand: []string{"/bin/false"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Plan(t.Context(), Request{Context: project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestSweepNothing: where there is no state directory, none is made.
func TestSweepNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	(&Engine{cfg: Config{StateDir: dir}}).sweepState(time.Now())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}
