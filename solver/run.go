package solver

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// errOver is why work that nobody needs any more is stopped.
var errOver = errors.New("the build is over")

// state is where a stage stands in a run.
type state int

const (
	idle    state = iota
	running       // Execute has been called
	done          // Execute has returned a result
	assumed       // not asked for; the output that needs it is there
	failed
	skipped
	unsaid // failed, and BuildKit has not said why
)

// node is a stage within a run.
type node struct {
	stage  *graph.Stage
	index  int // in graph order
	weight int // graph.Priorities
	inputs []*node
	users  []*node
	output bool

	state   state
	wanted  bool // to be started once its inputs are there
	pinned  bool // started because BuildKit was at work on it
	slot    bool // counts against the limit
	covered bool // assume has been here and below
	missing int  // inputs that are not there yet
	ref     gwclient.Reference
}

// outcome is what a call of Execute returned.
type outcome struct {
	node *node
	ref  gwclient.Reference
	err  error
}

// run is one Solve. Its fields belong to the goroutine of loop; others talk to it
// through results and pins.
type run struct {
	exec     Executor
	tracker  *Tracker
	staged   bool
	failFast bool

	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc

	nodes  []*node
	byID   map[digest.Digest]*node
	owners map[digest.Digest][]*node // by step

	ready   readyHeap
	free    int // slots left
	calls   int // Execute calls in flight
	left    int // outputs without an outcome
	stopped bool

	causes map[string]*cause
	held   []outcome // pins that failed before any output did
	unsaid []outcome // failures that say nothing
	broken bool      // some output has failed
	fatal  error     // nothing can be built any more

	returned chan outcome
	pins     chan digest.Digest
	over     chan struct{} // closed when loop no longer reads pins
}

func newRun(ctx context.Context, s *Solver, t *Tracker, g *graph.Graph) *run {
	r := &run{
		exec: s.Exec, tracker: t, staged: s.Jobs > 0, failFast: s.FailFast, parent: ctx,
		byID: map[digest.Digest]*node{}, owners: map[digest.Digest][]*node{},
		free: s.Jobs, causes: map[string]*cause{},
		returned: make(chan outcome), pins: make(chan digest.Digest), over: make(chan struct{}),
	}
	if !r.staged {
		r.free = runtime.NumCPU()
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	weights := g.Priorities()
	for i, st := range g.Stages() {
		n := &node{stage: st, index: i, weight: weights[st.ID]}
		for _, in := range g.Inputs(st) {
			m := r.byID[in.ID]
			n.inputs, m.users = append(n.inputs, m), append(m.users, n)
		}
		n.missing = len(n.inputs)
		for _, step := range st.Steps {
			r.owners[step.Digest] = append(r.owners[step.Digest], n)
		}
		r.nodes, r.byID[st.ID] = append(r.nodes, n), n
	}
	for _, o := range g.Outputs() {
		if n := r.byID[o.ID]; !n.output {
			n.output = true
			r.left++
		}
	}
	return r
}

// onRun gives the function by which the Tracker tells that BuildKit runs a step.
func (r *run) onRun() func(*graph.Stage) {
	if r.staged || r.failFast {
		return nil
	}
	return func(s *graph.Stage) {
		select {
		case r.pins <- s.ID:
		case <-r.over:
		}
	}
}

// loop runs until no call is in flight and none can be made.
func (r *run) loop() {
	defer close(r.over)
	for _, n := range r.nodes {
		switch {
		case r.staged:
			r.want(n)
		case n.output:
			r.start(n)
		}
	}
	r.dispatch()
	ended := r.parent.Done()
	for r.calls > 0 {
		select {
		case o := <-r.returned:
			r.calls--
			r.finish(o)
		case id := <-r.pins:
			r.pin(r.byID[id])
		case <-ended:
			ended, r.stopped = nil, true
		}
		r.dispatch()
	}
	for _, o := range r.unsaid {
		if o.node.state == unsaid && !r.stopped {
			r.end(o.node, r.guess(o.node, o.err))
		}
	}
}

// want has n started as soon as its inputs are there and a slot is free.
func (r *run) want(n *node) {
	n.wanted = true
	if n.state == idle && n.missing == 0 {
		heap.Push(&r.ready, n)
	}
}

func (r *run) dispatch() {
	for r.free > 0 && len(r.ready) > 0 && !r.stopped && r.parent.Err() == nil {
		n := heap.Pop(&r.ready).(*node)
		if n.state == idle {
			n.slot = true
			r.free--
			r.start(n)
		}
	}
}

// pin asks for a stage that BuildKit works on already. It takes no slot, since it
// adds no work.
func (r *run) pin(n *node) {
	if n != nil && n.state == idle && !r.stopped && r.parent.Err() == nil {
		n.pinned = true
		r.start(n)
	}
}

func (r *run) start(n *node) {
	if r.parent.Err() != nil {
		return
	}
	n.state = running
	r.calls++
	r.tracker.executing(n.stage, r.staged || n.slot)
	go func() {
		ref, err := r.exec.Execute(r.ctx, n.stage)
		r.returned <- outcome{n, ref, err}
	}()
}

// finish takes in what a call returned.
func (r *run) finish(o outcome) {
	n := o.node
	if n.slot {
		n.slot = false
		r.free++
	}
	if n.output {
		r.left--
	}
	switch {
	case n.state != running: // its failure came out by way of another stage
	case o.err == nil:
		r.arrive(n, done, o.ref)
	case r.ctx.Err() != nil && cancelled(o.err):
		n.state = idle
	case n.pinned && !r.broken && !r.staged:
		// The outputs have the last word: one that does without this stage is built
		// all the same.
		r.held = append(r.held, o)
	case lost(o.err):
		r.fatal = fmt.Errorf("talking to the BuildKit daemon: %w", o.err)
		n.state = idle
		r.stop(r.fatal)
	default:
		r.fail(n, o.err)
	}
	switch {
	case r.staged || r.stopped:
	case n.output && o.err != nil:
		r.rescue(n)
	case r.left == 0 && !r.broken:
		r.stop(errOver)
	}
}

// arrive notes that the result of n is there.
func (r *run) arrive(n *node, s state, ref gwclient.Reference) {
	n.state, n.ref = s, ref
	if s == done {
		r.tracker.built(n.stage)
	}
	for _, u := range n.users {
		u.missing--
		if u.wanted && u.state == idle && u.missing == 0 {
			heap.Push(&r.ready, u)
		}
	}
	if !r.staged && n.output {
		r.assume(n.inputs)
	}
}

// assume takes what a finished output needs for granted, whether BuildKit has
// built it or found that it was not needed.
func (r *run) assume(nodes []*node) {
	for todo := slices.Clone(nodes); len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n.covered {
			continue
		}
		n.covered = true
		if n.state == idle {
			r.arrive(n, assumed, nil)
		}
		todo = append(todo, n.inputs...)
	}
}

// stop ends everything that is in flight.
func (r *run) stop(why error) {
	r.stopped = true
	r.cancel(why)
}

// results gives the outputs that were built.
func (r *run) results() map[digest.Digest]gwclient.Reference {
	refs := map[digest.Digest]gwclient.Reference{}
	for _, n := range r.nodes {
		if n.output && n.state == done {
			refs[n.stage.ID] = n.ref
		}
	}
	return refs
}

// verdict closes the books: every stage gets its end, and the error of the run is
// made.
func (r *run) verdict() error {
	err := r.err()
	if err == nil {
		return nil
	}
	for _, n := range r.nodes {
		if n.state == idle || n.state == running || n.state == unsaid {
			r.tracker.skipped(n.stage, err, "")
		}
	}
	return err
}

func (r *run) err() error {
	unbuilt := slices.ContainsFunc(r.nodes, func(n *node) bool { return n.output && n.state != done })
	switch {
	case !unbuilt:
		return nil
	case r.parent.Err() != nil:
		return context.Cause(r.parent)
	case r.fatal != nil:
		return r.fatal
	}
	if len(r.causes) == 0 {
		panic("solver: outputs are missing and nothing has failed")
	}
	return join(r.sortedCauses())
}

// readyHeap orders by weight, heaviest first, then by graph order.
type readyHeap []*node

func (h readyHeap) Len() int      { return len(h) }
func (h readyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h readyHeap) Less(i, j int) bool {
	if h[i].weight != h[j].weight {
		return h[i].weight > h[j].weight
	}
	return h[i].index < h[j].index
}
func (h *readyHeap) Push(x any) { *h = append(*h, x.(*node)) }
func (h *readyHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return n
}
