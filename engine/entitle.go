package engine

import (
	"fmt"
	"slices"

	"github.com/zlayer-dev/zlayer/graph"
)

// checkEntitlements refuses steps that ask for more than the request grants. The
// daemon would do so, too, but cannot say which step it is.
func (j *job) checkEntitlements(g *graph.Graph) error {
	for _, s := range g.Stages() {
		for _, step := range s.Steps {
			if step.Needs != "" && !slices.Contains(j.entitlements, step.Needs) {
				return &graph.PosError{
					Pos:    j.shown(step.Pos),
					Err:    fmt.Errorf("the step needs the entitlement %s: grant it with --allow %s", step.Needs, step.Needs),
					Source: sourceOf(s, step.Pos),
				}
			}
		}
	}
	return nil
}

// sourceOf is the text of the file that a position of the stage points into.
func sourceOf(s *graph.Stage, p graph.Pos) []byte {
	for _, info := range s.Files() {
		if info.Filename == p.File {
			return info.Data
		}
	}
	return nil
}
