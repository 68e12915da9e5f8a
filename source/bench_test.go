package source

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bigTree makes a tree of n files of 4 KB on average, 20 in a directory, as a
// repository of many packages would have them.
func bigTree(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	data := make([]byte, 8<<10)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for i := range n {
		sub := filepath.Join(dir, "pkg"+strconv.Itoa(i/2000), "module"+strconv.Itoa(i/200), "dir"+strconv.Itoa(i/20))
		if i%20 == 0 {
			must(b, os.MkdirAll(sub, 0o755))
		}
		copy(data, strconv.Itoa(i))
		must(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("source_file_%d.go", i)), data[:(i*7919)%len(data)], 0o644))
	}
	return dir
}

// ignores are the patterns of an ordinary ignore file.
var ignores = []string{".git", "**/node_modules", "**/*.log", "**/.DS_Store", "dist", "build/**", "**/__pycache__", "**/*.py[co]", "*.md", "!README.md", "**/*_test.go", "docs"}

func benchSizes(b *testing.B, f func(b *testing.B, dir string)) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			if n > 10_000 && testing.Short() {
				b.Skip("short")
			}
			f(b, bigTree(b, n))
		})
	}
}

// digestAll is one run over a tree.
func digestAll(b *testing.B, cache, dir string, f Filter, after time.Duration) {
	trees := later(Open(Options{CacheDir: cache}), after)
	v := view(b, trees, dir, f)
	if _, err := v.Digest(b.Context(), Selection{}); err != nil {
		b.Fatal(err)
	}
	must(b, trees.Close())
}

func BenchmarkDigestWarm(b *testing.B) {
	benchSizes(b, func(b *testing.B, dir string) {
		for _, c := range []struct {
			name string
			f    Filter
		}{{"everything", Filter{}}, {"ignoring", Filter{Exclude: ignores}}} {
			b.Run(c.name, func(b *testing.B) {
				cache := b.TempDir()
				digestAll(b, cache, dir, c.f, time.Hour)
				measured(b, func() { digestAll(b, cache, dir, c.f, 2*time.Hour) })
			})
		}
	})
}

func BenchmarkDigestCold(b *testing.B) {
	benchSizes(b, func(b *testing.B, dir string) {
		b.Run("source", func(b *testing.B) {
			measured(b, func() { digestAll(b, b.TempDir(), dir, Filter{}, time.Hour) })
		})
		b.Run("only-reading", func(b *testing.B) {
			measured(b, func() { readAll(b, dir) })
		})
	})
}

// readAll reads and hashes every file once on all cores, and nothing else: what
// a cold run is measured by.
func readAll(b *testing.B, dir string) {
	var files []string
	must(b, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, p)
		}
		return err
	}))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf, h := make([]byte, hashBuffer), sha256.New()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return
				}
				f, err := os.Open(files[i])
				if err != nil {
					b.Error(err)
					return
				}
				h.Reset()
				if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, buf); err != nil {
					b.Error(err)
				}
				h.Sum(nil)
				f.Close()
			}
		})
	}
	wg.Wait()
}

func BenchmarkIndexLoad(b *testing.B) {
	var w indexWriter
	for i := range 100_000 {
		if i%20 == 0 {
			w.add(fmt.Sprintf("pkg%04d/module%04d/dir%05d", i/2000, i/200, i/20), 1, nil)
		}
		w.file(fmt.Sprintf("source_file_%06d.go", i), &record{size: 1, flags: recordSafe}, nil)
	}
	data, err := w.encode(header{})
	must(b, err)
	file := filepath.Join(b.TempDir(), "x.idx")
	must(b, os.WriteFile(file, data, 0o600))
	for b.Loop() {
		if x := loadIndex(file, time.Now()); x == nil || x.recordCount() != 100_000 {
			b.Fatal("not loaded")
		}
	}
	b.SetBytes(int64(len(data)))
}

// measured reports, beside the time, what of the processors was used: on a busy
// machine that says more.
func measured(b *testing.B, f func()) {
	b.Helper()
	before := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
	b.ReportMetric(peakMB(), "peak-MB")
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMB is the most memory that the heap has had from the system.
func peakMB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys) / (1 << 20)
}
