package memo_test

import (
	"errors"
	"testing"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

func TestMemory(t *testing.T) {
	memotest.Conformance(t, func(*testing.T) memo.Store { return &memo.Memory{} })
}

func TestMemoryForgets(t *testing.T) {
	ctx := t.Context()
	m := &memo.Memory{MaxRecords: 3}
	for n := range 3 {
		must(t, m.Put(ctx, memotest.Record(n)))
	}
	if _, err := m.Get(ctx, memotest.Key(0)); err != nil {
		t.Fatal(err)
	}
	must(t, m.Put(ctx, memotest.Record(3)))
	for n, there := range []bool{true, false, true, true} {
		if _, err := m.Get(ctx, memotest.Key(n)); there != (err == nil) {
			t.Errorf("record %d: %v, want it there: %v", n, err, there)
		}
	}

	m = &memo.Memory{MaxSize: 50_000}
	for n := range 10 {
		must(t, m.Put(ctx, memotest.WithParts(memotest.Record(n), 20_000)))
	}
	if _, err := m.Get(ctx, memotest.Key(7)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("record beyond the size: %v, want ErrNotFound", err)
	}
	if _, err := m.Get(ctx, memotest.Key(8)); err != nil {
		t.Errorf("record within the size: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
