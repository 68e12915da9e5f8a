package solver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// Backoff says how long to wait before something is tried again: longer each time,
// and never exactly as long as others who failed at the same moment. The zero value
// begins with a second and does not go beyond half a minute.
type Backoff struct {
	First, Max time.Duration
	// Random gives numbers in [0,1); nil is a source of its own.
	Random func() float64
	// Sleep waits, or returns the cause of the end of ctx; nil is the clock.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Wait is the pause before a try, 1 being the first one after a failure: between half
// and all of First doubled each time.
func (b Backoff) Wait(try int) time.Duration {
	first, most, random := b.First, b.Max, b.Random
	if first <= 0 {
		first = time.Second
	}
	if most <= 0 {
		most = 30 * time.Second
	}
	if random == nil {
		random = rand.Float64
	}
	d := first
	for i := 1; i < try && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d/2 + time.Duration(random()*float64(d/2))
}

// Pause waits for d.
func (b Backoff) Pause(ctx context.Context, d time.Duration) error {
	if b.Sleep != nil {
		return b.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Retry is an [Executor] that tries again what has failed and may go well the next
// time, see [Mendable]: up to Times for each step. It serves one Solve at a time, and
// must not be copied.
//
// A step with a cache mount is not tried again within the Solve: BuildKit holds on to
// what the failed one had mounted until the build is over, and would give the next one
// an empty cache. [Retry.Again] makes it ready for another Solve.
type Retry struct {
	Exec  Executor
	Times int
	// Tracker, that of the Solver, is told of each try; nil tells nobody.
	Tracker *Tracker
	Backoff Backoff

	mu    sync.Mutex
	tries map[digest.Digest]*try
}

var _ Executor = (*Retry)(nil)

// try is the latest try of a step, for all stages that need it.
type try struct {
	n int
	// due is closed when the pause before it is over.
	due chan struct{}
}

// Execute implements Executor. BuildKit keeps the failure of an operation as long as
// somebody holds on to it, so what is tried again is the same operation under another
// digest: with a constraint on workers that nobody looks at. Its cache key is the same.
func (r *Retry) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	for {
		tries := r.snapshot()
		again, err := r.variant(s, tries)
		if err != nil {
			return nil, err
		}
		ref, err := r.Exec.Execute(ctx, again)
		if err == nil || ctx.Err() != nil || !Mendable(err) {
			return ref, err
		}
		v := vertexOf(err)
		if r.Tracker != nil && v == "" {
			v = r.Tracker.failedVertex(err)
		}
		held := holdsCache(again, v)
		if r.Tracker != nil {
			v = r.Tracker.original(v)
		}
		if held || tries[v] >= r.Times {
			return ref, err
		}
		if perr := r.pause(ctx, s, v, tries[v]+1, err); perr != nil {
			return ref, err
		}
	}
}

// Again makes Retry ready for another Solve after one that has failed, with err: what
// failed is counted, and will be tried under another digest. It reports false where
// another Solve does not help, else how long to wait before it.
func (r *Retry) Again(err error) (*RetryInfo, bool) {
	causes := Causes(err)
	if len(causes) == 0 {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range causes {
		v := c.Vertex
		if t := r.tries[v]; t != nil {
			n = max(n, t.n)
		}
		if !Mendable(c.Err) || n >= r.Times {
			return nil, false
		}
	}
	if r.tries == nil {
		r.tries = map[digest.Digest]*try{}
	}
	n++
	due := make(chan struct{})
	close(due)
	for _, c := range causes {
		r.tries[c.Vertex] = &try{n: n, due: due}
	}
	return &RetryInfo{Try: n, Of: r.Times, Wait: r.Backoff.Wait(n), Err: err}, true
}

// holdsCache reports whether a step has a cache mount that it writes to.
func holdsCache(s *graph.Stage, v digest.Digest) bool {
	for _, m := range s.Op(v).GetExec().GetMounts() {
		if m.MountType == pb.MountType_CACHE && !m.Readonly {
			return true
		}
	}
	return false
}

// snapshot gives the number of the latest try of each step that has failed.
func (r *Retry) snapshot() map[digest.Digest]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[digest.Digest]int{}
	for v, t := range r.tries {
		out[v] = t.n
	}
	return out
}

// pause waits until try n of a step is due. Whoever comes first announces it.
func (r *Retry) pause(ctx context.Context, s *graph.Stage, v digest.Digest, n int, err error) error {
	r.mu.Lock()
	if r.tries == nil {
		r.tries = map[digest.Digest]*try{}
	}
	t := r.tries[v]
	mine := t == nil || t.n < n
	if mine {
		t = &try{n: n, due: make(chan struct{})}
		r.tries[v] = t
	}
	r.mu.Unlock()
	if !mine {
		select {
		case <-t.due:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(t.due)
	wait := r.Backoff.Wait(n)
	if r.Tracker != nil {
		r.Tracker.retrying(s, v, &RetryInfo{Try: n, Of: r.Times, Wait: wait, Err: err})
	}
	return r.Backoff.Pause(ctx, wait)
}

// variant is the stage with the steps that are tried again under other digests.
func (r *Retry) variant(s *graph.Stage, tries map[digest.Digest]int) (*graph.Stage, error) {
	if len(tries) == 0 || s.Terminal() {
		return s, nil
	}
	g, err := graph.New(s)
	if err != nil {
		return nil, err
	}
	changed := false
	n, err := graph.Rewrite(g, func(was digest.Digest, op *pb.Op) (bool, error) {
		if tries[was] == 0 {
			return false, nil
		}
		changed = true
		if op.Constraints == nil {
			op.Constraints = &pb.WorkerConstraints{}
		}
		op.Constraints.Filter = append(op.Constraints.Filter, fmt.Sprintf("zlayer.try==%d", tries[was]))
		return true, nil
	}, graph.Rewriting{})
	if err != nil || !changed {
		return s, err
	}
	if r.Tracker != nil {
		r.Tracker.rename(g, n)
	}
	return n.Outputs()[0], nil
}

// rename makes the steps of n known as those of g that they stand for.
func (t *Tracker) rename(g, n *graph.Graph) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alias == nil {
		t.alias = map[digest.Digest]digest.Digest{}
	}
	maps.Copy(t.alias, renamed(g, n))
}

// renamed pairs the steps of two graphs that differ in digests only.
func renamed(g, n *graph.Graph) map[digest.Digest]digest.Digest {
	out := map[digest.Digest]digest.Digest{}
	var pair func(a, b *graph.Stage)
	seen := map[*graph.Stage]bool{}
	pair = func(a, b *graph.Stage) {
		if seen[a] {
			return
		}
		seen[a] = true
		for i := range a.Steps {
			if i < len(b.Steps) && a.Steps[i].Digest != b.Steps[i].Digest {
				d := b.Steps[i].Digest
				out[d] = a.Steps[i].Digest
				out[digest.FromString(string(d)+"-ignorecache")] = a.Steps[i].Digest
			}
		}
		for i := range a.Inputs {
			pair(a.Inputs[i].Stage, b.Inputs[i].Stage)
		}
	}
	for i, a := range g.Outputs() {
		pair(a, n.Outputs()[i])
	}
	return out
}

// original is the digest under which the graph has a step.
func (t *Tracker) original(d digest.Digest) digest.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.canon(d)
}

// retrying reports that a step will be tried again; s is the stage that was asked for.
func (t *Tracker) retrying(s *graph.Stage, v digest.Digest, info *RetryInfo) {
	t.update(func() {
		e := Event{Kind: Retrying, Stage: s, Retry: info}
		if v == "" {
			t.emit(e)
			return
		}
		t.emitStep(v, e)
	})
}

// RetryInfo says that something has failed and will be tried again.
type RetryInfo struct {
	// Try counts tries after the first failure, of at most Of; it comes after Wait.
	Try, Of int
	Wait    time.Duration
	// Err is the failure.
	Err error
}

// passing are failures of networks and servers that pass, in the words in which they
// come back from a daemon.
var passing = lazyregexp.New(`(?i)connection reset|connection refused|broken pipe|unexpected EOF|i/o timeout|TLS handshake timeout|context deadline exceeded|no route to host|network is unreachable|temporary failure in name resolution|server misbehaving|request timed out|timeout awaiting|too ?many ?requests|\b429\b|\b50[0234] |(?:status|code):? ?50[0234]\b|http2: server sent GOAWAY|stream error`)

// never are failures that the words of passing may come with, and that stay.
var never = lazyregexp.New(`(?i)\b40[0134] |unauthorized|forbidden|denied|not found`)

// Transient reports whether a failure is that of a network or a server, and may pass.
func Transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	text := err.Error()
	return passing().MatchString(text) && !never().MatchString(text)
}

// Mendable reports whether it can help to try again: when a process has ended with an
// exit code, other than those of shells for a program that is not there or cannot be
// run, or when a failure is [Transient]. A daemon that is gone is another matter.
func Mendable(err error) bool {
	if err == nil || lost(err) {
		return false
	}
	var exit *gatewayapi.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode != 126 && exit.ExitCode != 127 && exit.ExitCode != 0
	}
	return Transient(err)
}
