package solver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/solvertest"
)

// sum is the result of a stage that adds up its inputs.
type sum struct {
	gwclient.Reference
	n uint64
}

// adder is a BuildKit in little: it works out what it needs for what it is asked,
// does shared work once, stops what nobody waits for, and reports all that on a status
// stream. The result of a stage is arithmetic; some stages fail.
type adder struct {
	tracker *solver.Tracker
	graph   *graph.Graph
	failing map[digest.Digest]bool
	// cached stages are there without their inputs and without running.
	cached  map[digest.Digest]uint64
	t       testing.TB
	staged  bool
	mu      sync.Mutex
	flights map[digest.Digest]*flight
	clock   time.Time
}

// flight is the work on one stage, shared by all who wait for it.
type flight struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	n       uint64
	err     error
}

func (a *adder) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	if a.staged {
		for _, in := range a.graph.Inputs(s) {
			a.mu.Lock()
			f := a.flights[in.ID]
			a.mu.Unlock()
			if f == nil {
				a.t.Errorf("%s was asked for before its input %s", s.Name, in.Name)
			}
		}
	}
	n, err := a.eval(ctx, s)
	if err != nil {
		return nil, err
	}
	return &sum{n: n}, nil
}

func (a *adder) eval(ctx context.Context, s *graph.Stage) (uint64, error) {
	a.mu.Lock()
	f := a.flights[s.ID]
	if f == nil {
		fctx, cancel := context.WithCancel(context.Background())
		f = &flight{cancel: cancel, done: make(chan struct{})}
		a.flights[s.ID] = f
		go a.fly(fctx, s, f)
	}
	f.waiters++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		f.waiters--
		if f.waiters > 0 {
			return
		}
		select {
		case <-f.done:
		default: // nobody waits any more: whoever comes next starts anew
			f.cancel()
			if a.flights[s.ID] == f {
				delete(a.flights, s.ID)
			}
		}
	}()
	select {
	case <-f.done:
		return f.n, f.err
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for %s: %w", s.Name, context.Canceled)
	}
}

func (a *adder) fly(ctx context.Context, s *graph.Stage, f *flight) {
	defer f.cancel()
	defer close(f.done)
	if n, ok := a.cached[s.ID]; ok {
		a.report(s, true, "")
		f.n = n
		return
	}
	inputs := a.graph.Inputs(s)
	type result struct {
		n   uint64
		err error
	}
	results := make(chan result, len(inputs))
	for _, in := range inputs {
		go func() {
			n, err := a.eval(ctx, in)
			results <- result{n, err}
		}()
	}
	f.n = value(s)
	for range inputs {
		r := <-results
		if r.err != nil {
			f.err = r.err
			return // ctx ends: inputs that only this one waits for are stopped
		}
		f.n += r.n
	}
	a.start(s)
	select {
	case <-time.After(time.Duration(value(s)%50) * time.Millisecond): // of the bubble's clock
	case <-ctx.Done():
		f.err = context.Canceled
		a.report(s, false, "context canceled")
		return
	}
	if a.failing[s.ID] {
		f.err = stepError(s, 0, "adding "+s.Name)
		a.report(s, false, f.err.Error())
		return
	}
	a.report(s, false, "")
}

func (a *adder) start(s *graph.Stage) {
	now := a.tick()
	a.tracker.Status(&client.SolveStatus{Vertexes: []*client.Vertex{{
		Digest: s.Head, Name: s.Name, Inputs: []digest.Digest{"sha256:0"}, Started: &now,
	}}})
}

func (a *adder) report(s *graph.Stage, cached bool, text string) {
	now := a.tick()
	v := &client.Vertex{Digest: s.Head, Name: s.Name, Inputs: []digest.Digest{"sha256:0"}, Started: &now, Completed: &now, Cached: cached, Error: text}
	a.tracker.Status(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
}

func (a *adder) tick() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock = a.clock.Add(time.Millisecond)
	return a.clock
}

// value is what a stage adds.
func value(s *graph.Stage) uint64 {
	var n uint64
	for _, b := range []byte(s.ID) {
		n = n*31 + uint64(b)
	}
	return n % 1000
}

// randomGraph makes stages that read some of the earlier ones; what nobody reads, and
// a few others, are outputs.
func randomGraph(t testing.TB, rnd *rand.Rand, n int) *graph.Graph {
	var stages []*graph.Stage
	read := map[*graph.Stage]bool{}
	for i := range n {
		var inputs []*graph.Stage
		for range rnd.IntN(4) {
			if i > 0 {
				in := stages[rnd.IntN(i)]
				inputs, read[in] = append(inputs, in), true
			}
		}
		stages = append(stages, solvertest.Stage(t, fmt.Sprintf("s%d", i), 1, inputs...))
	}
	var outputs []*graph.Stage
	for _, s := range stages {
		if !read[s] || rnd.IntN(10) == 0 {
			outputs = append(outputs, s)
		}
	}
	return solvertest.Graph(t, outputs...)
}

// expectation is what a plain walk in graph order gives.
type expectation struct {
	values map[digest.Digest]uint64
	ends   map[string]string
	causes []string
}

func expect(g *graph.Graph, failing map[digest.Digest]bool) expectation {
	e := expectation{values: map[digest.Digest]uint64{}, ends: map[string]string{}}
	for _, s := range g.Stages() {
		n, ok := value(s), true
		for _, in := range g.Inputs(s) {
			v, built := e.values[in.ID]
			n, ok = n+v, ok && built
		}
		switch {
		case !ok:
			e.ends[s.Name] = "skipped"
		case failing[s.ID]:
			e.ends[s.Name] = "failed"
			e.causes = append(e.causes, s.Name)
		default:
			e.ends[s.Name] = "done"
			e.values[s.ID] = n
		}
	}
	return e
}

// TestRandomGraphs compares with a plain walk: the same sums, the same failures, the
// same end for each stage. The bubble also finds what is left running.
func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(60) {
		for _, jobs := range []int{0, 1, 4} {
			t.Run(fmt.Sprintf("seed %d jobs %d", seed, jobs), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				g := randomGraph(t, rnd, 2+rnd.IntN(60))
				failing := map[digest.Digest]bool{}
				for _, s := range g.Stages() {
					failing[s.ID] = seed%3 > 0 && rnd.IntN(8) == 0
				}
				want := expect(g, failing)
				synctest.Test(t, func(t *testing.T) {
					s := runAdder(t, t.Context(), solver.Solver{Jobs: jobs}, g, failing)
					equal(t, "causes", causes(s.err), want.causes)
					equal(t, "ends", s.ends(), want.ends)
					equal(t, "error", s.err == nil, len(want.causes) == 0)
					for _, o := range g.Outputs() {
						n, ok := want.values[o.ID]
						ref, built := s.refs[o.ID]
						if built != ok || ok && ref.(*sum).n != n {
							t.Errorf("output %s: got %v, want %v, %v", o.Name, ref, n, ok)
						}
					}
				})
			})
		}
	}
}

// TestRandomFailFast checks that one of the true causes comes out and that nothing is
// reported as failed that is not.
func TestRandomFailFast(t *testing.T) {
	for seed := range uint64(40) {
		for _, jobs := range []int{0, 3} {
			t.Run(fmt.Sprintf("seed %d jobs %d", seed, jobs), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 2))
				g := randomGraph(t, rnd, 2+rnd.IntN(40))
				failing := map[digest.Digest]bool{}
				for _, s := range g.Stages() {
					failing[s.ID] = rnd.IntN(8) == 0
				}
				want := expect(g, failing)
				synctest.Test(t, func(t *testing.T) {
					s := runAdder(t, t.Context(), solver.Solver{Jobs: jobs, FailFast: true}, g, failing)
					equal(t, "error", s.err == nil, len(want.causes) == 0)
					for _, name := range causes(s.err) {
						equal(t, "true end of "+name, want.ends[name], "failed")
					}
					for name, end := range s.ends() {
						if end == "failed" || end == "done" {
							equal(t, "true end of "+name, want.ends[name], end)
						}
					}
				})
			})
		}
	}
}

// TestRandomCache puts results into a cache and checks that nothing below them is built
// that no output needs.
func TestRandomCache(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 4))
			g := randomGraph(t, rnd, 2+rnd.IntN(60))
			want := expect(g, nil)
			cached := map[digest.Digest]uint64{}
			for _, s := range g.Stages() {
				if rnd.IntN(4) == 0 {
					cached[s.ID] = want.values[s.ID]
				}
			}
			for name := range want.ends {
				want.ends[name] = "cached"
			}
			var need func(s *graph.Stage)
			need = func(s *graph.Stage) {
				if _, ok := cached[s.ID]; ok {
					return
				}
				want.ends[s.Name] = "done"
				for _, in := range g.Inputs(s) {
					need(in)
				}
			}
			for _, o := range g.Outputs() {
				need(o)
			}
			synctest.Test(t, func(t *testing.T) {
				s := (&adder{t: t, graph: g, cached: cached}).run(t, t.Context(), solver.Solver{})
				if s.err != nil {
					t.Error(s.err)
				}
				equal(t, "ends", s.ends(), want.ends)
				for _, o := range g.Outputs() {
					equal(t, "output "+o.Name, s.refs[o.ID].(*sum).n, want.values[o.ID])
				}
			})
		})
	}
}

// TestRandomCancel stops builds at random moments.
func TestRandomCancel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			g := randomGraph(t, rnd, 2+rnd.IntN(40))
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(rnd.IntN(150))*time.Millisecond, errStop)
				defer cancel()
				s := runAdder(t, ctx, solver.Solver{Jobs: int(seed % 3)}, g, nil)
				if s.err != nil && !errors.Is(s.err, errStop) {
					t.Errorf("got %v, want %v", s.err, errStop)
				}
				c := s.tracker.Counts()
				if c.Failed > 0 || (c.Skipped > 0) != (s.err != nil) {
					t.Errorf("got %v with error %v", c, s.err)
				}
				equal(t, "ends", c.Done+c.Cached+c.Skipped, len(g.Stages()))
			})
		})
	}
}

var errStop = errors.New("stopped by the test")

func runAdder(t *testing.T, ctx context.Context, s solver.Solver, g *graph.Graph, failing map[digest.Digest]bool) *solve {
	return (&adder{t: t, graph: g, failing: failing}).run(t, ctx, s)
}

// run solves the adder's graph and closes the tracker.
func (a *adder) run(t *testing.T, ctx context.Context, s solver.Solver) *solve {
	a.flights, a.staged, a.clock = map[digest.Digest]*flight{}, s.Jobs > 0, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	s.Exec = a
	b := prepare(t)
	a.tracker = b.tracker
	b.start(ctx, s, a.graph)
	<-b.done
	synctest.Wait() // the last reports
	_ = b.wait()
	return b
}

// BenchmarkSolve builds 10,000 stages with an executor that does nothing.
func BenchmarkSolve(b *testing.B) {
	g := wide(b, 10_000)
	for _, jobs := range []int{0, runtime.NumCPU()} {
		b.Run(fmt.Sprint("jobs ", jobs), func(b *testing.B) {
			for b.Loop() {
				s := solver.Solver{Exec: nop{}, Jobs: jobs}
				if _, err := s.Solve(b.Context(), g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type nop struct{}

func (nop) Execute(context.Context, *graph.Stage) (gwclient.Reference, error) { return nil, nil }

// wide makes n stages, each of which reads up to three of the fifty before it, and one
// output that reads them all.
func wide(t testing.TB, n int) *graph.Graph {
	rnd := rand.New(rand.NewPCG(1, 1))
	var stages []*graph.Stage
	for i := range n - 1 {
		var inputs []*graph.Stage
		for range min(i, rnd.IntN(4)) {
			inputs = append(inputs, stages[i-1-rnd.IntN(min(i, 50))])
		}
		stages = append(stages, solvertest.Stage(t, fmt.Sprint("s", i), 1, inputs...))
	}
	return solvertest.Graph(t, solvertest.Stage(t, "out", 1, stages...))
}
