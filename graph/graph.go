package graph

import (
	"errors"
	"slices"

	digest "github.com/opencontainers/go-digest"
)

// Graph is an immutable set of stages closed over their inputs. Stages of equal
// ID are one stage of the graph, whoever asked for them.
type Graph struct {
	stages  []*Stage
	outputs []*Stage
	byID    map[digest.Digest]*Stage
	inputs  map[digest.Digest][]*Stage
	users   map[digest.Digest][]*Stage
}

// New makes the graph of everything that outputs need. The order of stages is
// that of a walk from the outputs, inputs first: the same for the same input.
// outputs must not be empty; outputs of equal ID stay separate entries of Outputs.
func New(outputs ...*Stage) (*Graph, error) {
	if len(outputs) == 0 {
		return nil, errors.New("a graph needs at least one output")
	}
	g := &Graph{
		byID:   map[digest.Digest]*Stage{},
		inputs: map[digest.Digest][]*Stage{},
		users:  map[digest.Digest][]*Stage{},
	}
	seen := map[*Stage]bool{}
	for _, s := range outputs {
		if s == nil {
			return nil, errors.New("a graph cannot have a nil output")
		}
		g.outputs = append(g.outputs, g.add(s, seen))
	}
	for _, s := range g.stages {
		for _, in := range s.InputStages() {
			// s is the newest user of anything, so one look tells whether another of
			// its inputs was the same stage under another pointer.
			if u := g.users[in.ID]; len(u) > 0 && u[len(u)-1] == s {
				continue
			}
			g.users[in.ID] = append(g.users[in.ID], s)
			g.inputs[s.ID] = append(g.inputs[s.ID], g.byID[in.ID])
		}
	}
	return g, nil
}

// add enters s after its inputs. The order matters for identity too: a stage that
// adds nothing to its base equals it, and is then the base, not the base's reader.
func (g *Graph) add(s *Stage, seen map[*Stage]bool) *Stage {
	if !seen[s] {
		seen[s] = true
		for _, in := range s.InputStages() {
			g.add(in, seen)
		}
	}
	if have := g.byID[s.ID]; have != nil {
		return have
	}
	g.byID[s.ID] = s
	g.stages = append(g.stages, s)
	return s
}

// Stages lists every stage once, inputs before those that read them.
func (g *Graph) Stages() []*Stage { return slices.Clone(g.stages) }

// Outputs lists the stages that were asked for, in the order given to New.
func (g *Graph) Outputs() []*Stage { return slices.Clone(g.outputs) }

// Stage returns the graph's stage of that ID, nil when there is none.
func (g *Graph) Stage(id digest.Digest) *Stage { return g.byID[id] }

// Inputs lists the distinct stages of the graph that s reads directly.
func (g *Graph) Inputs(s *Stage) []*Stage { return slices.Clone(g.inputs[s.ID]) }

// Dependants lists the stages that read s directly, in graph order.
func (g *Graph) Dependants(s *Stage) []*Stage { return slices.Clone(g.users[s.ID]) }

// Priorities gives each stage the weight of the longest path from it to an
// output, both included, counting steps: what to start first so that the longest
// chain of work never waits.
func (g *Graph) Priorities() map[digest.Digest]int {
	prio := make(map[digest.Digest]int, len(g.stages))
	for _, s := range slices.Backward(g.stages) {
		longest := 0
		for _, u := range g.users[s.ID] {
			longest = max(longest, prio[u.ID])
		}
		prio[s.ID] = longest + max(1, len(s.Steps))
	}
	return prio
}
