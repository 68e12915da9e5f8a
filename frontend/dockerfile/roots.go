package dockerfile

import (
	"context"
	"errors"

	"github.com/moby/buildkit/client/llb"
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
	// inputs say, once it has been serialised, which operation each output is.
	inputs []*pb.Input
	digest digest.Digest
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
	r.inputs = make([]*pb.Input, len(r.outputs))
	for i, o := range r.outputs {
		in, err := o.ToInput(ctx, c)
		if err != nil {
			return "", nil, nil, nil, err
		}
		r.inputs[i] = in
	}
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Op{Inputs: r.inputs})
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

// marshalStages serialises states of the second lowering as if they were targets of
// the first one, all at once: the operations of all, and the result that each is.
func (c *compiler) marshalStages(ctx context.Context, states []llb.State) (*graph.Ops, []graph.Result, error) {
	r := &roots{}
	results := make([]graph.Result, len(states))
	at := make([]int, 0, len(states)) // of the states that are no empty file systems
	for i, st := range states {
		if out := st.Output(); out != nil && out.Vertex(ctx, &llb.Constraints{}) != nil {
			r.outputs = append(r.outputs, out)
			at = append(at, i)
		}
	}
	def := &pb.Definition{}
	if len(at) > 0 {
		var err error
		if def, err = c.marshalStage(ctx, llb.NewState(r)); err != nil {
			return nil, nil, err
		}
	}
	ops, _, err := graph.NewOps(def)
	if err != nil {
		return nil, nil, err
	}
	for n, i := range at {
		results[i] = graph.Result{Digest: digest.Digest(r.inputs[n].Digest), Index: int(r.inputs[n].Index)}
	}
	return ops, results, nil
}
