package source

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// manyFiles is how many files TestManyFiles makes; ZLAYER_SOURCE_FILES says otherwise: with a million
// it takes minutes, most of them to make and delete them.
const manyFiles = 5_000

// A tree of very many files has a digest that depends on each of them, found again by the index without
// reading any, in memory that is bounded by their number.
func TestManyFiles(t *testing.T) {
	n := manyFiles
	if v := os.Getenv("ZLAYER_SOURCE_FILES"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	dir, cache := t.TempDir(), t.TempDir()
	file := func(i int) string {
		return filepath.Join(dir, "d"+strconv.Itoa(i/100_000), "d"+strconv.Itoa(i/1000), "f"+strconv.Itoa(i))
	}
	for i := range n {
		if i%1000 == 0 {
			must(t, os.MkdirAll(filepath.Dir(file(i)), 0o755))
		}
		must(t, os.WriteFile(file(i), []byte(strconv.Itoa(i)), 0o644))
	}
	look := func(after time.Duration) (Content, int64) {
		t.Helper()
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		trees := later(Open(Options{CacheDir: cache}), after)
		c, err := view(t, trees, dir, Filter{}).Digest(t.Context(), Selection{})
		must(t, err)
		runtime.GC()
		runtime.ReadMemStats(&now)
		hashed := trees.fresh.Load()
		t.Logf("%d files, %d of them hashed, in %s, holding %d bytes a file", c.Files, hashed, time.Since(start).Round(time.Millisecond),
			(int64(now.HeapAlloc)-int64(before.HeapAlloc))/int64(n))
		must(t, trees.Close())
		if c.Files != n {
			t.Errorf("%d files, want %d", c.Files, n)
		}
		return c, hashed
	}
	cold, hashed := look(time.Hour)
	if hashed != int64(n) {
		t.Errorf("%d files were hashed, want all", hashed)
	}
	warm, hashed := look(2 * time.Hour)
	if warm.Digest != cold.Digest || hashed != 0 {
		t.Errorf("again: %d files were hashed, and the digest is %s, want %s", hashed, warm.Digest, cold.Digest)
	}
	fi, err := os.Stat(file(n / 2))
	must(t, err)
	must(t, os.WriteFile(file(n/2), []byte(fmt.Sprintf("%0*d", fi.Size(), 0)), 0o644))
	must(t, os.Chtimes(file(n/2), fi.ModTime(), fi.ModTime()))
	edited, hashed := look(3 * time.Hour)
	if edited.Digest == cold.Digest || hashed == 0 || hashed > int64(n)/2 {
		t.Errorf("after an edit: %d files were hashed, and the digest is %s", hashed, edited.Digest)
	}
}
