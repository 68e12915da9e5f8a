package solver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/solvertest"
)

// solve is a Solve in the background.
type solve struct {
	t       *testing.T
	tracker *solver.Tracker
	mu      sync.Mutex
	events  []solver.Event
	done    chan struct{}
	refs    map[digest.Digest]gwclient.Reference
	err     error
}

func start(t *testing.T, ctx context.Context, s solver.Solver, g *graph.Graph) *solve {
	t.Helper()
	b := &solve{t: t, done: make(chan struct{})}
	b.tracker = &solver.Tracker{Events: func(e solver.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	s.Tracker = b.tracker
	go func() {
		defer close(b.done)
		b.refs, b.err = s.Solve(ctx, g)
	}()
	t.Cleanup(func() { <-b.done })
	return b
}

// wait gives the error of the solve and closes the tracker.
func (b *solve) wait() error {
	<-b.done
	b.tracker.Close()
	b.checkEvents()
	return b.err
}

// stageEvents lists the stage events as "kind name", without the steps.
func (b *solve) stageEvents() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.events {
		if strings.HasPrefix(string(e.Kind), "stage-") {
			out = append(out, strings.TrimPrefix(string(e.Kind), "stage-")+" "+e.Stage.Name)
		}
	}
	return out
}

// ends gives the end of each stage.
func (b *solve) ends() map[string]string {
	ends := map[string]string{}
	for _, e := range b.stageEvents() {
		kind, name, _ := strings.Cut(e, " ")
		if kind != "started" {
			ends[name] = kind
		}
	}
	return ends
}

// checkEvents checks what must hold for every stream of events.
func (b *solve) checkEvents() {
	b.t.Helper()
	started, ended := map[string]int{}, map[string]int{}
	for _, e := range b.stageEvents() {
		kind, name, _ := strings.Cut(e, " ")
		if kind == "started" {
			started[name]++
			if ended[name] > 0 {
				b.t.Errorf("stage %s started after its end", name)
			}
			continue
		}
		if kind != "skipped" && started[name] != 1 {
			b.t.Errorf("stage %s: %s without a start", name, kind)
		}
		ended[name]++
	}
	for name, n := range ended {
		if n != 1 || started[name] > 1 {
			b.t.Errorf("stage %s: %d starts, %d ends", name, started[name], n)
		}
	}
	for i := 1; i < len(b.events); i++ {
		if b.events[i].Time.Before(b.events[i-1].Time) {
			b.t.Errorf("event %d goes back in time", i)
		}
	}
	c := b.tracker.Counts()
	if n := c.Done + c.Cached + c.Failed + c.Skipped; n != len(ended) {
		b.t.Errorf("counts %+v do not add up to %d stages", c, len(ended))
	}
}

// causes lists the stages of the failures in err, in order.
func causes(err error) []string {
	var out []string
	for _, c := range solver.Causes(err) {
		out = append(out, c.Stage.Name)
	}
	return out
}

// stepError is what BuildKit returns when a step of s fails.
func stepError(s *graph.Stage, step int, text string) error {
	return errdefs.WrapVertex(errors.New(text), s.Steps[step].Digest)
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func TestStagedOrder(t *testing.T) {
	a := solvertest.Stage(t, "a", 1)
	b := solvertest.Stage(t, "b", 1)
	c := solvertest.Stage(t, "c", 1, a, b)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 8}, solvertest.Graph(t, c))
	ca, cb := x.Meet("a"), x.Meet("b")
	equal(t, "open", x.Open(), []string{})
	cb.Done()
	ca.Done()
	x.Done("c")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "result", s.refs[c.ID].(*solvertest.Ref).Name, "c")
	equal(t, "results", len(s.refs), 1)
	equal(t, "ends", s.ends(), map[string]string{"a": "cached", "b": "cached", "c": "cached"})
}

func TestStagedLimitAndPriority(t *testing.T) {
	// short is first in graph order, but the chain below long is longer.
	short := solvertest.Stage(t, "short", 1)
	one := solvertest.Stage(t, "one", 1)
	two := solvertest.Stage(t, "two", 5, one)
	out := solvertest.Stage(t, "out", 1, short, two)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 1}, solvertest.Graph(t, out))
	x.Done("one", "two", "short", "out")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "order", x.Asked(), []string{"one", "two", "short", "out"})
}

func TestStagedKeepGoing(t *testing.T) {
	bad := solvertest.Stage(t, "bad", 1)
	mid := solvertest.Stage(t, "mid", 1, bad)
	good := solvertest.Stage(t, "good", 1)
	worse := solvertest.Stage(t, "worse", 1, good)
	out := solvertest.Stage(t, "out", 1, mid, worse)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 2}, solvertest.Graph(t, out))
	x.Fail("bad", errors.New("bad broke"))
	x.Done("good")
	x.Fail("worse", errors.New("worse broke"))
	err := s.wait()
	equal(t, "causes", causes(err), []string{"bad", "worse"})
	equal(t, "text", err.Error(), "bad:1: bad broke\n\nworse:1: worse broke")
	equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "mid": "skipped", "good": "cached", "worse": "failed", "out": "skipped"})
	equal(t, "counts", s.tracker.Counts(), "1 cached, 2 failed, 2 skipped")
}

func TestStagedFailFast(t *testing.T) {
	bad := solvertest.Stage(t, "bad", 1)
	slow := solvertest.Stage(t, "slow", 1)
	next := solvertest.Stage(t, "next", 1, slow)
	out := solvertest.Stage(t, "out", 1, bad, next)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 2, FailFast: true}, solvertest.Graph(t, out))
	x.Meet("slow") // and never answer
	x.Fail("bad", stepError(bad, 0, "bad broke"))
	err := s.wait()
	var se *solver.StageError
	if !errors.As(err, &se) || se.Stage != bad {
		t.Fatalf("got %v, want the failure of bad", err)
	}
	equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "slow": "skipped", "next": "skipped", "out": "skipped"})
}

func TestCancel(t *testing.T) {
	for _, jobs := range []int{0, 1} {
		t.Run(fmt.Sprint("jobs ", jobs), func(t *testing.T) {
			a := solvertest.Stage(t, "a", 1)
			b := solvertest.Stage(t, "b", 1, a)
			x := solvertest.New(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			s := start(t, ctx, solver.Solver{Exec: x, Jobs: jobs}, solvertest.Graph(t, b))
			if jobs == 0 {
				x.Meet("b")
			} else {
				x.Meet("a")
			}
			why := errors.New("interrupted")
			cancel(why)
			if err := s.wait(); err != why {
				t.Errorf("got %v, want %v", err, why)
			}
			equal(t, "ends", s.ends(), map[string]string{"a": "skipped", "b": "skipped"})
			equal(t, "asked", len(x.Asked()), 1)
		})
	}
}

func TestDemandAsksForOutputsOnly(t *testing.T) {
	a := solvertest.Stage(t, "a", 2)
	b := solvertest.Stage(t, "b", 2, a)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, b))
	call := x.Meet("b")
	var script solvertest.Script
	s.tracker.Status(script.Hit(b, 1))
	call.Done()
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "asked", x.Asked(), []string{"b"})
	equal(t, "events", s.stageEvents(), []string{"started b", "cached b", "started a", "cached a"})
}

func TestDemandPinsWhatRuns(t *testing.T) {
	bad := solvertest.Stage(t, "bad", 2)
	good := solvertest.Stage(t, "good", 2)
	out := solvertest.Stage(t, "out", 2, bad, good)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, out))
	top := x.Meet("out")
	var script solvertest.Script
	s.tracker.Status(script.Hit(bad, 0))
	s.tracker.Status(script.Start(bad, 1))
	s.tracker.Status(script.Start(good, 1))
	pinnedBad, pinnedGood := x.Meet("bad"), x.Meet("good")
	s.tracker.Status(script.Print(bad, 1, "oh no"))
	s.tracker.Status(script.End(bad, 1, "exit code: 1"))
	err := stepError(bad, 1, `process "false" did not complete successfully: exit code: 1`)
	top.Fail(err)
	pinnedBad.Fail(err)
	s.tracker.Status(script.End(good, 1, ""))
	if pinnedGood.Ctx.Err() != nil {
		t.Error("the failure of bad has stopped good")
	}
	pinnedGood.Done()
	equal(t, "error", s.wait(), `bad:1: process "false" did not complete successfully: exit code: 1`)
	equal(t, "causes", causes(s.err), []string{"bad"})
	equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "good": "done", "out": "skipped"})
	equal(t, "asked", slices.Sorted(slices.Values(x.Asked())), []string{"bad", "good", "out"})
}
