package memo_test

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// filled is a directory of n records with parts, as a large monorepo has them.
func filled(b *testing.B, n int) *memo.Dir {
	d := &memo.Dir{Path: filepath.Join(b.TempDir(), "memo")}
	for i := range n {
		must(b, d.Put(b.Context(), memotest.WithParts(memotest.Record(i), 100_000)))
	}
	return d
}

func BenchmarkDirHit(b *testing.B) {
	d := filled(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Get(b.Context(), memotest.Key(0)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDirMiss(b *testing.B) {
	d := filled(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Get(b.Context(), memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			b.Fatal(err)
		}
	}
}

func BenchmarkDirPut(b *testing.B) {
	d, r := filled(b, 1), memotest.WithParts(memotest.Record(0), 100_000)
	b.ReportAllocs()
	for b.Loop() {
		must(b, d.Put(b.Context(), r))
	}
}

// BenchmarkDir300 asks for all outputs of 300 images at once.
func BenchmarkDir300(b *testing.B) {
	d := filled(b, 300)
	for b.Loop() {
		var wg sync.WaitGroup
		for n := range 300 {
			wg.Go(func() {
				if _, err := d.Get(b.Context(), memotest.Key(n)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// BenchmarkDirTrim looks through 10,000 records and finds nothing to remove.
func BenchmarkDirTrim(b *testing.B) {
	d := &memo.Dir{Path: filepath.Join(b.TempDir(), "memo")}
	for i := range 10_000 {
		must(b, d.Put(b.Context(), memotest.Record(i)))
	}
	for b.Loop() {
		if p, err := d.Prune(b.Context(), memo.Limits{MaxSize: 1 << 40}); err != nil || p.Left != 10_000 {
			b.Fatal(p, err)
		}
	}
}
