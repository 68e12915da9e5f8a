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

// Graft is a source that an operation reads instead of what it did.
type Graft struct {
	// Input is the place among the inputs of the operation.
	Input int
	// Source reads nothing itself.
	Source *pb.Op
	// Name is what people are told it is.
	Name string
}

// Rewriting is what else Rewrite does; all of it is by the digest of an operation before.
type Rewriting struct {
	// Names gives operations another name for people.
	Names map[digest.Digest]string
	// Grafts gives operations another input.
	Grafts map[digest.Digest]Graft
}

// Rewrite gives the graph in which every operation is what change has made of it:
// names of local sources, sessions and what else is not known before a daemon is, or a
// result that is taken from elsewhere. Each operation is changed once. What nothing
// reads any more is left out. Names, positions and configs of stages stay.
func Rewrite(g *Graph, change ChangeOp, also Rewriting) (*Graph, error) {
	r := &rewriter{change: change, Rewriting: also, ops: map[digest.Digest]rewritten{}, sets: map[*Ops]*Ops{}, stages: map[digest.Digest]*Stage{}}
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
	Rewriting
	change ChangeOp
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
	}
	if was.source != nil {
		n.source = &pb.Source{Infos: was.source.Infos, Locations: make(map[string]*pb.Locations, len(was.source.Locations))}
	}
	for _, o := range was.ops {
		if err := r.graft(n, o.digest); err != nil {
			return nil, err
		}
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
		if name, ok := r.Names[o.digest]; ok {
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
	return n, n.link()
}

// graft puts the source that an operation is to read before it.
func (r *rewriter) graft(n *Ops, reader digest.Digest) error {
	g, ok := r.Grafts[reader]
	if !ok {
		return nil
	}
	o, err := encoded(g.Source)
	if err != nil {
		return err
	}
	if _, twice := n.index[o.digest]; twice {
		return nil
	}
	n.index[o.digest] = len(n.ops)
	n.ops = append(n.ops, o)
	n.metadata[string(o.digest)] = &pb.OpMetadata{Description: map[string]string{"llb.customname": g.Name}}
	return nil
}

func encoded(x *pb.Op) (op, error) {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(x)
	return op{digest: digest.FromBytes(bytes), bytes: bytes, Op: x}, err
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
	if g, ok := r.Grafts[was.digest]; ok {
		if g.Input < 0 || g.Input >= len(n.Inputs) {
			return rewritten{}, fmt.Errorf("operation %s has no input %d", was.digest, g.Input)
		}
		o, err := encoded(g.Source)
		if err != nil {
			return rewritten{}, err
		}
		n.Inputs[g.Input], changed = &pb.Input{Digest: string(o.digest)}, true
	}
	mine, err := r.change(was.digest, n.Op)
	if err != nil {
		return rewritten{}, err
	}
	if !changed && !mine {
		return rewritten{was}, nil
	}
	n, err = encoded(n.Op)
	return rewritten{n}, err
}
