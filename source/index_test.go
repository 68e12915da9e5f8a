package source

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// later makes a run believe that it takes place some time from now, when nothing
// is racy any more.
func later(t *Trees, d time.Duration) *Trees {
	t.now = func() time.Time { return time.Now().Add(d) }
	return t
}

// run opens a view of everything below dir a while from now and returns its
// digest and how many files were hashed for it.
func run(t testing.TB, cache, dir string, after time.Duration) (Content, int) {
	t.Helper()
	return runWith(t, later(Open(Options{CacheDir: cache}), after), dir)
}

// runAt is run at a time that does not pass, however slow the machine is.
func runAt(t testing.TB, cache, dir string, at time.Time) (Content, int) {
	t.Helper()
	trees := Open(Options{CacheDir: cache})
	trees.now = func() time.Time { return at }
	return runWith(t, trees, dir)
}

func runWith(t testing.TB, trees *Trees, dir string) (Content, int) {
	t.Helper()
	c, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	n := hashed(trees)
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	return c, n
}

// hashed counts the files that a run has hashed.
func hashed(t *Trees) int {
	n := 0
	for _, k := range t.knownBelow(t.top) {
		if k.n == nil {
			continue
		}
		for i := range k.n.entries {
			if k.n.entries[i].flags&flagFresh != 0 {
				n++
			}
		}
	}
	return n
}

func TestIndexKeepsDigests(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1", "d/b = 2", "d/e/c = 3", "link -> a", "empty/")
	first, n := run(t, cache, dir, time.Hour)
	if n != 3 {
		t.Errorf("the first run hashed %d files, want 3", n)
	}
	second, n := run(t, cache, dir, 2*time.Hour)
	if n != 0 || second != first {
		t.Errorf("the second run hashed %d files and found %v, want none and %v", n, second, first)
	}
	tree(t, dir, "d/b = 9")
	third, n := run(t, cache, dir, 3*time.Hour)
	if n != 1 || third.Digest == first.Digest {
		t.Errorf("after an edit %d files were hashed and %v found, want 1 and another digest", n, third)
	}
}

func TestIndexFollowsAMove(t *testing.T) {
	cache, parent := t.TempDir(), t.TempDir()
	old, moved := filepath.Join(parent, "old"), filepath.Join(parent, "deep", "new")
	tree(t, old, "a = 1", "d/b = 2")
	mkdirs(t, filepath.Dir(moved))
	first, _ := run(t, cache, old, time.Hour)
	if err := os.Rename(old, moved); err != nil {
		t.Fatal(err)
	}
	second, n := run(t, cache, moved, 2*time.Hour)
	if n != 0 || second != first {
		t.Errorf("after a move %d files were hashed and %v found, want none and %v", n, second, first)
	}
}

func TestIndexIsSharedByNestedRoots(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1", "svc/b = 2")
	run(t, cache, dir, time.Hour)
	trees := later(open(t, Options{CacheDir: cache}), 2*time.Hour)
	view(t, trees, dir, Filter{})
	if _, err := view(t, trees, filepath.Join(dir, "svc"), Filter{}).Digest(t.Context(), Selection{}); err != nil {
		t.Fatal(err)
	}
	if n := hashed(trees); n != 0 {
		t.Errorf("%d files of a nested root were hashed though the index of the outer one has them", n)
	}
	trees.Close()
	if _, n := run(t, cache, filepath.Join(dir, "svc"), 3*time.Hour); n != 0 {
		t.Errorf("alone, the nested root hashed %d files", n)
	}
}

func TestRacyFilesAreHashedAgain(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1", "b = 2")
	last, err := os.Stat(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	changed := last.ModTime()
	for i := range 3 { // they were changed just before they were hashed
		if _, n := runAt(t, cache, dir, changed.Add(time.Duration(i)*time.Millisecond)); n != 2 {
			t.Errorf("run %d hashed %d files, want 2", i, n)
		}
	}
	if _, n := runAt(t, cache, dir, changed.Add(time.Hour)); n != 2 {
		t.Errorf("the first safe run hashed %d files, want 2", n)
	}
	if _, n := runAt(t, cache, dir, changed.Add(time.Hour)); n != 0 {
		t.Errorf("the run after a safe one hashed %d files, want 0", n)
	}
}

func TestTimesInTheFutureAreNotTrusted(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1")
	run(t, cache, dir, time.Hour)
	if _, n := run(t, cache, dir, -time.Hour); n != 1 { // the clock was set back
		t.Errorf("%d files were hashed, want 1", n)
	}
	// and what was hashed then is not trusted afterwards
	if _, n := run(t, cache, dir, 2*time.Hour); n != 1 {
		t.Errorf("later %d files were hashed, want 1", n)
	}
}

func TestCoarseTimesNeedMoreDistance(t *testing.T) {
	r := &root{stamp: int64(1000 * time.Second)}
	for _, c := range []struct {
		time int64
		want bool
	}{
		{r.stamp - int64(100*time.Millisecond) - 1, true},
		{r.stamp - int64(10*time.Millisecond) - 1, false},
		{r.stamp - int64(time.Second), false}, // whole seconds
		{r.stamp - int64(3*time.Second), true},
		{r.stamp + 1, false},
	} {
		if got := r.safe(&entry{mtime: c.time, ctime: c.time}); got != c.want {
			t.Errorf("%d ns before: got %v, want %v", r.stamp-c.time, got, c.want)
		}
	}
}

func TestIndexIsWrittenOnlyIfNeeded(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1", "b = 2")
	run(t, cache, dir, time.Hour)
	before := onlyIndex(t, cache)
	run(t, cache, dir, 2*time.Hour)
	if after := onlyIndex(t, cache); !bytes.Equal(before, after) {
		t.Error("a run that learned nothing wrote the index")
	}
	run(t, cache, dir, 10*24*time.Hour)
	if after := onlyIndex(t, cache); bytes.Equal(before, after) {
		t.Error("the note of the last use stays for ever")
	}
}

// onlyIndex reads the one index of a cache directory.
func onlyIndex(t testing.TB, cache string) []byte {
	t.Helper()
	data, err := os.ReadFile(onlyIndexFile(t, cache))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func onlyIndexFile(t testing.TB, cache string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, "*.idx"))
	if err != nil || len(files) != 1 {
		t.Fatalf("indexes are %q (%v), want one", files, err)
	}
	return files[0]
}

func TestDamagedIndexIsIgnored(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "a = 1", "d/b = 2")
	want, _ := run(t, cache, dir, time.Hour)
	file := onlyIndexFile(t, cache)
	good := onlyIndex(t, cache)
	damage := map[string][]byte{
		"empty":   {},
		"foreign": []byte("PACK, or something like that, that is longer than the header of an index is, by far, so there"),
		"version": slices.Concat([]byte("zlstat\x00\x02"), good[8:]),
		"longer":  append(bytes.Clone(good), 0),
	}
	for _, n := range []int{7, 20, headerSize - 1, headerSize, len(good) / 2, len(good) - 1} {
		damage["cut at "+strconv.Itoa(n)] = good[:n]
	}
	for i := 0; i < len(good); i += 13 {
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x10
		if i < 12 || i >= headerStart { // what is between is not used
			damage["flipped at "+strconv.Itoa(i)] = flipped
		}
	}
	for what, data := range damage {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, n := run(t, cache, dir, 2*time.Hour)
		if got != want || n != 2 {
			t.Errorf("%s: found %v with %d files hashed, want %v with 2", what, got, n, want)
		}
	}
}

func TestUnusableCacheDirectory(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "src/a = 1", "file = x")
	trees := Open(Options{CacheDir: filepath.Join(dir, "file", "cache")})
	src := filepath.Join(dir, "src")
	if _, err := view(t, trees, src, Filter{}).Digest(t.Context(), Selection{}); err != nil {
		t.Error(err)
	}
	if id := trees.SyncID(t.Context(), src); id != trees.random {
		t.Errorf("an id that is not kept anywhere is %q, want the run's own", id)
	}
	if err := trees.Close(); err == nil {
		t.Error("closing hides that nothing was written")
	}
}

func TestUnusedIndexesAreRemoved(t *testing.T) {
	cache := t.TempDir()
	age := func(name string, d time.Duration) string {
		p := filepath.Join(cache, name)
		tree(t, cache, name)
		when := time.Now().Add(-d)
		if err := os.Chtimes(p, when, when); err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, young := age("1-1.idx", 31*day), age("1-2.idx", 29*day)
	temp, newTemp := age(tempPrefix+"1", 2*day), age(tempPrefix+"2", time.Hour)
	other := age("something", 100*day)
	if err := Open(Options{CacheDir: cache}).Close(); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{old: false, young: true, temp: false, newTemp: true, other: true} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(p), err == nil, want)
		}
	}
}

// TestIndexUnderConcurrentRuns is for the race detector, too.
func TestIndexUnderConcurrentRuns(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	for i := range 40 {
		tree(t, dir, "d"+strconv.Itoa(i%7)+"/f"+strconv.Itoa(i)+" = "+strconv.Itoa(i))
	}
	want, _ := run(t, "", dir, 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				trees := later(Open(Options{CacheDir: cache}), time.Duration(1+i%3)*time.Hour)
				v, err := trees.View(dir, Filter{})
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					wg.Go(func() {
						if got, err := v.Digest(t.Context(), Selection{}); err != nil || got != want {
							t.Errorf("got %v, %v, want %v", got, err, want)
						}
						if _, err := v.Entries(t.Context(), Selection{Path: "d" + strconv.Itoa(j)}); err != nil {
							t.Error(err)
						}
					})
				}
				if id := trees.SyncID(t.Context(), dir); id == trees.random {
					t.Error("no index")
				}
				if err := trees.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, n := run(t, cache, dir, 4*time.Hour); n != 0 {
		t.Errorf("afterwards %d files were hashed, want 0", n)
	}
}

// TestViewsBesideHashing is for the race detector: views that follow links look names up
// while the files of the same directory are hashed for others.
func TestViewsBesideHashing(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		tree(t, dir, "f"+strconv.Itoa(i)+" = "+strconv.Itoa(i))
		if err := os.Link(filepath.Join(dir, "f"+strconv.Itoa(i)), filepath.Join(dir, "g"+strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		trees := open(t, Options{})
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				v, err := trees.View(dir, Filter{Follow: []string{"f" + strconv.Itoa(i), "g*"}})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := v.Digest(t.Context(), Selection{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// TestIndexSurvivesKill kills runs at random moments of writing the index.
func TestIndexSurvivesKill(t *testing.T) {
	if dir := os.Getenv("SOURCE_TEST_KILL"); dir != "" {
		writeUntilKilled(t, os.Getenv("SOURCE_TEST_CACHE"), dir)
		return
	}
	cache, dir := t.TempDir(), t.TempDir()
	for i := range 300 {
		tree(t, dir, "d"+strconv.Itoa(i%20)+"/file-with-some-name-"+strconv.Itoa(i)+" = "+strconv.Itoa(i))
	}
	want, _ := run(t, cache, dir, time.Hour)
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for i := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestIndexSurvivesKill$")
		cmd.Env = append(os.Environ(), "SOURCE_TEST_KILL="+dir, "SOURCE_TEST_CACHE="+cache)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// killed after a number of writes that differs from round to round, in the
		// middle of whatever comes next
		buf := make([]byte, 1)
		for range 1 + i*3 {
			if _, err := out.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		must(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil {
			t.Error("the writer ended by itself")
		}
		if x, err := decodeIndex(onlyIndex(t, cache)); err != nil {
			t.Fatalf("round %d: %v", i, err)
		} else if x.recordCount() != 300 {
			t.Errorf("round %d: the index has %d records, want 300", i, x.recordCount())
		}
		if got, _ := run(t, cache, dir, time.Hour); got != want {
			t.Errorf("round %d: got %v, want %v", i, got, want)
		}
	}
}

// writeUntilKilled writes the index again and again and says so.
func writeUntilKilled(t *testing.T, cache, dir string) {
	for {
		trees := later(Open(Options{CacheDir: cache}), time.Hour)
		v := view(t, trees, dir, Filter{})
		if _, err := v.Digest(t.Context(), Selection{}); err != nil {
			t.Fatal(err)
		}
		v.root.bump = true // something to write
		if err := trees.Close(); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(".")
	}
}

func FuzzIndex(f *testing.F) {
	var w indexWriter
	attrs := sum{1}
	w.add("", 1, nil)
	w.file("a", &record{size: 1, flags: recordSafe}, &attrs)
	w.file("b", &record{size: 2}, nil)
	w.add("d/e", 2, &attrs)
	good, err := w.encode(header{generation: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:headerSize])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// most of what a fuzzer makes has a wrong checksum
		for _, data := range [][]byte{data, withChecksum(data)} {
			x, err := decodeIndex(data)
			if err != nil {
				if !errors.Is(err, errNoIndex) {
					t.Errorf("unexpected error %v", err)
				}
				continue
			}
			if again := rewritten(t, x); !sameIndex(x, again) {
				t.Error("an index that is written again differs")
			}
		}
	})
}

// withChecksum makes the checksum right.
func withChecksum(data []byte) []byte {
	if len(data) < headerSize {
		return data
	}
	data = append([]byte(indexMagic), data[8:]...)
	return checksummed(data)
}

// rewritten copies an index by merging it with nothing.
func rewritten(t *testing.T, x *index) *index {
	m := merge{base: x}
	for d := range x.dirCount() {
		m.today = max(m.today, x.dir(d).seen)
		if i, ok := x.findDir(string(x.dirName(d))); !ok || i != d {
			t.Errorf("directory %d is found as %d, %v", d, i, ok)
		}
	}
	m.drop = false
	m.pass(nil)
	data, err := m.out.encode(x.header)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func sameIndex(a, b *index) bool {
	if a.header != b.header || a.dirCount() != b.dirCount() || a.recordCount() != b.recordCount() {
		return false
	}
	for d := range a.dirCount() {
		da, db := a.dir(d), b.dir(d)
		if !bytes.Equal(a.dirName(d), b.dirName(d)) || da.count != db.count || !equalSums(a.xattrSum(da.xattr), b.xattrSum(db.xattr)) {
			return false
		}
	}
	for i := range a.recordCount() {
		ra, rb := a.record(i), b.record(i)
		if !equalSums(a.xattrSum(ra.xattr), b.xattrSum(rb.xattr)) {
			return false
		}
		ra.xattr, rb.xattr = 0, 0
		if !bytes.Equal(a.name(i), b.name(i)) || ra != rb {
			return false
		}
	}
	return true
}

func TestIndexNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	cache, dir := t.TempDir(), t.TempDir()
	tree(t, dir, "\xff\xfe = 1", long+" = 2", "a\nb/c = 3", "A = 4", "a = 5", strings.Repeat("y", 255)+"/"+long+" = 6")
	first, _ := run(t, cache, dir, time.Hour)
	if second, n := run(t, cache, dir, time.Hour); n != 0 || first != second {
		t.Errorf("%d files were hashed again, and %v became %v", n, first, second)
	}
}
