package source

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
)

// tree makes files from lines: "path" is a file, "path/" a directory, "path -> x"
// a link, "path = text" a file with this text, "path hard x" a hard link to x.
func tree(t testing.TB, dir string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		name, text, _ := strings.Cut(line, " = ")
		link, to, isLink := strings.Cut(line, " -> ")
		hard, src, isHard := strings.Cut(line, " hard ")
		var err error
		switch {
		case isLink:
			mkdirs(t, filepath.Dir(filepath.Join(dir, link)))
			err = os.Symlink(to, filepath.Join(dir, link))
		case isHard:
			mkdirs(t, filepath.Dir(filepath.Join(dir, hard)))
			err = os.Link(filepath.Join(dir, src), filepath.Join(dir, hard))
		case strings.HasSuffix(line, "/"):
			mkdirs(t, filepath.Join(dir, line))
		default:
			mkdirs(t, filepath.Dir(filepath.Join(dir, name)))
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func mkdirs(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o Options) *Trees {
	t.Helper()
	trees := Open(o)
	t.Cleanup(func() { trees.Close() })
	return trees
}

func view(t testing.TB, trees *Trees, dir string, f Filter) *View {
	t.Helper()
	v, err := trees.View(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func paths(t testing.TB, v *View, s Selection) []string {
	t.Helper()
	entries, err := v.Entries(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Path)
	}
	return out
}

// sent is what fsutil sends for a filter.
func sent(t testing.TB, dir string, f Filter) ([]string, error) {
	t.Helper()
	root, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	filtered, err := fsutil.NewFilterFS(root, &fsutil.FilterOpt{IncludePatterns: nonEmpty(f.Include), ExcludePatterns: nonEmpty(f.Exclude), FollowPaths: nonEmpty(f.Follow)})
	if err != nil {
		return nil, err
	}
	out := []string{}
	err = filtered.Walk(t.Context(), "/", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		out = append(out, path)
		return nil
	})
	slices.Sort(out)
	return out, err
}

func nonEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// seedOf is where random tests begin: ZLAYER_SEED, else always the same.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("ZLAYER_SEED")
	if s == "" {
		return 1
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	must(t, err)
	return seed
}

// gen makes random trees and patterns of few names, so that they often meet.
type gen struct{ *rand.Rand }

func (g gen) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g gen) name() string {
	return g.pick("a", "b", "c", "foo", "bar", "foo.go", "b.log", "a.b", "x y", "é", "{a}", "a|b", "[c]", "*", "B", "n\nl", "\xff")
}

func (g gen) tree(t testing.TB, dir string, depth int) {
	for range g.IntN(6) + 1 {
		p := filepath.Join(dir, g.name())
		switch k := g.IntN(10); {
		case k < 5 && depth > 0:
			if os.Mkdir(p, 0o755) == nil {
				g.tree(t, p, depth-1)
			}
		case k == 5:
			_ = os.Symlink(g.pick("a", "b", "../a", "/a", "/foo/bar", "../../b", ".", "..", "c/d", "foo.go"), p)
		default:
			if _, err := os.Lstat(p); err != nil {
				must(t, os.WriteFile(p, []byte(p), 0o644))
			}
		}
	}
}

func (g gen) pattern() string {
	var parts []string
	for range g.IntN(3) + 1 {
		parts = append(parts, g.pick(g.name(), g.name(), g.name(), "*", "**", "?", "*.go", "*.log", "fo*", "[ab]", "[^a]", "a?b", "**x", "f**", "\\*", ".", "..", "^a", "a*b|c"))
	}
	p := strings.Join(parts, "/")
	switch g.IntN(8) {
	case 0:
		return "/" + p
	case 1:
		return p + "/"
	case 2:
		return p + "/**"
	case 3:
		return "**/" + p
	}
	return p
}

func (g gen) patterns(exceptions bool) []string {
	var out []string
	for range g.IntN(5) {
		p := g.pattern()
		if exceptions && g.IntN(3) == 0 {
			p = "!" + p
		}
		out = append(out, p)
	}
	return out
}

func (g gen) filter() Filter {
	f := Filter{Exclude: g.patterns(true)}
	if g.IntN(2) == 0 {
		f.Include = g.patterns(g.IntN(4) == 0)
	}
	if g.IntN(2) == 0 {
		f.Follow = slices.DeleteFunc(g.patterns(false), func(p string) bool {
			return strings.Contains(p, "..") // fsutil looks outside of the directory
		})
	}
	return f
}

// TestFilterIsBuildKits compares the entries of random views of random trees with
// what BuildKit's client would send.
func TestFilterIsBuildKits(t *testing.T) {
	seed := seedOf(t)
	rounds := 100
	if testing.Short() {
		rounds = 15
	}
	failed, nonTrivial := 0, 0
	for round := range rounds {
		g := gen{rand.New(rand.NewPCG(seed, uint64(round)))}
		dir := t.TempDir()
		g.tree(t, dir, 4)
		trees := Open(Options{})
		for range 30 {
			f := g.filter()
			want, wantErr := sent(t, dir, f)
			v, err := trees.View(dir, f)
			var got []string
			if err == nil {
				var entries []Entry
				entries, err = v.Entries(t.Context(), Selection{})
				for _, e := range entries {
					got = append(got, e.Path)
				}
			}
			if (err != nil) != (wantErr != nil) {
				t.Errorf("seed %d round %d, %q: got error %v, want %v", seed, round, f, err, wantErr)
				failed++
			} else if err == nil && !slices.Equal(got, want) {
				t.Errorf("seed %d round %d, %q (-fsutil +source):\n%s", seed, round, f, cmp.Diff(want, got))
				failed++
			}
			if len(want) > 0 && len(f.Exclude) > 0 {
				nonTrivial++
			}
			if failed > 5 {
				t.Fatal("giving up")
			}
			if err != nil {
				continue
			}
			// the digest comes from another walk, with short cuts; it must be a
			// function of the entries
			if g.IntN(5) == 0 {
				checkDigest(t, v, dir)
			}
		}
		trees.Close()
		os.RemoveAll(dir)
	}
	if nonTrivial < rounds {
		t.Errorf("only %d filters left something", nonTrivial)
	}
}

// checkDigest compares the digest of a view with that of a copy of its entries
// that is seen without a filter.
func checkDigest(t *testing.T, v *View, dir string) {
	t.Helper()
	got, err := v.Digest(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := v.Entries(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	twin := t.TempDir()
	defer os.RemoveAll(twin)
	for _, e := range entries {
		src, dst := filepath.Join(dir, e.Path), filepath.Join(twin, e.Path)
		switch {
		case e.Mode.IsDir():
			err = os.Mkdir(dst, 0o755)
		case e.Link != "":
			err = os.Symlink(e.Link, dst)
		default:
			var data []byte
			if data, err = os.ReadFile(src); err == nil {
				err = os.WriteFile(dst, data, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := view(t, Open(Options{}), twin, Filter{}).Digest(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%q: digest %v, of the same entries without a filter %v", v.filter, got, want)
	}
}
