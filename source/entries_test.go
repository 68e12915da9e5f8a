package source

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// digestOf is the digest of everything in a directory, in a run of its own.
func digestOf(t testing.TB, dir string) Content {
	t.Helper()
	return digestWith(t, dir, Options{})
}

func digestWith(t testing.TB, dir string, o Options) Content {
	t.Helper()
	trees := Open(o)
	defer trees.Close()
	c, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatCounts changes one thing at a time.
func TestWhatCounts(t *testing.T) {
	for _, c := range []struct {
		what   string
		counts bool
		change func(t *testing.T, dir string)
	}{
		{"bytes", true, func(t *testing.T, d string) { tree(t, d, "f = 2") }},
		{"time", false, func(t *testing.T, d string) { must(t, os.Chtimes(d+"/f", time.Unix(1, 0), time.Unix(2, 0))) }},
		{"inode", false, func(t *testing.T, d string) {
			must(t, os.Rename(d+"/f", d+"/g"))
			tree(t, d, "f = 1")
			must(t, os.Remove(d+"/g"))
		}},
		{"permission bits", true, func(t *testing.T, d string) { must(t, os.Chmod(d+"/f", 0o640)) }},
		{"setuid", true, func(t *testing.T, d string) { must(t, os.Chmod(d+"/f", 0o644|fs.ModeSetuid)) }},
		{"sticky directory", true, func(t *testing.T, d string) { must(t, os.Chmod(d+"/d", 0o755|fs.ModeSticky)) }},
		{"mode of the root", false, func(t *testing.T, d string) { must(t, os.Chmod(d, 0o700)) }},
		{"mode of an empty directory", true, func(t *testing.T, d string) { must(t, os.Chmod(d+"/empty", 0o700)) }},
		{"empty directory gone", true, func(t *testing.T, d string) { must(t, os.Remove(d+"/empty")) }},
		{"name", true, func(t *testing.T, d string) { must(t, os.Rename(d+"/f", d+"/F")) }},
		{"place", true, func(t *testing.T, d string) { must(t, os.Rename(d+"/f", d+"/d/f")) }},
		{"target of a link", true, func(t *testing.T, d string) {
			must(t, os.Remove(d+"/link"))
			tree(t, d, "link -> d")
		}},
		{"file becomes a link", true, func(t *testing.T, d string) {
			must(t, os.Remove(d+"/f"))
			tree(t, d, "f -> d/g")
		}},
		{"file becomes a directory", true, func(t *testing.T, d string) {
			must(t, os.Remove(d+"/f"))
			tree(t, d, "f/")
		}},
		{"hard link within", true, func(t *testing.T, d string) { tree(t, d, "d/same hard f") }},
		{"hard link in place of a copy", true, func(t *testing.T, d string) {
			must(t, os.Remove(d+"/d/copy"))
			tree(t, d, "d/copy hard f")
		}},
		{"hard link from outside", false, func(t *testing.T, d string) { must(t, os.Link(d+"/f", d+"-outside")) }},
		{"owner's attribute", true, func(t *testing.T, d string) {
			if err := unix.Lsetxattr(d+"/f", "user.x", []byte("1"), 0); errors.Is(err, unix.ENOTSUP) {
				t.Skip("no extended attributes here")
			} else {
				must(t, err)
			}
		}},
		{"attribute of a directory", true, func(t *testing.T, d string) {
			if err := unix.Lsetxattr(d+"/empty", "user.x", []byte("1"), 0); errors.Is(err, unix.ENOTSUP) {
				t.Skip("no extended attributes here")
			} else {
				must(t, err)
			}
		}},
		{"pipe", true, func(t *testing.T, d string) { must(t, unix.Mkfifo(d+"/pipe", 0o644)) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x")
			tree(t, dir, "f = 1", "d/g = 1", "d/copy = 1", "empty/", "link -> f")
			before := digestOf(t, dir)
			c.change(t, dir)
			if after := digestOf(t, dir); (after.Digest != before.Digest) != c.counts {
				t.Errorf("counts: %v, want %v", after.Digest != before.Digest, c.counts)
			}
		})
	}
}

func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	// the path of a socket must be short
	short, err := os.MkdirTemp("", "s")
	must(t, err)
	defer os.RemoveAll(short)
	l, err := net.Listen("unix", filepath.Join(short, "s"))
	must(t, err)
	defer l.Close()
	must(t, os.Rename(filepath.Join(short, "s"), filepath.Join(dir, "socket")))
	must(t, os.Chmod(filepath.Join(dir, "socket"), 0o644))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	null := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil
	before := digestOf(t, dir)
	entries, err := view(t, open(t, Options{}), dir, Filter{}).Entries(t.Context(), Selection{})
	must(t, err)
	for _, e := range entries {
		switch e.Path {
		case "socket":
			if e.Mode != 0o644 || e.Digest != digest.FromBytes(nil) || e.Size != 0 {
				t.Errorf("a socket is %+v, want an empty file", e)
			}
		case "pipe":
			if e.Mode.Type() != fs.ModeNamedPipe || e.Digest != "" {
				t.Errorf("a pipe is %+v", e)
			}
		case "null":
			if e.Mode.Type() != fs.ModeDevice|fs.ModeCharDevice || e.Device != unix.Mkdev(1, 3) {
				t.Errorf("a device is %+v", e)
			}
		}
	}
	must(t, os.Remove(filepath.Join(dir, "socket")))
	tree(t, dir, "socket")
	if after := digestOf(t, dir); after != before {
		t.Error("a socket and the empty file that BuildKit makes of it differ")
	}
	if null {
		must(t, os.Remove(filepath.Join(dir, "null")))
		must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		if after := digestOf(t, dir); after.Digest == before.Digest {
			t.Error("the number of a device does not count")
		}
	}
}

func TestHardLinksAreNamed(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "b = 1", "a/z hard b", "c hard b", "d = 1")
	v := view(t, open(t, Options{}), dir, Filter{})
	same := map[string]string{}
	entries, err := v.Entries(t.Context(), Selection{})
	must(t, err)
	for _, e := range entries {
		same[e.Path] = e.Same
	}
	for p, want := range map[string]string{"a/z": "", "b": "a/z", "c": "a/z", "d": ""} {
		if same[p] != want {
			t.Errorf("%s is the same as %q, want %q", p, same[p], want)
		}
	}
	// of a selection that has one of them, the others make no difference
	one, err := v.Digest(t.Context(), Selection{Path: "b"})
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "c")))
	must(t, os.Remove(filepath.Join(dir, "a/z")))
	if other, err := view(t, open(t, Options{}), dir, Filter{}).Digest(t.Context(), Selection{Path: "b"}); err != nil || other != one {
		t.Errorf("links outside of the selection count: %v, %v, want %v", other, err, one)
	}
}

func TestNormalizedModes(t *testing.T) {
	normal := Options{NormalizeModes: true}
	dir := t.TempDir()
	tree(t, dir, "f = 1", "x = 1", "d/g = 1", "link -> f")
	set := func(f, x, d fs.FileMode) Content {
		t.Helper()
		must(t, os.Chmod(filepath.Join(dir, "f"), f))
		must(t, os.Chmod(filepath.Join(dir, "x"), x))
		must(t, os.Chmod(filepath.Join(dir, "d"), d))
		return digestWith(t, dir, normal)
	}
	a := set(0o644, 0o755, 0o755)
	if b := set(0o664, 0o700, 0o775); b != a {
		t.Error("the umask counts")
	}
	if b := set(0o644, 0o644, 0o755); b == a {
		t.Error("the executable bit does not count")
	}
	if b := digestOf(t, dir); b != set(0o644, 0o644, 0o755) {
		t.Error("normal modes differ when they are normalized")
	}
	for m, want := range map[fs.FileMode]fs.FileMode{
		0o600: 0o644, 0o711: 0o755, 0o644 | fs.ModeSetuid: 0o644, 0o010: 0o644,
		fs.ModeDir | 0o700 | fs.ModeSticky: fs.ModeDir | 0o755,
		fs.ModeSymlink | 0o777:             fs.ModeSymlink | 0o777,
		fs.ModeNamedPipe | 0o600:           fs.ModeNamedPipe | 0o644,
	} {
		if got := NormalizedMode(m); got != want {
			t.Errorf("%v becomes %v, want %v", m, got, want)
		}
	}
}

// TestUnreadable runs itself as somebody who may not read everything.
func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		dir, err := os.MkdirTemp("", "unreadable")
		must(t, err)
		defer os.RemoveAll(dir)
		must(t, os.Chmod(dir, 0o777))
		exe := filepath.Join(dir, "test")
		data, err := os.ReadFile(os.Args[0])
		must(t, err)
		must(t, os.WriteFile(exe, data, 0o755))
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestUnreadable$", "-test.v")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestUnreadable") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	dir := t.TempDir()
	tree(t, dir, "a = 1", "d/secret = 2", "d/b = 3", "closed/c = 4")
	must(t, os.Chmod(filepath.Join(dir, "d/secret"), 0))
	must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
	defer func() { must(t, os.Chmod(filepath.Join(dir, "closed"), 0o755)) }()
	cache := t.TempDir()
	trees := open(t, Options{CacheDir: cache})
	for _, c := range []struct {
		f    Filter
		s    Selection
		want string // in the error; "" is none
	}{
		{Filter{}, Selection{}, ""},
		{Filter{}, Selection{Path: "a"}, "none"},
		{Filter{}, Selection{Path: "d"}, "d/secret"},
		{Filter{}, Selection{Path: "d", Exclude: []string{"secret"}}, "none"},
		{Filter{}, Selection{Path: "closed"}, "closed"},
		{Filter{}, Selection{Path: "closed/c"}, "closed"},
		{Filter{Exclude: []string{"closed", "**/secret"}}, Selection{}, "none"},
		{Filter{Exclude: []string{"closed", "!closed/c", "**/secret"}}, Selection{}, "none"},
	} {
		_, err := view(t, trees, dir, c.f).Digest(t.Context(), c.s)
		switch {
		case c.want == "none" && err != nil:
			t.Errorf("%q %+v: %v", c.f, c.s, err)
		case c.want != "none" && (err == nil || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(dir, c.want)) && c.want != ""):
			t.Errorf("%q %+v: got %v, want an error about %s", c.f, c.s, err, c.want)
		}
	}
	if id := trees.SyncID(t.Context(), dir); id == trees.random {
		t.Error("what cannot be read takes away the index")
	}
	if got, err := trees.Changed(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("changed: %q, %v", got, err)
	}
}

func TestChangedWhileRead(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "f = some text")
	trees := open(t, Options{})
	n := view(t, trees, dir, Filter{}).root.n
	must(t, trees.list(n))
	path := filepath.Join(dir, "f")

	// changed between listing and reading: what was read counts
	tree(t, dir, "f = other and longer text")
	must(t, trees.hashFiles(t.Context(), n, []int{0}))
	if e := &n.entries[0]; e.sum != sumBytes("other and longer text") || e.size != 21 {
		t.Errorf("got %v with size %d", e.sum, e.size)
	}

	// truncated while it is read: never taken for whole
	f, err := openRegular(path)
	must(t, err)
	defer f.close()
	var s sum
	if err := trees.sumContent(t.Context(), f, 1<<20, &s); !errors.Is(err, errChanged) {
		t.Errorf("a file that is too short: %v", err)
	}
	if err := trees.sumContent(t.Context(), f, 100, &s); !errors.Is(err, errChanged) {
		t.Errorf("a small file that is too short: %v", err)
	}

	// not a file any more
	for _, change := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.Symlink("/etc/passwd", path) },
		func() error { os.Remove(path); return unix.Mkfifo(path, 0o644) },
		func() error { os.Remove(path); return os.Mkdir(path, 0o755) },
	} {
		must(t, change())
		n.entries[0].flags = 0
		err := trees.hashFiles(t.Context(), n, []int{0})
		if !errors.Is(err, errChanged) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want that %s changed", err, path)
		}
	}
}

func sumBytes(s string) sum {
	var out sum
	d := digest.FromString(s)
	for i := range out {
		out[i] = unhex(d.Encoded()[2*i])<<4 | unhex(d.Encoded()[2*i+1])
	}
	return out
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// TestGrowingFile lets a file grow each time that it has just been read.
func TestGrowingFile(t *testing.T) {
	for grows, want := range map[int]bool{0: true, 1: true, 2: true, 3: false, 100: false} {
		dir := t.TempDir()
		tree(t, dir, "log = x")
		path := filepath.Join(dir, "log")
		trees := open(t, Options{})
		reads := 0
		trees.reading = func(p string) {
			if reads++; p == path && reads <= grows {
				tree(t, dir, "log = x"+strings.Repeat("y", reads))
			}
		}
		c, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{})
		switch {
		case want && (err != nil || c.Bytes != int64(1+grows) || c != digestOf(t, dir)):
			t.Errorf("a file that grew %d times: %v, %v", grows, c, err)
		case !want && (!errors.Is(err, errChanged) || !strings.Contains(err.Error(), path) || reads != 3):
			t.Errorf("a file that grew %d times: got %v after %d readings, want that %s changed after 3", grows, err, reads, path)
		}
	}
}

func TestVanished(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "gone/b = 2")
	trees := open(t, Options{})
	v := view(t, trees, dir, Filter{})
	must(t, trees.list(v.root.n)) // seen, and then removed before it is listed
	must(t, os.RemoveAll(filepath.Join(dir, "gone")))
	if got := paths(t, v, Selection{}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	if got := paths(t, v, Selection{Path: "gone"}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	c, err := v.Digest(t.Context(), Selection{})
	must(t, err)
	if c != digestOf(t, dir) {
		t.Error("a directory that vanished leaves traces")
	}
	if _, err := trees.View(filepath.Join(dir, "gone"), Filter{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a view of nothing: %v", err)
	}
	if _, err := trees.View(filepath.Join(dir, "a"), Filter{}); err == nil {
		t.Error("a view of a file")
	}
	if _, err := trees.View("relative", Filter{}); err == nil {
		t.Error("a relative view")
	}
}

func TestEveryDirectoryIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a/b/c = 1", "a/d = 2")
	trees := open(t, Options{})
	outer, inner := view(t, trees, dir, Filter{}), view(t, trees, filepath.Join(dir, "a"), Filter{})
	other := view(t, trees, dir, Filter{Exclude: []string{"**/x"}})
	want, err := outer.Digest(t.Context(), Selection{Path: "a/b"})
	must(t, err)
	tree(t, dir, "a/b/c = 9", "a/b/new = 3") // after the run has looked
	if got, err := other.Digest(t.Context(), Selection{Path: "a/b"}); err != nil || got != want {
		t.Errorf("another view: %v, %v, want %v", got, err, want)
	}
	if got := paths(t, inner, Selection{Path: "b"}); !slices.Equal(got, []string{"b", "b/c"}) {
		t.Errorf("a nested view: %q", got)
	}
	if view(t, trees, dir, Filter{}) != outer {
		t.Error("the same view is made twice")
	}
}

func TestIgnoredIsNotWalked(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "node_modules/x/y = 2", "keep/ignored/b = 3", "keep/c = 4")
	for _, c := range []struct {
		f    Filter
		want map[string]bool
	}{
		{Filter{Exclude: []string{"node_modules", "**/ignored"}}, map[string]bool{"node_modules": false, "keep": true, "keep/ignored": false}},
		{Filter{Exclude: []string{"node_modules", "!node_modules/x"}}, map[string]bool{"node_modules": true, "keep/ignored": true}},
		{Filter{Exclude: []string{"node_modules", "!keep/c"}}, map[string]bool{"node_modules": false, "keep": true}},
		{Filter{Follow: []string{"keep"}}, map[string]bool{"node_modules": false, "keep": true, "keep/ignored": true}},
	} {
		trees := Open(Options{})
		if _, err := view(t, trees, dir, c.f).Digest(t.Context(), Selection{}); err != nil {
			t.Fatal(err)
		}
		for p, want := range c.want {
			if n := trees.node(filepath.Join(dir, p)); n.listed != want {
				t.Errorf("%q: %s was read: %v, want %v", c.f, p, n.listed, want)
			}
		}
	}
}

func TestFile(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "Dockerfile = FROM scratch", "link -> Dockerfile", "d/", "dead -> nothing")
	file := filepath.Join(dir, "Dockerfile")
	for _, first := range []bool{true, false} { // listed before, or not
		trees := open(t, Options{CacheDir: cache})
		v := view(t, trees, dir, Filter{})
		if !first {
			paths(t, v, Selection{})
		}
		for _, p := range []string{"Dockerfile", "link"} {
			d, ok, err := trees.File(t.Context(), filepath.Join(dir, p))
			if d != digest.FromString("FROM scratch") || !ok || err != nil {
				t.Errorf("%s: %v, %v, %v", p, d, ok, err)
			}
		}
		for _, p := range []string{"nothing", "d/nothing", "Dockerfile/nothing", "dead"} {
			if d, ok, err := trees.File(t.Context(), filepath.Join(dir, p)); ok || err != nil {
				t.Errorf("%s: %v, %v, %v", p, d, ok, err)
			}
		}
		if _, _, err := trees.File(t.Context(), filepath.Join(dir, "d")); err == nil {
			t.Error("a directory has the digest of a file")
		}
	}
	trees := later(Open(Options{CacheDir: cache}), time.Hour)
	view(t, trees, dir, Filter{})
	_, _, err := trees.File(t.Context(), file)
	must(t, err)
	must(t, trees.Close())
	trees = later(open(t, Options{CacheDir: cache}), time.Hour)
	view(t, trees, dir, Filter{})
	_, _, err = trees.File(t.Context(), file)
	must(t, err)
	if trees.files[file].e.flags&flagFresh != 0 {
		t.Error("a single file is not taken from the index")
	}
}

func TestTouched(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "a = 1", "d/b = 2", "ignored/c = 3", "e/f = 4")
	f := Filter{Exclude: []string{"ignored"}}
	digestIn := func(s Selection, touched ...string) Content {
		t.Helper()
		o := Options{Touched: map[string]bool{}}
		for _, p := range touched {
			o.Touched[filepath.Join(dir, p)] = true
		}
		c, err := view(t, open(t, o), dir, f).Digest(t.Context(), s)
		must(t, err)
		return c
	}
	for _, c := range []struct {
		touched string
		path    string
		want    bool
	}{
		{"a", "", true}, {"a", "a", true}, {"a", "d", false},
		{"d/b", "", true}, {"d/b", "d", true}, {"d/b", "a", false},
		{"d/new", "d", true}, {"d/new", "d/new", true}, {"d/new", "e", false},
		{"gone/x/y", "gone", true}, {"gone/x/y", "", true}, {"gone/x/y", "d", false},
		{"ignored/c", "", false}, {"ignored/new", "", false},
		{"d", "d", true}, {"d", "", true}, {"d", "a", false},
		{"a/was/dir", "a", true},
	} {
		s := Selection{Path: c.path}
		if got := digestIn(s, c.touched) != digestIn(s); got != c.want {
			t.Errorf("touching %s changes %q: %v, want %v", c.touched, c.path, got, c.want)
		}
	}
	trees := open(t, Options{Touched: map[string]bool{filepath.Join(dir, "a"): true, filepath.Join(dir, "no"): true}})
	if d, ok, err := trees.File(t.Context(), filepath.Join(dir, "a")); !ok || err != nil || d == digest.FromString("1") {
		t.Errorf("a touched file: %v, %v, %v", d, ok, err)
	}
	if _, ok, err := trees.File(t.Context(), filepath.Join(dir, "no")); !ok || err != nil {
		t.Errorf("a touched file that is not there: %v, %v", ok, err)
	}
}

func TestTouchedIsNotKept(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1")
	want, _ := run(t, cache, dir, time.Hour)
	trees := later(Open(Options{CacheDir: cache, Touched: map[string]bool{filepath.Join(dir, "a"): true, filepath.Join(dir, "b"): true}}), time.Hour)
	if got, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{}); err != nil || got == want {
		t.Errorf("got %v, %v", got, err)
	}
	must(t, trees.Close())
	if got, n := run(t, cache, dir, time.Hour); got != want || n != 0 {
		t.Errorf("afterwards: got %v with %d files hashed, want %v", got, n, want)
	}
}
