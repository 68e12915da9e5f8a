package solver

import (
	"context"
	"fmt"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/zlayer-dev/zlayer/graph"
)

// Executor builds one stage.
type Executor interface {
	// Execute builds s and returns its result, nil for the empty file system. It
	// is called concurrently, at most once for a stage of one solve, and must
	// return soon after ctx is done. Errors are BuildKit's own, typed, so that they
	// can be traced to a step.
	Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error)
}

// Gateway is the Executor that solves stages through a BuildKit gateway: the
// client that a build function gets.
type Gateway struct {
	Client gwclient.Client
	// CacheImports are asked for results that the daemon does not have.
	CacheImports []gwclient.CacheOptionsEntry
}

var _ Executor = Gateway{}

// Execute implements Executor. The stage's result exists when it returns, though
// BuildKit may still leave the layers of a base image in their registry.
func (g Gateway) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	if s.Terminal() {
		return nil, nil
	}
	res, err := g.Client.Solve(ctx, gwclient.SolveRequest{
		Definition:   s.Definition(),
		Evaluate:     true,
		CacheImports: g.CacheImports,
	})
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, fmt.Errorf("reading the result of stage %q: %w", s.Name, err)
	}
	return ref, nil
}
