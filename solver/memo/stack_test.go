package memo_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// counted counts what a store is asked, and fails if it is told to.
type counted struct {
	memo.Store
	gets, puts atomic.Int32
	err        error
}

func (c *counted) Get(ctx context.Context, key digest.Digest) (*memo.Record, error) {
	c.gets.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	return c.Store.Get(ctx, key)
}

func (c *counted) Put(ctx context.Context, r *memo.Record) error {
	c.puts.Add(1)
	if c.err != nil {
		return c.err
	}
	return c.Store.Put(ctx, r)
}

func (c *counted) ReadParts(ctx context.Context, r *memo.Record) ([]byte, error) {
	return memo.Parts(ctx, c.Store, r)
}

func TestStack(t *testing.T) {
	memotest.Conformance(t, func(t *testing.T) memo.Store {
		return memo.Stack(openDir(t), memo.Stack(&memo.Memory{}, &memo.Memory{}))
	})
}

func TestStackAsksFarOnce(t *testing.T) {
	ctx := t.Context()
	near, far := &counted{Store: &memo.Memory{}}, &counted{Store: &memo.Memory{}}
	must(t, far.Store.Put(ctx, memotest.WithParts(memotest.Record(1), 100)))
	s := memo.Stack(near, far)
	for range 3 {
		r, err := s.Get(ctx, memotest.Key(1))
		must(t, err)
		// near was filled without the parts, which are still to be had
		if parts, err := memo.Parts(ctx, s, r); err != nil || len(parts) != 100 {
			t.Errorf("parts: %d bytes, %v", len(parts), err)
		}
	}
	if n := far.gets.Load(); n != 1 {
		t.Errorf("far was asked %d times, want once", n)
	}
	if n := far.puts.Load(); n != 0 {
		t.Errorf("far was written %d times, want never", n)
	}
	must(t, s.Put(ctx, memotest.Record(2)))
	for name, c := range map[string]*counted{"near": near, "far": far} {
		if _, err := c.Store.Get(ctx, memotest.Key(2)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStackWithTrouble(t *testing.T) {
	ctx, trouble := t.Context(), errors.New("trouble")
	full := func() *memo.Memory {
		m := &memo.Memory{}
		must(t, m.Put(ctx, memotest.Record(1)))
		return m
	}
	bad := &counted{err: trouble}
	for name, s := range map[string]memo.Store{"near": memo.Stack(bad, full()), "far": memo.Stack(full(), bad)} {
		if _, err := s.Get(ctx, memotest.Key(1)); err != nil {
			t.Errorf("trouble with %s: Get: %v", name, err)
		}
		if _, err := s.Get(ctx, memotest.Key(2)); !errors.Is(err, trouble) || errors.Is(err, memo.ErrNotFound) {
			t.Errorf("trouble with %s: Get of what is absent: %v, want trouble alone", name, err)
		}
		if err := s.Put(ctx, memotest.Record(3)); !errors.Is(err, trouble) {
			t.Errorf("trouble with %s: Put: %v", name, err)
		}
		if _, err := s.Get(ctx, memotest.Key(3)); err != nil {
			t.Errorf("trouble with %s: it was not put into the other: %v", name, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	c := &counted{Store: &memo.Memory{}}
	must(t, c.Store.Put(ctx, memotest.WithParts(memotest.Record(1), 50)))
	s := memo.ReadOnly(c)
	must(t, s.Put(ctx, memotest.Record(2)))
	if c.puts.Load() != 0 {
		t.Error("something was written")
	}
	r, err := s.Get(ctx, memotest.Key(1))
	must(t, err)
	if parts, err := memo.Parts(ctx, s, r); err != nil || len(parts) != 50 {
		t.Errorf("parts: %d bytes, %v", len(parts), err)
	}
}

func TestTTL(t *testing.T) {
	ctx, created := t.Context(), memotest.Record(1).Created
	m := &memo.Memory{}
	must(t, m.Put(ctx, memotest.WithParts(memotest.Record(1), 50)))
	for _, c := range []struct {
		age   time.Duration
		there bool
	}{{-time.Hour, true}, {0, true}, {time.Hour, true}, {time.Hour + 1, false}, {1000 * time.Hour, false}} {
		s := memo.WithTTL(m, time.Hour, func() time.Time { return created.Add(c.age) })
		r, err := s.Get(ctx, memotest.Key(1))
		if c.there != (err == nil) || !c.there && !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("after %s: %v", c.age, err)
		}
		if r == nil {
			continue
		}
		if parts, err := memo.Parts(ctx, s, r); err != nil || len(parts) != 50 {
			t.Errorf("parts: %d bytes, %v", len(parts), err)
		}
	}
}
