package graph

import (
	"fmt"
	"maps"

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
	r := &rewriter{change: change, names: names, ops: map[digest.Digest]rewritten{}, stages: map[digest.Digest]*Stage{}}
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
	stages map[digest.Digest]*Stage
}

// rewritten is an operation after it was changed.
type rewritten struct {
	bytes  []byte
	digest digest.Digest
	inputs []digest.Digest
}

func (r *rewriter) stage(s *Stage) error {
	spec := s.Spec
	spec.Inputs = make([]Input, len(s.Inputs))
	for i, in := range s.Inputs {
		in.Stage = r.stages[in.Stage.ID]
		spec.Inputs[i] = in
	}
	if !s.Terminal() {
		def, err := r.definition(s.Definition)
		if err != nil {
			return err
		}
		spec.Definition = def
	}
	n, err := NewStage(spec)
	r.stages[s.ID] = n
	return err
}

func (r *rewriter) definition(def *pb.Definition) (*pb.Definition, error) {
	was := make([]digest.Digest, len(def.Def))
	for i, dt := range def.Def {
		was[i] = digest.FromBytes(dt)
		if _, ok := r.ops[was[i]]; ok {
			continue
		}
		n, err := r.op(was[i], dt)
		if err != nil {
			return nil, err
		}
		r.ops[was[i]] = n
	}
	out := &pb.Definition{Metadata: make(map[string]*pb.OpMetadata, len(def.Def))}
	needed := map[digest.Digest]bool{}
	for i := len(was) - 1; i >= 0; i-- {
		n := r.ops[was[i]]
		if i == len(was)-1 || needed[n.digest] {
			for _, in := range n.inputs {
				needed[in] = true
			}
		}
	}
	for i, d := range was {
		n := r.ops[d]
		if i < len(was)-1 && !needed[n.digest] {
			continue
		}
		out.Def = append(out.Def, n.bytes)
		md := def.Metadata[string(d)]
		if name, ok := r.names[d]; ok {
			md = &pb.OpMetadata{Description: map[string]string{"llb.customname": name}}
		}
		if md != nil {
			out.Metadata[string(n.digest)] = md
		}
	}
	out.Source = r.source(def.Source)
	return out, nil
}

// source moves positions to the new digests.
func (r *rewriter) source(src *pb.Source) *pb.Source {
	if src == nil {
		return nil
	}
	out := &pb.Source{Infos: src.Infos, Locations: maps.Clone(src.Locations)}
	for d, loc := range src.Locations {
		if n, ok := r.ops[digest.Digest(d)]; ok && string(n.digest) != d {
			delete(out.Locations, d)
			out.Locations[string(n.digest)] = loc
		}
	}
	return out
}

func (r *rewriter) op(was digest.Digest, dt []byte) (rewritten, error) {
	var op pb.Op
	if err := op.UnmarshalVT(dt); err != nil {
		return rewritten{}, err
	}
	changed := false
	for _, in := range op.Inputs {
		n, ok := r.ops[digest.Digest(in.Digest)]
		if !ok {
			return rewritten{}, fmt.Errorf("operation %s reads %q, which does not come before it", was, in.Digest)
		}
		if in.Digest != string(n.digest) {
			in.Digest, changed = string(n.digest), true
		}
	}
	if op.GetOp() != nil {
		mine, err := r.change(was, &op)
		if err != nil {
			return rewritten{}, err
		}
		changed = changed || mine
	}
	n := rewritten{bytes: dt, digest: was}
	for _, in := range op.Inputs {
		n.inputs = append(n.inputs, digest.Digest(in.Digest))
	}
	if !changed {
		return n, nil
	}
	var err error
	if n.bytes, err = (proto.MarshalOptions{Deterministic: true}).Marshal(&op); err != nil {
		return rewritten{}, err
	}
	n.digest = digest.FromBytes(n.bytes)
	return n, nil
}
