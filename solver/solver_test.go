package solver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

func prepare(t *testing.T) *solve {
	b := &solve{t: t, done: make(chan struct{})}
	b.tracker = &solver.Tracker{Events: func(e solver.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	return b
}

func (b *solve) start(ctx context.Context, s solver.Solver, g *graph.Graph) {
	s.Tracker = b.tracker
	go func() {
		defer close(b.done)
		b.refs, b.err = s.Solve(ctx, g)
	}()
	b.t.Cleanup(func() { <-b.done })
}

func start(t *testing.T, ctx context.Context, s solver.Solver, g *graph.Graph) *solve {
	t.Helper()
	b := prepare(t)
	b.start(ctx, s, g)
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
			if err := s.wait(); !errors.Is(err, why) {
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

func TestDemandRescuesWhatBuildKitDidNotReach(t *testing.T) {
	bad := solvertest.Stage(t, "bad", 2)
	never := solvertest.Stage(t, "never", 2)
	late := solvertest.Stage(t, "late", 2, never)
	below := solvertest.Stage(t, "below", 2, bad, late)
	out := solvertest.Stage(t, "out", 2, below)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, out))
	x.Fail("out", stepError(bad, 1, "bad broke"))
	x.Done("never")
	x.Fail("late", stepError(late, 1, "late broke"))
	equal(t, "causes", causes(s.wait()), []string{"bad", "late"})
	equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "never": "cached", "late": "failed", "below": "skipped", "out": "skipped"})
	equal(t, "asked", x.Asked(), []string{"out", "never", "late"})
}

func TestDemandOutputHasTheLastWord(t *testing.T) {
	// A stage that BuildKit began and then did without fails; nobody minds.
	a := solvertest.Stage(t, "a", 2)
	b := solvertest.Stage(t, "b", 2)
	out := solvertest.Stage(t, "out", 1, a, b)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, out))
	top := x.Meet("out")
	var script solvertest.Script
	s.tracker.Status(script.Start(a, 1))
	s.tracker.Status(script.Start(b, 1))
	x.Fail("a", stepError(a, 1, "a broke"))
	pinned := x.Meet("b") // never answered
	top.Done()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if pinned.Ctx.Err() == nil {
		t.Error("b was left running")
	}
	equal(t, "failed", s.tracker.Counts().Failed, 0)
}

func TestOneCauseOfTwoOutputs(t *testing.T) {
	for _, jobs := range []int{0, 4} {
		t.Run(fmt.Sprint("jobs ", jobs), func(t *testing.T) {
			base := solvertest.Stage(t, "base", 1)
			one := solvertest.Stage(t, "one", 1, base)
			two := solvertest.Stage(t, "two", 1, base)
			x := solvertest.New(t)
			s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: jobs}, solvertest.Graph(t, one, two))
			broken := stepError(base, 0, "base broke")
			if jobs == 0 {
				x.Fail("two", broken)
				x.Fail("one", broken)
			} else {
				x.Fail("base", broken)
			}
			equal(t, "error", s.wait(), "base:1: base broke")
			var se *solver.StageError
			if !errors.As(s.err, &se) || se.Step == nil || se.Step.Digest != base.Head {
				t.Errorf("got %#v, want the failure of base's step", s.err)
			}
			equal(t, "ends", s.ends(), map[string]string{"base": "failed", "one": "skipped", "two": "skipped"})
		})
	}
}

func TestSharedStepIsOneCause(t *testing.T) {
	same := solvertest.Stage(t, "same", 1)
	other, err := graph.NewStage(graph.Spec{Name: "other", Pos: graph.Pos{File: "other", Line: 2}, Platform: same.Platform, Definition: same.Definition(), Config: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]string{{"same", "other"}, {"other", "same"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			x := solvertest.New(t)
			s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, same, other))
			for _, name := range order {
				x.Fail(name, stepError(same, 0, "broke"))
			}
			equal(t, "error", s.wait(), "same:1: broke")
			equal(t, "counts", s.tracker.Counts(), "2 failed")
		})
	}
}

func TestErrorsWithoutTypes(t *testing.T) {
	// A daemon whose errors arrive as bare text: the status stream says what failed.
	bad := solvertest.Stage(t, "bad", 2)
	out := solvertest.Stage(t, "out", 1, bad)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, FailFast: true}, solvertest.Graph(t, out))
	top := x.Meet("out")
	var script solvertest.Script
	s.tracker.Status(script.Start(bad, 1))
	s.tracker.Status(script.End(bad, 1, "exit code: 7"))
	top.Fail(errors.New("failed to solve: exit code: 7"))
	equal(t, "error", s.wait(), "bad:1: failed to solve: exit code: 7")
	equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "out": "skipped"})
}

func TestFailureOutsideEveryStage(t *testing.T) {
	a := solvertest.Stage(t, "a", 1)
	b := solvertest.Stage(t, "b", 1)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, a, b))
	refused := errors.New("network.host is not allowed")
	x.Fail("b", refused)
	x.Fail("a", refused)
	equal(t, "error", s.wait(), "a:1: network.host is not allowed")
	if !errors.Is(s.err, refused) {
		t.Error("the cause is not wrapped")
	}
	equal(t, "counts", s.tracker.Counts(), "2 failed")
}

func TestDaemonIsGone(t *testing.T) {
	a := solvertest.Stage(t, "a", 1)
	b := solvertest.Stage(t, "b", 1)
	out := solvertest.Stage(t, "out", 1, a, b)
	for _, jobs := range []int{0, 1} {
		x := solvertest.New(t)
		s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: jobs}, solvertest.Graph(t, out))
		gone := status.Error(codes.Unavailable, "error reading from server: EOF")
		if jobs == 0 {
			x.Fail("out", gone)
		} else {
			x.Fail("a", gone)
		}
		err := s.wait()
		if !errors.Is(err, gone) || solver.Causes(err) != nil {
			t.Errorf("got %v, want the loss of the daemon, of no stage", err)
		}
		equal(t, "asked", len(x.Asked()), 1)
		equal(t, "counts", s.tracker.Counts(), "3 skipped")
	}
}

func TestRealFailureWinsOverCancellation(t *testing.T) {
	// Both fail for real; the first stops the build, the second is not lost.
	a := solvertest.Stage(t, "a", 1)
	b := solvertest.Stage(t, "b", 1)
	x := solvertest.New(t)
	block := &blocking{Executor: x, name: "b"}
	s := start(t, t.Context(), solver.Solver{Exec: block, FailFast: true}, solvertest.Graph(t, a, b))
	x.Fail("a", stepError(a, 0, "a broke"))
	x.Meet("b").Fail(stepError(b, 0, "b broke"))
	equal(t, "causes", causes(s.wait()), []string{"a", "b"})
}

// blocking hides the end of ctx from one stage.
type blocking struct {
	solver.Executor
	name string
}

func (x *blocking) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	if s.Name == x.name {
		ctx = context.WithoutCancel(ctx)
	}
	return x.Executor.Execute(ctx, s)
}

func TestSolverWithoutTracker(t *testing.T) {
	a := solvertest.Stage(t, "a", 1)
	out := solvertest.Stage(t, "out", 1, a)
	for _, jobs := range []int{0, 2} {
		refs, err := (&solver.Solver{Exec: nop{}, Jobs: jobs}).Solve(t.Context(), solvertest.Graph(t, out))
		if _, ok := refs[out.ID]; err != nil || !ok {
			t.Errorf("got %v, %v", refs, err)
		}
	}
}

func TestScratchOutput(t *testing.T) {
	empty := solvertest.StageOf(t, "empty", llb.Scratch())
	gw := solver.Gateway{} // not called
	refs, err := (&solver.Solver{Exec: gw}).Solve(t.Context(), solvertest.Graph(t, empty))
	if ref, ok := refs[empty.ID]; err != nil || !ok || ref != nil {
		t.Errorf("got %v, %v, want a nil result", refs, err)
	}
}

func TestSharedStepIsFoundBelowTheOutput(t *testing.T) {
	// Both stages begin with the step that fails; only one of them is below the output
	// that failed with it.
	elsewhere := solvertest.Stage(t, "elsewhere", 1)
	below, err := graph.NewStage(graph.Spec{Name: "below", Pos: graph.Pos{File: "below", Line: 2}, Platform: elsewhere.Platform, Definition: elsewhere.Definition(), Config: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	fine := solvertest.Stage(t, "fine", 1, elsewhere)
	broken := solvertest.Stage(t, "broken", 1, below)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, fine, broken))
	top := x.Meet("fine")
	x.Fail("broken", stepError(below, 0, "broke"))
	top.Done()
	equal(t, "error", s.wait(), "below:2: broke")
	equal(t, "ends", s.ends(), map[string]string{"elsewhere": "cached", "fine": "cached", "below": "failed", "broken": "skipped"})
}

func TestFinishedOutputVouchesForWhatLiesBelowAPin(t *testing.T) {
	base := solvertest.Stage(t, "base", 1)
	pinned := solvertest.Stage(t, "pinned", 2, base)
	fine := solvertest.Stage(t, "fine", 1, pinned)
	bad := solvertest.Stage(t, "bad", 1)
	mid := solvertest.Stage(t, "mid", 1, base)
	broken := solvertest.Stage(t, "broken", 1, bad, mid)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, fine, broken))
	top := x.Meet("broken")
	var c solvertest.Script
	s.tracker.Status(c.Start(pinned, 1))
	still := x.Meet("pinned")
	x.Done("fine")
	hold(t, s, fine)
	top.Fail(stepError(bad, 0, "bad broke"))
	x.Done("mid")
	still.Done()
	equal(t, "error", s.wait(), "bad:1: bad broke")
	equal(t, "asked for base", slices.Contains(x.Asked(), "base"), false)
	equal(t, "ends", s.ends(), map[string]string{"base": "cached", "pinned": "done", "fine": "cached", "bad": "failed", "mid": "cached", "broken": "skipped"})
}

// TestMuffledFailures: what BuildKit says in place of a failure is no failure of its own.
func TestMuffledFailures(t *testing.T) {
	muffled := errors.New("releasing already released reference x::y")
	t.Run("another call says it", func(t *testing.T) {
		bad := solvertest.Stage(t, "bad", 2)
		good := solvertest.Stage(t, "good", 1)
		out := solvertest.Stage(t, "out", 1, bad, good)
		x := solvertest.New(t)
		s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, out))
		top := x.Meet("out")
		var script solvertest.Script
		s.tracker.Status(script.Start(bad, 1))
		pinned := x.Meet("bad")
		top.Fail(muffled)
		x.Done("good")
		pinned.Fail(stepError(bad, 1, "bad broke"))
		s.tracker.Status(script.End(bad, 1, "bad broke"))
		equal(t, "error", s.wait(), "bad:1: bad broke")
		equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "good": "cached", "out": "skipped"})
	})
	t.Run("of a pin", func(t *testing.T) {
		bad := solvertest.Stage(t, "bad", 2)
		out := solvertest.Stage(t, "out", 1, bad)
		x := solvertest.New(t)
		s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, out))
		top := x.Meet("out")
		var script solvertest.Script
		s.tracker.Status(script.Start(bad, 1))
		x.Fail("bad", muffled)
		s.tracker.Status(script.End(bad, 1, "bad broke"))
		top.Fail(stepError(bad, 1, "bad broke"))
		equal(t, "error", s.wait(), "bad:1: bad broke")
		equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "out": "skipped"})
	})
	for _, failFast := range []bool{false, true} {
		t.Run(fmt.Sprint("only the stream says it, fail fast ", failFast), func(t *testing.T) {
			bad := solvertest.Stage(t, "bad", 2)
			out := solvertest.Stage(t, "out", 1, bad)
			x := solvertest.New(t)
			s := start(t, t.Context(), solver.Solver{Exec: x, FailFast: failFast}, solvertest.Graph(t, out))
			top := x.Meet("out")
			var script solvertest.Script
			s.tracker.Status(script.Start(bad, 1))
			if !failFast {
				x.Fail("bad", muffled)
			}
			s.tracker.Status(script.End(bad, 1, "exit code: 7"))
			top.Fail(muffled)
			equal(t, "error", s.wait(), "bad:1: exit code: 7")
			equal(t, "ends", s.ends(), map[string]string{"bad": "failed", "out": "skipped"})
		})
	}
	t.Run("nobody says it", func(t *testing.T) {
		out := solvertest.Stage(t, "out", 1)
		x := solvertest.New(t)
		s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 1}, solvertest.Graph(t, out))
		x.Fail("out", muffled)
		equal(t, "error", s.wait(), "out:1: releasing already released reference x::y")
		equal(t, "ends", s.ends(), map[string]string{"out": "failed"})
	})
}
