package engine

import (
	"context"
	"sync"

	"github.com/zlayer-dev/zlayer/graph"
)

// unitTable holds the units that have been compiled, or are being compiled, by key.
type unitTable struct {
	mu   sync.Mutex
	done map[string]*composed
}

// composed is a unit being compiled, or compiled.
type composed struct {
	ready chan struct{}
	stage *graph.Stage
	// ground is the result as the rules for Windows content see it.
	ground *ground
	err    error
	// files are what it has read or looked for.
	files map[string]bool
	// inputs are what it has asked.
	inputs inputs
	// waits are the units that its compilation waits for.
	waits []wait
}

func newUnitTable() *unitTable { return &unitTable{done: map[string]*composed{}} }

// once compiles a unit, or waits for whoever is compiling it; asks is the unit whose
// compilation needs it, nil for none, and chain the way there. Nobody waits in a circle:
// builds that begin at several places of a circle of units at once are refused like
// those that go round it. The result is nil where there was no waiting.
func (t *unitTable) once(ctx context.Context, key string, asks *composed, chain []link, compile func(context.Context, *composed) (*graph.Stage, error)) (*composed, error) {
	t.mu.Lock()
	done := t.done[key]
	mine := done == nil
	if mine {
		done = &composed{ready: make(chan struct{}), files: map[string]bool{}}
		t.done[key] = done
	}
	err := asks.willWait(done, chain)
	t.mu.Unlock()
	if mine {
		go func() {
			defer close(done.ready)
			// It is everybody's: it must not end with whoever asked first.
			done.stage, done.err = compile(context.WithoutCancel(ctx), done)
		}()
	}
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-done.ready:
		return done, done.err
	}
}
