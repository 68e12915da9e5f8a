package memo_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

func openDir(t *testing.T) memo.Store {
	return &memo.Dir{Path: filepath.Join(t.TempDir(), "memo")}
}

func TestDir(t *testing.T) { memotest.Conformance(t, openDir) }

// clock is a clock that stands still until it is told to move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// files gives the paths of all files below the directory that are not its stamp.
func files(t *testing.T, d *memo.Dir) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(d.Path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "trimmed" {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func recordFile(d *memo.Dir, n int) string {
	hex := memotest.Key(n).Encoded()
	return filepath.Join(d.Path, "v1", hex[:2], hex)
}

func TestDirDamage(t *testing.T) {
	ctx := t.Context()
	d := &memo.Dir{Path: t.TempDir()}
	must(t, d.Put(ctx, memotest.WithParts(memotest.Record(1), 10_000)))
	must(t, d.Put(ctx, memotest.Record(2)))
	whole, err := os.ReadFile(recordFile(d, 1))
	must(t, err)
	other, err := os.ReadFile(recordFile(d, 2))
	must(t, err)
	flip := func(i int) []byte { b := bytes.Clone(whole); b[i] ^= 1; return b }
	for name, data := range map[string][]byte{
		"empty":               {},
		"torn in the line":    whole[:20],
		"torn in the JSON":    whole[:300],
		"torn in the parts":   whole[:len(whole)-1],
		"zeros after a crash": make([]byte, len(whole)),
		"too long":            append(bytes.Clone(whole), '\n'),
		"edited line":         flip(14),
		"edited JSON":         flip(200),
		"another's record":    other,
		"newer version":       bytes.Replace(whole, []byte("memo 1"), []byte("memo 2"), 1),
		"foreign":             []byte("#!/bin/sh\nexit 1\n"),
		"foreign without end": bytes.Repeat([]byte("x"), 20<<20),
	} {
		must(t, os.WriteFile(recordFile(d, 1), data, 0o600))
		if r, err := d.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("%s: %v, %v, want ErrNotFound", name, r, err)
		}
		if r, err := d.GetWhole(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("%s: with its parts %v, %v, want ErrNotFound", name, r, err)
		}
		n := 0
		for _, err := range d.List(ctx) {
			must(t, err)
			n++
		}
		if n != 1 {
			t.Errorf("%s: %d listed, want the other one", name, n)
		}
		must(t, d.Put(ctx, memotest.Record(1)))
		if _, err := d.Get(ctx, memotest.Key(1)); err != nil {
			t.Errorf("%s: after a new Put: %v", name, err)
		}
	}

	// Damaged parts are lost, the record is not.
	b := bytes.Clone(whole)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(recordFile(d, 1), b, 0o600))
	r, err := d.Get(ctx, memotest.Key(1))
	must(t, err)
	if _, err := d.ReadParts(ctx, r); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("edited parts: %v, want ErrNotFound", err)
	}
	if r, err := d.GetWhole(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("with edited parts: %v, %v, want ErrNotFound", r, err)
	}

	// A directory in a record's place is nothing, and can be removed by hand only.
	must(t, os.Remove(recordFile(d, 1)))
	must(t, os.Mkdir(recordFile(d, 1), 0o700))
	if _, err := d.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("directory in its place: %v, want ErrNotFound", err)
	}
	if err := d.Put(ctx, memotest.Record(1)); err == nil {
		t.Error("replaced a directory")
	}
	for _, f := range files(t, d) {
		if strings.Contains(f, ".new-") {
			t.Errorf("left behind: %s", f)
		}
	}
}

func TestDirGetWhole(t *testing.T) {
	d := &memo.Dir{Path: t.TempDir()}
	for n, want := range []*memo.Record{memotest.WithParts(memotest.Record(0), 10_000), memotest.Record(1)} {
		must(t, d.Put(t.Context(), want))
		got, err := d.GetWhole(t.Context(), memotest.Key(n))
		must(t, err)
		if !bytes.Equal(got.Parts, want.Parts) {
			t.Errorf("record %d has %d bytes of parts, want %d", n, len(got.Parts), len(want.Parts))
		}
	}
	if r, err := d.GetWhole(t.Context(), memotest.Key(2)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("got %v, %v, want ErrNotFound", r, err)
	}
}

func TestDirTrouble(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	d := &memo.Dir{Path: path}
	if _, err := d.Get(ctx, memotest.Key(1)); err == nil || errors.Is(err, memo.ErrNotFound) {
		t.Errorf("Get in a file: %v, want trouble", err)
	}
	if err := d.Put(ctx, memotest.Record(1)); err == nil {
		t.Error("Put into a file")
	}
	var last error
	for _, err := range d.List(ctx) {
		last = err
	}
	if last == nil {
		t.Error("listed a file")
	}
}

func TestDirVanishes(t *testing.T) {
	ctx := t.Context()
	d := &memo.Dir{Path: filepath.Join(t.TempDir(), "memo")}
	for range 3 {
		must(t, d.Put(ctx, memotest.Record(1)))
		if _, err := d.Get(ctx, memotest.Key(1)); err != nil {
			t.Error(err)
		}
		must(t, os.RemoveAll(d.Path))
		if _, err := d.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("after rm -rf: %v, want ErrNotFound", err)
		}
		if p, err := d.Prune(ctx, memo.Limits{All: true}); err != nil || p.Removed != 0 {
			t.Errorf("Prune after rm -rf: %+v, %v", p, err)
		}
	}
}

// TestDirIsPrivate: what is in a record is the user's business.
func TestDirIsPrivate(t *testing.T) {
	d := &memo.Dir{Path: filepath.Join(t.TempDir(), "memo")}
	must(t, d.Put(t.Context(), memotest.Record(1)))
	must(t, filepath.WalkDir(d.Path, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		fi, err := e.Info()
		must(t, err)
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, fi.Mode())
		}
		return nil
	}))
}

func TestDirNotesUse(t *testing.T) {
	ctx, c := t.Context(), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	d := &memo.Dir{Path: t.TempDir(), Now: c.now}
	must(t, d.Put(ctx, memotest.Record(1)))
	start := c.t
	for _, step := range []struct {
		at, used time.Duration
	}{
		{0, 0},
		{23 * time.Hour, 0},
		{25 * time.Hour, 25 * time.Hour},
		{48 * time.Hour, 25 * time.Hour},
		{-48 * time.Hour, -48 * time.Hour}, // the clock was wrong, or is
		{-40 * time.Hour, -48 * time.Hour},
	} {
		c.t = start.Add(step.at)
		if _, err := d.Get(ctx, memotest.Key(1)); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(recordFile(d, 1))
		must(t, err)
		if want := start.Add(step.used); !fi.ModTime().Equal(want) {
			t.Errorf("at %s: used at %s, want %s", step.at, fi.ModTime().Sub(start), step.used)
		}
	}
}

func TestDirTrims(t *testing.T) {
	const day = 24 * time.Hour
	ctx, c := t.Context(), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	d := &memo.Dir{Path: t.TempDir(), MaxAge: 10 * day, MaxSize: 50_000, Now: c.now}
	there := func(n int) bool {
		_, err := os.Stat(recordFile(d, n))
		return err == nil
	}
	must(t, d.Put(ctx, memotest.Record(0)))
	must(t, d.Put(ctx, memotest.Record(1)))
	unfinished := filepath.Join(filepath.Dir(recordFile(d, 0)), ".new-1")
	must(t, os.WriteFile(unfinished, nil, 0o600))
	must(t, os.Chtimes(unfinished, c.t, c.t))

	c.t = c.t.Add(9 * day)
	_, err := d.Get(ctx, memotest.Key(1))
	must(t, err)
	c.t = c.t.Add(2 * day)
	must(t, d.Put(ctx, memotest.Record(2)))
	if there(0) || !there(1) || !there(2) {
		t.Errorf("after 11 days: %v %v %v, want the unused one gone", there(0), there(1), there(2))
	}
	if _, err := os.Stat(unfinished); err == nil {
		t.Error("an unfinished record is still there")
	}

	// Over its size it is not trimmed before the next day, by this process or another.
	for n := 10; n < 20; n++ {
		c.t = c.t.Add(time.Minute)
		must(t, (&memo.Dir{Path: d.Path, MaxSize: d.MaxSize, Now: c.now}).Put(ctx, memotest.WithParts(memotest.Record(n), 10_000)))
	}
	if n := len(files(t, d)); n != 12 {
		t.Errorf("%d files, want all 12", n)
	}
	c.t = c.t.Add(2 * day)
	must(t, d.Put(ctx, memotest.Record(20)))
	for n := range 20 {
		if want := n >= 16; there(n) != want {
			t.Errorf("record %d is there: %v, want %v", n, !want, want)
		}
	}
	if !there(20) {
		t.Error("the last record is gone")
	}

	// A stamp from the future does not end trimming for good.
	future := c.t.Add(1000 * day)
	must(t, os.Chtimes(filepath.Join(d.Path, "trimmed"), future, future))
	c.t = c.t.Add(20 * day)
	must(t, d.Put(ctx, memotest.Record(21)))
	if there(20) || !there(21) {
		t.Errorf("with a stamp from the future: %v %v, want the old one gone", there(20), there(21))
	}
}

func TestDirKeepsForever(t *testing.T) {
	ctx, c := t.Context(), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	d := &memo.Dir{Path: t.TempDir(), MaxAge: -1, MaxSize: -1, Now: c.now}
	must(t, d.Put(ctx, memotest.Record(0)))
	c.t = c.t.Add(10_000 * time.Hour)
	must(t, d.Put(ctx, memotest.Record(1)))
	if _, err := d.Get(ctx, memotest.Key(0)); err != nil {
		t.Error(err)
	}
}

func TestDirPrunesByAge(t *testing.T) {
	ctx, c := t.Context(), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	d := &memo.Dir{Path: t.TempDir(), MaxAge: -1, Now: c.now}
	for n := range 5 {
		must(t, d.Put(ctx, memotest.Record(n)))
		c.t = c.t.Add(24 * time.Hour)
	}
	p, err := d.Prune(ctx, memo.Limits{MaxAge: 60 * time.Hour})
	if err != nil || p.Removed != 3 || p.Left != 2 {
		t.Errorf("%+v, %v, want 3 removed, 2 left", p, err)
	}
}
