package source

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// syncID is what a run of its own, an hour on, says of a directory.
func syncID(t testing.TB, cache, dir string, f Filter, s Selection) string {
	t.Helper()
	trees := later(Open(Options{CacheDir: cache}), time.Hour)
	v := view(t, trees, dir, f)
	_, err := v.Digest(t.Context(), s)
	must(t, err)
	id := trees.SyncID(t.Context(), dir)
	if id == trees.random {
		t.Fatal("no id could be kept")
	}
	if again := trees.SyncID(t.Context(), dir); again != id {
		t.Errorf("the id changes within a run: %s, %s", id, again)
	}
	must(t, trees.Close())
	return id
}

// stamp sets the modification time of files.
func stamp(t testing.TB, dir string, when int64, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, os.Chtimes(filepath.Join(dir, name), time.Unix(when, 0), time.Unix(when, 0)))
	}
}

// TestSyncID has the versions of a tree come one after the other, and says when
// the daemon's copy of the one before may be taken for it.
func TestSyncID(t *testing.T) {
	write := func(text string, when int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			tree(t, dir, "f = "+text)
			stamp(t, dir, when, "f")
		}
	}
	for _, c := range []struct {
		what   string
		lies   bool
		change func(t *testing.T, dir string)
	}{
		{"nothing", false, func(*testing.T, string) {}},
		{"later", false, write("22", 2000)},
		{"another size, later", false, write("333", 2000)},
		{"same size and time", true, write("22", 1000)},
		{"same time, another size", true, write("333", 1000)}, // the version before it may have had this size
		{"a time that goes back", true, write("22", 500)},
		{"the same bytes with a time that goes back", true, write("11", 500)},
		{"the same bytes, later", false, write("11", 2000)},
		{"the same bytes, written again with the same time", false, write("11", 1000)},
		{"replaced by a file of the same size and time", true, func(t *testing.T, d string) {
			tree(t, d, "g = 22")
			stamp(t, d, 1000, "g")
			must(t, os.Rename(d+"/g", d+"/f"))
		}},
		{"mode", false, func(t *testing.T, d string) { must(t, os.Chmod(d+"/f", 0o600)) }},
		{"a new file", false, func(t *testing.T, d string) { tree(t, d, "new = 1") }},
		{"a new file with an old time", false, func(t *testing.T, d string) {
			tree(t, d, "new = 1")
			stamp(t, d, 500, "new")
		}},
		{"a file that goes", false, func(t *testing.T, d string) { must(t, os.Remove(d+"/f")) }},
		{"an attribute", true, func(t *testing.T, d string) {
			if unix.Lsetxattr(d+"/f", "user.x", []byte("1"), 0) != nil {
				t.Skip("no extended attributes here")
			}
		}},
		{"an attribute of a directory", true, func(t *testing.T, d string) {
			if unix.Lsetxattr(d+"/d", "user.x", []byte("1"), 0) != nil {
				t.Skip("no extended attributes here")
			}
		}},
		{"the index is lost", true, func(t *testing.T, d string) {
			must(t, os.Remove(onlyIndexFile(t, filepath.Join(d, "..", "cache"))))
		}},
		{"the index is damaged", true, func(t *testing.T, d string) {
			must(t, os.WriteFile(onlyIndexFile(t, filepath.Join(d, "..", "cache")), []byte("zlstat"), 0o600))
		}},
		{"what is not selected, with the same size and time", true, func(t *testing.T, d string) {
			tree(t, d, "unselected = 22")
			stamp(t, d, 1000, "unselected")
		}},
		{"what is ignored", false, func(t *testing.T, d string) {
			tree(t, d, "ignored = 22")
			stamp(t, d, 1000, "ignored")
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			parent := t.TempDir()
			cache, dir := filepath.Join(parent, "cache"), filepath.Join(parent, "dir")
			tree(t, dir, "f = 11", "unselected = 11", "ignored = 11", "d/x = 1")
			stamp(t, dir, 1000, "f", "unselected", "ignored", "d/x")
			f, s := Filter{Exclude: []string{"ignored"}}, Selection{Path: "f"}
			before := syncID(t, cache, dir, f, s)
			c.change(t, dir)
			after := syncID(t, cache, dir, f, s)
			if (after != before) != c.lies {
				t.Errorf("the id changes from %s to %s: %v, want %v", before, after, after != before, c.lies)
			}
			if again := syncID(t, cache, dir, f, s); again != after {
				t.Errorf("the id changes from %s to %s though nothing did", after, again)
			}
		})
	}
}

// TestSyncIDOverSeveralRuns makes versions that no single comparison would catch.
func TestSyncIDOverSeveralRuns(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	version := func(text string, when int64) string {
		t.Helper()
		if text == "" {
			must(t, os.Remove(filepath.Join(dir, "f")))
		} else {
			tree(t, dir, "f = "+text)
			stamp(t, dir, when, "f")
		}
		return syncID(t, cache, dir, Filter{}, Selection{})
	}
	tree(t, dir, "other = 1")
	seen := map[string]bool{}
	for i, v := range []struct {
		text string
		when int64
		same bool // as the id before
	}{
		{"11", 1000, false},
		{"22", 2000, true},
		{"33", 1000, false}, // the daemon may still have the first one
		{"44", 1500, true},
		{"", 0, true},
		{"55", 1500, false}, // gone in between, but not from the daemon
		{"66", 1500, false},
		{"55", 1500, false}, // an id never comes back
	} {
		before := maps.Clone(seen)
		id := version(v.text, v.when)
		if v.same != before[id] && i > 0 {
			t.Errorf("version %d: id %s was seen before: %v, want %v", i, id, before[id], v.same)
		}
		seen[id] = true
	}
}

// TestSyncIDOfConcurrentRuns lets one run look before a change and end after
// another one that has seen it.
func TestSyncIDOfConcurrentRuns(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "f = 11")
	stamp(t, dir, 1000, "f")
	first := syncID(t, cache, dir, Filter{}, Selection{})
	slow := later(Open(Options{CacheDir: cache}), time.Hour)
	_, err := view(t, slow, dir, Filter{}).Digest(t.Context(), Selection{})
	must(t, err)
	tree(t, dir, "f = 22")
	stamp(t, dir, 1000, "f")
	second := syncID(t, cache, dir, Filter{}, Selection{})
	if second == first {
		t.Fatal("the change was not seen")
	}
	// the copy of the second id is not what the slow run saw; that of the first is
	if id := slow.SyncID(t.Context(), dir); id == second {
		t.Errorf("the slow run gets the id of a copy that has something else")
	}
	if got, err := slow.Changed(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("changed: %q, %v", got, err)
	}
	must(t, slow.Close())
	if id := syncID(t, cache, dir, Filter{}, Selection{}); id == first || id == second {
		t.Errorf("the next run gets %s, which may be of either version", id)
	}
}

func TestSyncIDWithoutIndex(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "f = 1")
	a, b := open(t, Options{}), open(t, Options{})
	view(t, a, dir, Filter{})
	ida, idb := a.SyncID(t.Context(), dir), b.SyncID(t.Context(), dir)
	if ida == "" || ida == idb || ida != a.SyncID(t.Context(), dir) {
		t.Errorf("ids are %q and %q, want one for each run", ida, idb)
	}
}

func TestForgottenFilesChangeTheID(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	for i := range 1100 {
		tree(t, dir, "old/"+strings.Repeat("x", i%200)+string(rune('a'+i/200)))
	}
	tree(t, dir, "new/f = 1")
	at := func(d time.Duration, s Selection) (id string, records int) {
		t.Helper()
		trees := later(Open(Options{CacheDir: cache}), d)
		_, err := view(t, trees, dir, Filter{Exclude: []string{"nothing"}}).Digest(t.Context(), s)
		must(t, err)
		if s.Path == "" {
			id = trees.SyncID(t.Context(), dir)
		}
		must(t, trees.Close())
		x, err := decodeIndex(onlyIndex(t, cache))
		must(t, err)
		return id, x.recordCount()
	}
	before, n := at(time.Hour, Selection{})
	if n != 1101 {
		t.Errorf("%d records, want 1101", n)
	}
	if _, n := at(10*day, Selection{Path: "new"}); n != 1101 {
		t.Errorf("after ten days: %d records, want 1101", n)
	}
	if _, n := at(40*day, Selection{Path: "new"}); n != 1 {
		t.Errorf("after forty days: %d records, want 1", n)
	}
	if after, _ := at(40*day, Selection{}); after == before {
		t.Error("what was forgotten cannot be compared, and yet the id is the same")
	}
}

func TestChanged(t *testing.T) {
	for _, c := range []struct {
		what   string
		want   string
		change func(t *testing.T, dir string)
	}{
		{"nothing", "", func(*testing.T, string) {}},
		{"edit", "f", func(t *testing.T, d string) { tree(t, d, "f = 2") }},
		{"edit of the same size and time", "f", func(t *testing.T, d string) {
			tree(t, d, "f = 9")
			stamp(t, d, 1000, "f")
		}},
		{"time", "", func(t *testing.T, d string) { stamp(t, d, 5, "f") }},
		{"written again", "", func(t *testing.T, d string) { tree(t, d, "f = 1") }},
		{"mode", "f", func(t *testing.T, d string) { must(t, os.Chmod(d+"/f", 0o600)) }},
		{"new", "d/new", func(t *testing.T, d string) { tree(t, d, "d/new = 2") }},
		{"gone", "d/g", func(t *testing.T, d string) { must(t, os.Remove(d+"/d/g")) }},
		{"renamed", "d/g d/h", func(t *testing.T, d string) { must(t, os.Rename(d+"/d/g", d+"/d/h")) }},
		{"link", "link", func(t *testing.T, d string) {
			must(t, os.Remove(d+"/link"))
			tree(t, d, "link -> d")
		}},
		{"directory", "d d/g", func(t *testing.T, d string) { must(t, os.RemoveAll(d+"/d")) }},
		{"ignored", "", func(t *testing.T, d string) { tree(t, d, "ignored/x = 2", "ignored/y = 1") }},
		{"not selected", "", func(t *testing.T, d string) { tree(t, d, "other/x = 2") }},
		{"build file", "Dockerfile", func(t *testing.T, d string) { tree(t, d, "Dockerfile = 2") }},
		{"build file gone", "Dockerfile", func(t *testing.T, d string) { must(t, os.Remove(d+"/Dockerfile")) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, "f = 1", "d/g = 1", "ignored/x = 1", "other/x = 1", "link -> f", "Dockerfile = 1")
			stamp(t, dir, 1000, "f")
			trees := open(t, Options{})
			v := view(t, trees, dir, Filter{Exclude: []string{"ignored", "Dockerfile"}})
			for _, p := range []string{"f", "d", "link"} {
				_, err := v.Digest(t.Context(), Selection{Path: p})
				must(t, err)
			}
			_, _, err := trees.File(t.Context(), filepath.Join(dir, "Dockerfile"))
			must(t, err)
			c.change(t, dir)
			got, err := trees.Changed(t.Context())
			must(t, err)
			want := []string{}
			for _, p := range strings.Fields(c.want) {
				want = append(want, filepath.Join(dir, p))
			}
			if !slices.Equal(got, want) && len(got)+len(want) > 0 {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestChangedAfterSync edits what the daemon was sent but nobody selected: nobody
// is told, but the next run gets another id.
func TestChangedAfterSync(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "f = 1", "other = 1")
	trees := later(Open(Options{CacheDir: cache}), time.Hour)
	_, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{Path: "f"})
	must(t, err)
	id := trees.SyncID(t.Context(), dir)
	tree(t, dir, "other = 2")
	if got, err := trees.Changed(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("changed: %q, %v", got, err)
	}
	must(t, trees.Close())
	if next := syncID(t, cache, dir, Filter{}, Selection{}); next == id {
		t.Error("the daemon may have a version that nobody has looked at, and yet the id is the same")
	}
}
