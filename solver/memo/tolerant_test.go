package memo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

func TestTolerant(t *testing.T) {
	memotest.Conformance(t, func(*testing.T) memo.Store {
		return memo.Tolerant(&memo.Memory{}, func(err error) { t.Errorf("warning: %v", err) })
	})
}

func TestTolerantGivesUp(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		err        error
		gets, puts int32 // how often it is asked, of ten times each
	}{
		{errors.New("broken"), 3, 3},
		{fmt.Errorf("asking: %w", context.DeadlineExceeded), 1, 0},
		{fmt.Errorf("looking: %w", memo.ErrNotFound), 10, 10},
	} {
		bad := &counted{Store: &memo.Memory{}, err: c.err}
		var warnings []error
		s := memo.Tolerant(bad, func(err error) { warnings = append(warnings, err) })
		for n := range 10 {
			if r, err := s.Get(ctx, memotest.Key(n)); r != nil || !errors.Is(err, memo.ErrNotFound) {
				t.Errorf("%v: Get: %v, %v, want ErrNotFound", c.err, r, err)
			}
		}
		for n := range 10 {
			if err := s.Put(ctx, memotest.Record(n)); err != nil && !errors.Is(err, memo.ErrNotFound) {
				t.Errorf("%v: Put: %v", c.err, err)
			}
		}
		if gets, puts := bad.gets.Load(), bad.puts.Load(); gets != c.gets || puts != c.puts {
			t.Errorf("%v: %d Gets and %d Puts, want %d and %d", c.err, gets, puts, c.gets, c.puts)
		}
		if want := !errors.Is(c.err, memo.ErrNotFound); want && (len(warnings) != 1 || !errors.Is(warnings[0], c.err)) || !want && len(warnings) > 0 {
			t.Errorf("%v: warnings %v", c.err, warnings)
		}
	}
}

// TestTolerantCountsInARow: a failure now and then ends nothing, and one of writing
// nothing of reading.
func TestTolerantCountsInARow(t *testing.T) {
	ctx, c := t.Context(), &counted{Store: &memo.Memory{}}
	must(t, c.Store.Put(ctx, memotest.Record(0)))
	s := memo.Tolerant(c, nil)
	for n := range 20 {
		c.err = nil
		if n%3 != 0 {
			c.err = errors.New("broken")
		}
		_, err := s.Get(ctx, memotest.Key(0))
		if there := c.err == nil; there != (err == nil) {
			t.Errorf("Get %d: %v", n, err)
		}
	}
	c.err = errors.New("read-only")
	for range 10 {
		must(t, s.Put(ctx, memotest.Record(1)))
	}
	c.err = nil
	if _, err := s.Get(ctx, memotest.Key(0)); err != nil {
		t.Errorf("Get after many failed Puts: %v", err)
	}
}

func TestTolerantKeepsTheCallersErrors(t *testing.T) {
	bad := &counted{err: errors.New("broken")}
	s := memo.Tolerant(bad, func(err error) { t.Errorf("warning: %v", err) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, memotest.Key(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := s.Get(t.Context(), "nonsense"); err == nil || errors.Is(err, memo.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
	if err := s.Put(t.Context(), &memo.Record{Key: memotest.Key(1)}); err == nil {
		t.Error("no record: put")
	}
}

func TestTolerantWarnsOnce(t *testing.T) {
	var mu sync.Mutex
	var warnings []string
	bad := &counted{err: errors.New("broken")}
	s := memo.Tolerant(bad, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, err.Error())
	})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			_, _ = s.Get(t.Context(), memotest.Key(n))
			_ = s.Put(t.Context(), memotest.Record(n))
		})
	}
	wg.Wait()
	if len(warnings) != 1 {
		t.Errorf("warnings %q, want one", warnings)
	}
}

func TestOpen(t *testing.T) {
	ctx := t.Context()
	open := func(around memo.Surroundings, values ...string) memo.Store {
		t.Helper()
		c, err := memo.Parse(values...)
		must(t, err)
		s, err := c.Open(around)
		must(t, err)
		return s
	}
	dir, l := t.TempDir(), newLab(t, "")
	repo := "registry=" + l.Listener.Addr().String() + "/team/app"

	none := open(memo.Surroundings{}, "off")
	must(t, none.Put(ctx, memotest.Record(1)))
	if _, err := none.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("off: %v", err)
	}

	// One builds with a registry; another, elsewhere, skips what it built, and then
	// needs the registry no more.
	must(t, open(memo.Surroundings{Dir: t.TempDir()}, "local+"+repo).Put(ctx, memotest.Record(1)))
	colleague := open(memo.Surroundings{Dir: dir}, "local", repo+",ro")
	l.since()
	for range 3 {
		if _, err := colleague.Get(ctx, memotest.Key(1)); err != nil {
			t.Error(err)
		}
	}
	if asked := l.since(); len(asked) != 2 {
		t.Errorf("asked %q, want a login and one look-up", asked)
	}
	must(t, colleague.Put(ctx, memotest.Record(2)))
	if slices.ContainsFunc(l.since(), func(a string) bool { return !strings.HasPrefix(a, "GET") }) {
		t.Error("wrote to a registry that is only read")
	}

	// With the registry gone, there is a warning and the local store.
	l.Close()
	var warnings []error
	s := open(memo.Surroundings{Dir: dir, Warn: func(err error) { warnings = append(warnings, err) }}, "local", repo)
	if _, err := s.Get(ctx, memotest.Key(2)); err != nil {
		t.Error(err)
	}
	for n := range 10 {
		if _, err := s.Get(ctx, memotest.Key(100+n)); !errors.Is(err, memo.ErrNotFound) {
			t.Error(err)
		}
		must(t, s.Put(ctx, memotest.Record(200+n)))
	}
	if len(warnings) != 1 {
		t.Errorf("warnings %v, want one", warnings)
	}

	if _, err := (memo.Config{Stores: []memo.StoreConfig{{Type: memo.TypeLocal}}}).Open(memo.Surroundings{}); err == nil {
		t.Error("opened a local store without a directory")
	}
	if _, err := (memo.Config{Stores: []memo.StoreConfig{{Type: "fish"}}}).Open(memo.Surroundings{}); err == nil {
		t.Error("opened a fish")
	}
	for _, old := range []string{"local,ttl=1h", "local,ttl=1h,ro"} {
		if _, err := open(memo.Surroundings{Dir: dir}, old).Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", old, err)
		}
	}
}
