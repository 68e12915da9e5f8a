package engine

import (
	"context"
	"sync"

	"github.com/zlayer-dev/zlayer/graph"
)

// unitSet holds what has been compiled inside of BuildKit, by the key of the unit. The
// zero value is empty.
type unitSet struct {
	mu   sync.Mutex
	done map[string]*compiledUnit
}

// compiledUnit is a unit being compiled, or compiled.
type compiledUnit struct {
	ready chan struct{}
	stage *graph.Stage
	err   error
}

// once compiles a unit, or waits for whoever is compiling it. Nobody waits in a
// circle: a unit is waited for only by those that nest it, and circles are refused
// before.
func (u *unitSet) once(ctx context.Context, key string, compile func() (*graph.Stage, error)) (*graph.Stage, error) {
	u.mu.Lock()
	done := u.done[key]
	if done == nil {
		if u.done == nil {
			u.done = map[string]*compiledUnit{}
		}
		done = &compiledUnit{ready: make(chan struct{})}
		u.done[key] = done
		u.mu.Unlock()
		done.stage, done.err = compile()
		close(done.ready)
		return done.stage, done.err
	}
	u.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-done.ready:
		return done.stage, done.err
	}
}
