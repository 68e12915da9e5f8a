package solver

import (
	"context"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// Solver builds graphs. It holds no state of its own: one Solver may solve several
// graphs at once, each with its own Tracker.
type Solver struct {
	Exec Executor

	// Jobs chooses how the graph is walked.
	//
	// With 0 only the outputs are asked for, and BuildKit works out what they need
	// and how much of it to do at once. As soon as it starts to run a step of a
	// stage, that stage is asked for as well, so that a failure elsewhere does not
	// stop it. When an output has failed, the rest of what it needs is built stage
	// by stage, so that all causes that do not hang on each other come out.
	//
	// Above 0 every stage is asked for, when all its inputs are there, at most Jobs
	// at once, the longest chain of work first. Stages that BuildKit would not have
	// needed, because what is built on them is cached, are built too where their own
	// results are gone.
	Jobs int
	// FailFast stops everything at the first failure.
	FailFast bool
	// Tracker reports events. It should be fed with the status stream of the
	// connection that Exec uses; nil reports nothing. A Tracker that is given must be
	// closed by its owner after the stream's end.
	Tracker *Tracker
}

// Solve builds the outputs of g and returns the results by stage ID; the result of
// an empty file system is nil.
//
// When stages fail, the error holds their causes in graph order, see [Causes]:
// each a [StageError], reported once however many outputs need it. Stages that need
// a failed one are left out of the error and reported as StageSkipped events. The
// outputs that did get built are returned along with the error. When ctx ends, the
// error is its cause, and what was running is reported as skipped. Solve returns
// only after every call of the Executor has.
func (s *Solver) Solve(ctx context.Context, g *graph.Graph) (map[digest.Digest]gwclient.Reference, error) {
	t := s.Tracker
	if t == nil {
		t = &Tracker{}
		defer t.Close()
	}
	r := newRun(ctx, s, t, g)
	defer r.cancel(nil)
	t.attach(g, r.onRun())
	defer t.seal()
	r.loop()
	return r.results(), r.verdict()
}
