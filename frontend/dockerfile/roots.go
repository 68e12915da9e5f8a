package dockerfile

import (
	"context"
	"errors"
	"slices"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/zlayer-dev/zlayer/graph"
)

// roots is an operation that reads the results of many stages. It exists to have
// them serialised at once: one by one, what they share is serialised for each, which
// for a chain of stages is the square of its length.
type roots struct {
	outputs []llb.Output
	digest  digest.Digest
}

var (
	_ llb.Vertex = (*roots)(nil)
	_ llb.Output = (*roots)(nil)
)

// Validate implements llb.Vertex.
func (r *roots) Validate(context.Context, *llb.Constraints) error { return nil }

// Output implements llb.Vertex.
func (r *roots) Output() llb.Output { return r }

// Inputs implements llb.Vertex.
func (r *roots) Inputs() []llb.Output { return r.outputs }

// Vertex implements llb.Output.
func (r *roots) Vertex(context.Context, *llb.Constraints) llb.Vertex { return r }

// Marshal implements llb.Vertex.
func (r *roots) Marshal(ctx context.Context, c *llb.Constraints) (digest.Digest, []byte, *pb.OpMetadata, []*llb.SourceLocation, error) {
	inputs := make([]*pb.Input, len(r.outputs))
	for i, o := range r.outputs {
		in, err := o.ToInput(ctx, c)
		if err != nil {
			return "", nil, nil, nil, err
		}
		inputs[i] = in
	}
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Op{Inputs: inputs})
	r.digest = digest.FromBytes(dt)
	return r.digest, dt, nil, nil, err
}

// ToInput implements llb.Output.
func (r *roots) ToInput(context.Context, *llb.Constraints) (*pb.Input, error) {
	if r.digest == "" {
		return nil, errors.New("roots are used before they are serialised")
	}
	return &pb.Input{Digest: string(r.digest)}, nil
}

// marshalStages serialises the target of a lowering and those of the stages below it
// that it has a state of, as if each were a target of a lowering without the scan-stage
// argument, all at once: the stages, the operations of all, and the results that are
// the target and each of them. change may change operations on the way.
func (c *compiler) marshalStages(ctx context.Context, res *dockerfile2llb.Result, order []*decl, change graph.ChangeOp) ([]*decl, *graph.Ops, []graph.Result, error) {
	order = slices.DeleteFunc(order, func(d *decl) bool {
		_, ok := res.SBOM.Extras[d.name]
		return !ok
	})
	r := &roots{}
	results := make([]graph.Result, len(order)+1)
	at := make([]int, 0, len(results)) // of the states that are no empty file systems
	add := func(i int, st llb.State) {
		if out := st.Output(); out != nil && out.Vertex(ctx, &llb.Constraints{}) != nil {
			r.outputs = append(r.outputs, out)
			at = append(at, i)
		}
	}
	add(0, res.State)
	for i, d := range order {
		add(i+1, res.SBOM.Extras[d.name])
	}
	def := &pb.Definition{}
	if len(at) > 0 {
		var err error
		if def, err = c.marshalStage(ctx, llb.NewState(r)); err != nil {
			return nil, nil, nil, err
		}
		unwrap(def)
	}
	ops, yields, err := graph.NewOps(def, change)
	if err != nil {
		return nil, nil, nil, err
	}
	for n, i := range at {
		results[i] = yields[n]
	}
	return order, ops, results, nil
}

// unwrap drops the entry that points at the result of roots, so that roots take its
// place.
func unwrap(def *pb.Definition) {
	last := len(def.Def) - 1
	end := string(digest.FromBytes(def.Def[last]))
	def.Metadata[string(digest.FromBytes(def.Def[last-1]))] = def.Metadata[end]
	delete(def.Metadata, end)
	def.Def = def.Def[:last]
}
