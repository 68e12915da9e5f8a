package source

import (
	"context"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// copied is what a copy of a selection makes of a source directory, by path, or
// its error.
func copied(t *testing.T, src string, s Selection) map[string]string {
	t.Helper()
	dst := t.TempDir()
	defer os.RemoveAll(dst)
	failed := func(error) map[string]string { return map[string]string{"error": ""} }
	srcPath := filepath.Join("/", s.Path)
	matches := []string{srcPath}
	if s.Wildcard {
		var err error
		if matches, err = fscopy.ResolveWildcards(src, srcPath, s.FollowSymlink); err != nil || len(matches) == 0 {
			return failed(err)
		}
	}
	for _, m := range matches {
		err := fscopy.Copy(t.Context(), src, m, dst, "/to/", func(ci *fscopy.CopyInfo) {
			ci.IncludePatterns, ci.ExcludePatterns = s.Include, s.Exclude
			ci.CopyDirContents, ci.FollowLinks = s.DirContents, s.FollowSymlink
		})
		if err != nil {
			return failed(err)
		}
	}
	out := map[string]string{}
	err := filepath.WalkDir(dst, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := fi.Mode().String()
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += string(data)
		case fi.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text += link
		}
		out[strings.TrimPrefix(p, dst)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// daemonsCopy is what a daemon has of a view: its entries, without the rest.
func daemonsCopy(t *testing.T, dir string, f Filter) string {
	t.Helper()
	list, err := sent(t, dir, f)
	if err != nil {
		t.Fatal(err)
	}
	twin := t.TempDir()
	for _, p := range list {
		src, dst := filepath.Join(dir, p), filepath.Join(twin, p)
		fi, err := os.Lstat(src)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case fi.IsDir():
			err = os.Mkdir(dst, 0o755)
		case fi.Mode()&fs.ModeSymlink != 0:
			var link string
			if link, err = os.Readlink(src); err == nil {
				err = os.Symlink(link, dst)
			}
		default:
			var data []byte
			if data, err = os.ReadFile(src); err == nil {
				err = os.WriteFile(dst, data, 0o600)
			}
		}
		if err == nil && fi.Mode()&fs.ModeSymlink == 0 {
			err = os.Chmod(dst, fi.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return twin
}

func (g gen) selection() Selection {
	s := Selection{
		Path:          g.pick("", "/", g.name(), g.name()+"/"+g.name(), g.pattern(), g.pattern(), g.pick("../a", "a/../b", "a/./b/", "[a", "a*/b", "*", "*/*", "?/foo*")),
		Wildcard:      g.IntN(2) == 0,
		FollowSymlink: g.IntN(2) == 0,
		DirContents:   g.IntN(2) == 0,
	}
	if g.IntN(3) == 0 {
		s.Include = g.patterns(g.IntN(4) == 0)
	}
	if g.IntN(3) == 0 {
		s.Exclude = g.patterns(true)
	}
	return s
}

// mutate changes something in a tree and says what.
func (g gen) mutate(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if p != dir {
			all = append(all, p)
		}
		return err
	}))
	if len(all) == 0 {
		tree(t, dir, "a = new")
		return "new a"
	}
	p := all[g.IntN(len(all))]
	fi, err := os.Lstat(p)
	if err != nil {
		t.Fatal(err)
	}
	rel := strings.TrimPrefix(p, dir)
	switch k := g.IntN(6); {
	case k == 0:
		err = os.RemoveAll(p)
		rel = "remove " + rel
	case k == 1 && fi.IsDir():
		err = os.WriteFile(filepath.Join(p, "new"), nil, 0o644)
		rel = "add to " + rel
	case k == 2 && fi.Mode()&fs.ModeSymlink == 0:
		err = os.Chmod(p, 0o700)
		rel = "chmod " + rel
	case k == 3:
		q := filepath.Join(filepath.Dir(p), g.name())
		if _, err := os.Lstat(q); err == nil {
			return "nothing"
		}
		err = os.Rename(p, q)
		rel = "rename " + rel + " to " + q
	case fi.Mode()&fs.ModeSymlink != 0:
		if err = os.Remove(p); err == nil {
			err = os.Symlink(g.pick("a", "b", "foo", "/c", "../a"), p)
		}
		rel = "retarget " + rel
	case fi.Mode().IsRegular():
		err = os.WriteFile(p, []byte("edited"), 0o644)
		rel = "edit " + rel
	}
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// TestSelectionCountsWhatIsCopied changes random trees and lets BuildKit's copy
// run before and after: where the copies differ, digests have to.
func TestSelectionCountsWhatIsCopied(t *testing.T) {
	seed := seedOf(t)
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	var same, needless, missed, differ int
	for round := range rounds {
		g := gen{rand.New(rand.NewPCG(seed, uint64(round)+1<<32))}
		dir := t.TempDir()
		g.tree(t, dir, 3)
		for range 6 {
			f := Filter{}
			if g.IntN(2) == 0 {
				f = Filter{Exclude: g.patterns(true)}
			}
			if _, err := sent(t, dir, f); err != nil {
				continue // a pattern that is none
			}
			sels := make([]Selection, 12)
			for i := range sels {
				sels[i] = g.selection()
			}
			before, beforeCopies := outcome(t, dir, f, sels)
			what := g.mutate(t, dir)
			after, afterCopies := outcome(t, dir, f, sels)
			for i, s := range sels {
				changed := !maps.Equal(beforeCopies[i], afterCopies[i])
				switch {
				case changed && before[i] == after[i]:
					missed++
					t.Errorf("seed %d round %d: %s changes what %+v of %q copies, not its digest:\n%s", seed, round, what, s, f.Exclude, cmp.Diff(beforeCopies[i], afterCopies[i]))
				case changed:
					differ++
				case before[i] != after[i]:
					needless++
				default:
					same++
				}
			}
			if missed > 3 {
				t.Fatal("giving up")
			}
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d copies and digests changed, %d digests changed alone, %d neither", differ, needless, same)
	if differ < rounds || needless > differ {
		t.Errorf("%d copies and digests changed, %d digests changed alone: the test or the digests are too coarse", differ, needless)
	}
}

// outcome are the digests and the copies of selections.
func outcome(t *testing.T, dir string, f Filter, sels []Selection) ([]Content, []map[string]string) {
	t.Helper()
	trees := Open(Options{})
	defer trees.Close()
	v := view(t, trees, dir, f)
	twin := daemonsCopy(t, dir, f)
	defer os.RemoveAll(twin)
	var digests []Content
	var copies []map[string]string
	for _, s := range sels {
		d, err := v.Digest(t.Context(), s)
		if err != nil {
			d = Content{} // a pattern that is none
		}
		digests = append(digests, d)
		copies = append(copies, copied(t, twin, s))
	}
	return digests, copies
}

func TestSelectionPaths(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "d/b = 2", "d/e/c = 3", "empty/", "in -> d", "out -> ../../../etc", "abs -> /d/e", "d/up -> ../a",
		"loop1 -> loop2", "loop2 -> loop1", "x/y/z.go = 4", "x/y/z.txt = 5", "x/w/z.go = 6")
	v := view(t, open(t, Options{}), dir, Filter{})
	for _, c := range []struct {
		s    Selection
		want string
	}{
		{Selection{Path: "a"}, "a"},
		{Selection{Path: "/a"}, "a"},
		{Selection{Path: "d"}, "d d/b d/e d/e/c d/up"},
		{Selection{Path: "d/"}, "d d/b d/e d/e/c d/up"},
		{Selection{Path: "d/up"}, "d/up"},
		{Selection{Path: "d/up", FollowSymlink: true}, "a d/up"},
		{Selection{Path: "in/b"}, "d/b in"},
		{Selection{Path: "in"}, "in"},
		{Selection{Path: "in", FollowSymlink: true}, "d d/b d/e d/e/c d/up in"},
		{Selection{Path: "in/e/../b"}, "d/b in"},
		{Selection{Path: "abs/c"}, "abs d/e/c"},
		{Selection{Path: "out/passwd"}, "out"},
		{Selection{Path: "loop1"}, "loop1"},
		{Selection{Path: "loop1/x"}, "loop1 loop2"},
		{Selection{Path: "nothing"}, ""},
		{Selection{Path: "a/nothing"}, ""},
		{Selection{Path: "empty"}, "empty"},
		{Selection{Path: "x/*/z.go", Wildcard: true}, "x/w/z.go x/y/z.go"},
		{Selection{Path: "x/*/z.go"}, ""},
		{Selection{Path: "*/e", Wildcard: true}, "d/e d/e/c"},
		{Selection{Path: "in/*", Wildcard: true}, "d/b d/e d/e/c d/up in"},
		{Selection{Path: "i*", Wildcard: true, FollowSymlink: true}, "d d/b d/e d/e/c d/up in"},
		{Selection{Path: "x", Include: []string{"**/*.go"}}, "x x/w x/w/z.go x/y x/y/z.go"},
		{Selection{Path: "x", Exclude: []string{"y"}}, "x x/w x/w/z.go"},
		{Selection{Path: "x", Exclude: []string{"**/z.*", "!y/z.txt"}}, "x x/w x/y x/y/z.txt"},
		{Selection{Path: "/", Include: []string{"d/e"}}, "d d/e d/e/c"},
	} {
		if got := strings.Join(paths(t, v, c.s), " "); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.s, got, c.want)
		}
	}
}

func TestMissingIsDefined(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "ignored/b = 2", "link -> ignored/b")
	v := view(t, open(t, Options{}), dir, Filter{Exclude: []string{"ignored"}})
	seen := map[Content]string{}
	for _, p := range []string{"a", "nothing", "other", "ignored", "ignored/b", "link", ""} {
		c, err := v.Digest(t.Context(), Selection{Path: p, FollowSymlink: true})
		if err != nil {
			t.Fatal(err)
		}
		if q, ok := seen[c]; ok {
			t.Errorf("%q and %q have one digest", p, q)
		}
		seen[c] = p
	}
}

func TestBadPatternsAreErrors(t *testing.T) {
	dir := t.TempDir()
	trees := open(t, Options{})
	for _, f := range []Filter{{Include: []string{"["}}, {Exclude: []string{"a", "!"}}, {Exclude: []string{"[z-a]"}}} {
		if _, err := trees.View(dir, f); err == nil {
			t.Errorf("%q: no error", f)
		}
	}
	v := view(t, trees, dir, Filter{})
	if _, err := v.Digest(t.Context(), Selection{Exclude: []string{"["}}); err == nil || !strings.Contains(err.Error(), "exclude patterns") {
		t.Errorf("got %v, want an error about exclude patterns", err)
	}
}

func TestSelectionsOfOperations(t *testing.T) {
	got := CopySelection(&pb.FileActionCopy{Src: "/a*", AllowWildcard: true, AttemptUnpackDockerCompatibility: true, IncludePatterns: []string{"i"}, ExcludePatterns: []string{"e"}, DirCopyContents: true})
	want := Selection{Path: "/a*", Wildcard: true, FollowSymlink: true, Include: []string{"i"}, Exclude: []string{"e"}, DirContents: true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := MountSelection(&pb.Mount{Selector: "sub"}); got.Path != "sub" || !got.FollowSymlink {
		t.Errorf("mount: got %+v", got)
	}
	f, err := FilterOf(map[string]string{pb.AttrFollowPaths: `["a"]`, pb.AttrExcludePatterns: `["b","!c"]`, pb.AttrSharedKeyHint: "x"})
	if err != nil || !slices.Equal(f.Follow, []string{"a"}) || !slices.Equal(f.Exclude, []string{"b", "!c"}) || f.Include != nil {
		t.Errorf("filter: got %+v, %v", f, err)
	}
	if _, err := FilterOf(map[string]string{pb.AttrIncludePatterns: `{`}); err == nil {
		t.Error("no error for what is not JSON")
	}
}

func TestCancelledDigestIsNotKept(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "d/b = 2")
	v := view(t, open(t, Options{}), dir, Filter{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Digest(ctx, Selection{}); err == nil {
		t.Error("no error")
	}
	if c, err := v.Digest(t.Context(), Selection{}); err != nil || c.Files != 2 || c.Bytes != 2 {
		t.Errorf("after a cancelled call: got %v, %v", c, err)
	}
}
