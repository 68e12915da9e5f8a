// Package solvertest has an executor that a test meets: the solver runs in the
// background, and the test waits for each stage the solver asks for and decides what
// becomes of it. So order, limits, failure and cancellation become plain sequential
// test code.
package solvertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// Executor is a [solver.Executor] that waits for the test. Make it with New.
type Executor struct {
	t testing.TB

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	calls   map[string]*Call
	order   []string
}

var _ solver.Executor = (*Executor)(nil)

// Call is one stage the solver has asked for, by name.
type Call struct {
	// Stage is what was asked for.
	Stage *graph.Stage
	// Ctx is the context of the call.
	Ctx context.Context

	answer chan answer
}

type answer struct {
	ref gwclient.Reference
	err error
}

// Ref is a result that is told apart by its name.
type Ref struct {
	gwclient.Reference
	Name string
}

// New makes an Executor that reports to t. Stages are known by name, so the names of
// a test's stages must differ.
func New(t testing.TB) *Executor {
	return &Executor{t: t, changed: make(chan struct{}), calls: map[string]*Call{}}
}

// Execute implements solver.Executor: it returns when the test answers or when ctx is
// done.
func (e *Executor) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	c := &Call{Stage: s, Ctx: ctx, answer: make(chan answer, 1)}
	e.mu.Lock()
	if slices.Contains(e.order, s.Name) {
		e.t.Errorf("stage %s was asked for twice", s.Name)
	}
	e.calls[s.Name] = c
	e.order = append(e.order, s.Name)
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	select {
	case a := <-c.answer:
		return a.ref, a.err
	case <-ctx.Done():
		e.mu.Lock()
		delete(e.calls, s.Name)
		e.mu.Unlock()
		return nil, fmt.Errorf("stopping %s: %w", s.Name, context.Canceled)
	}
}

// Meet waits until the solver asks for the stage called name and gives the call. It
// fails the test when that does not happen within half a minute.
func (e *Executor) Meet(name string) *Call {
	e.t.Helper()
	patience := time.After(30 * time.Second)
	for {
		e.mu.Lock()
		c, changed := e.calls[name], e.changed
		delete(e.calls, name)
		e.mu.Unlock()
		if c != nil {
			return c
		}
		select {
		case <-changed:
		case <-patience:
			e.t.Fatalf("stage %s was never asked for; asked for: %v", name, e.Asked())
		}
	}
}

// Done lets the call succeed.
func (c *Call) Done() {
	c.answer <- answer{ref: &Ref{Name: c.Stage.Name}}
}

// Fail lets the call fail.
func (c *Call) Fail(err error) {
	c.answer <- answer{err: err}
}

// Done waits for each stage in turn and lets it succeed.
func (e *Executor) Done(names ...string) {
	e.t.Helper()
	for _, n := range names {
		e.Meet(n).Done()
	}
}

// Fail waits for a stage and lets it fail.
func (e *Executor) Fail(name string, err error) {
	e.t.Helper()
	e.Meet(name).Fail(err)
}

// Asked lists the stages the solver has asked for so far, in order.
func (e *Executor) Asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.order)
}

// Open lists, sorted, the stages that were asked for and not met yet.
func (e *Executor) Open() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.calls))
}
