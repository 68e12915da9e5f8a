package graph

import (
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// ChangeOp changes an operation in place and reports whether it did. was is the
// operation's digest before; the digests of its inputs are those of after. An
// operation that is replaced may lose inputs, but gets none.
type ChangeOp func(was digest.Digest, op *pb.Op) (bool, error)

// Rewrite gives the graph in which every operation is what change has made of it:
// names of local sources, sessions and what else is not known before a daemon is, or a
// result that is taken from elsewhere. Each operation is changed once. What nothing
// reads any more is left out. Names, positions and configs of stages stay; names gives
// operations, by their digest before, another name for people, nil none.
func Rewrite(g *Graph, change ChangeOp, names map[digest.Digest]string) (*Graph, error) {
	r := &rewriter{change: change, names: names, ops: map[digest.Digest]rewritten{}, sets: map[*Ops]*Ops{}, stages: map[digest.Digest]*Stage{}}
	for _, s := range g.stages {
		if err := r.stage(s); err != nil {
			return nil, fmt.Errorf("rewriting stage %q: %w", s.Name, err)
		}
	}
	outputs := make([]*Stage, len(g.outputs))
	for i, s := range g.outputs {
		outputs[i] = r.stages[s.ID]
	}
	return New(outputs...)
}

type rewriter struct {
	change ChangeOp
	names  map[digest.Digest]string
	ops    map[digest.Digest]rewritten
	sets   map[*Ops]*Ops
	stages map[digest.Digest]*Stage
}

// rewritten is an operation after it was changed.
type rewritten struct{ op }

func (r *rewriter) stage(s *Stage) error {
	spec := s.Spec
	spec.Inputs = make([]Input, len(s.Inputs))
	for i, in := range s.Inputs {
		in.Stage = r.stages[in.Stage.ID]
		spec.Inputs[i] = in
	}
	spec.Definition = nil
	ops, err := r.set(s.Ops)
	if err != nil {
		return err
	}
	spec.Ops = ops
	if !s.Terminal() {
		spec.Result.Digest = r.ops[s.Head].digest
	}
	n, err := NewStage(spec)
	r.stages[s.ID] = n
	return err
}

// set rewrites operations that stages share; what stages no longer read stays among
// them, but is part of no stage.
func (r *rewriter) set(was *Ops) (*Ops, error) {
	if n := r.sets[was]; n != nil {
		return n, nil
	}
	n := &Ops{
		ops: make([]op, 0, len(was.ops)), index: make(map[digest.Digest]int, len(was.ops)),
		metadata: make(map[string]*pb.OpMetadata, len(was.ops)), end: was.end,
		sorted: true, // what is read is rewritten first
	}
	if was.source != nil {
		n.source = &pb.Source{Infos: was.source.Infos, Locations: make(map[string]*pb.Locations, len(was.source.Locations))}
	}
	for _, o := range was.ops {
		ro, ok := r.ops[o.digest]
		if !ok {
			var err error
			if ro, err = r.op(o); err != nil {
				return nil, err
			}
			r.ops[o.digest] = ro
		}
		if _, twice := n.index[ro.digest]; twice {
			continue
		}
		n.index[ro.digest] = len(n.ops)
		n.ops = append(n.ops, ro.op)
		md := was.metadata[string(o.digest)]
		if name, ok := r.names[o.digest]; ok {
			md = &pb.OpMetadata{Description: map[string]string{"llb.customname": name}}
		}
		if md != nil {
			n.metadata[string(ro.digest)] = md
		}
		if locs := was.source.GetLocations()[string(o.digest)]; locs != nil {
			n.source.Locations[string(ro.digest)] = locs
		}
	}
	r.sets[was] = n
	return n, nil
}

func (r *rewriter) op(was op) (rewritten, error) {
	n := was
	n.Op = was.CloneVT()
	changed := false
	for _, in := range n.Inputs {
		ri, ok := r.ops[digest.Digest(in.Digest)]
		if !ok {
			return rewritten{}, fmt.Errorf("operation %s reads %q, which does not come before it", was.digest, in.Digest)
		}
		if in.Digest != string(ri.digest) {
			in.Digest, changed = string(ri.digest), true
		}
	}
	mine, err := r.change(was.digest, n.Op)
	if err != nil {
		return rewritten{}, err
	}
	if !changed && !mine {
		return rewritten{was}, nil
	}
	if n.bytes, err = (proto.MarshalOptions{Deterministic: true}).Marshal(n.Op); err != nil {
		return rewritten{}, err
	}
	n.digest = digest.FromBytes(n.bytes)
	return rewritten{n}, nil
}
