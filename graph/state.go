package graph

import (
	"context"
	"fmt"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// State is the file system of the stage as LLB to build on. It marshals to the very
// operations of the stage, with their names and positions, whatever the constraints.
func (s *Stage) State() llb.State {
	if s.Terminal() {
		return llb.Scratch()
	}
	return llb.NewState(&opOutput{vertex: s.Ops.vertices.of(s.Ops, s.Head), index: s.headIndex})
}

// vertices are the operations of Ops as LLB vertices, made when they are asked for: one
// for each, since LLB is walked by the identity of vertices.
type vertices struct {
	mu   sync.Mutex
	made map[digest.Digest]*opVertex
	maps []*llb.SourceMap // by the index of Infos
}

func (v *vertices) of(o *Ops, d digest.Digest) *opVertex {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.locked(o, d)
}

func (v *vertices) locked(o *Ops, d digest.Digest) *opVertex {
	if x := v.made[d]; x != nil {
		return x
	}
	if v.made == nil {
		v.made = map[digest.Digest]*opVertex{}
		v.maps = sourceMaps(o.source)
	}
	x := &opVertex{op: o.ops[o.index[d]], metadata: o.metadata[string(d)]}
	v.made[d] = x
	for _, l := range o.source.GetLocations()[string(d)].GetLocations() {
		if i := int(l.SourceIndex); i >= 0 && i < len(v.maps) {
			x.places = append(x.places, &llb.SourceLocation{SourceMap: v.maps[i], Ranges: l.Ranges})
		}
	}
	for _, in := range x.op.Inputs {
		x.inputs = append(x.inputs, &opOutput{vertex: v.locked(o, digest.Digest(in.Digest)), index: int(in.Index)})
	}
	return x
}

// sourceMaps are build files with their definitions already marshalled, so that
// marshalling need not write them down.
func sourceMaps(src *pb.Source) []*llb.SourceMap {
	out := make([]*llb.SourceMap, len(src.GetInfos()))
	for i, info := range src.GetInfos() {
		out[i] = llb.NewSourceMap(nil, info.Filename, info.Language, info.Data)
		if len(info.Definition.GetDef()) > 0 {
			out[i].Definition = &llb.Definition{}
			out[i].Definition.FromPB(info.Definition)
		}
	}
	return out
}

// opVertex is an operation that has been marshalled.
type opVertex struct {
	op       op
	metadata *pb.OpMetadata
	places   []*llb.SourceLocation
	inputs   []llb.Output
}

var (
	_ llb.Vertex = (*opVertex)(nil)
	_ llb.Output = (*opOutput)(nil)
)

// Validate implements llb.Vertex.
func (*opVertex) Validate(context.Context, *llb.Constraints) error { return nil }

// Marshal implements llb.Vertex.
func (x *opVertex) Marshal(context.Context, *llb.Constraints) (digest.Digest, []byte, *pb.OpMetadata, []*llb.SourceLocation, error) {
	return x.op.digest, x.op.bytes, x.metadata, x.places, nil
}

// Output implements llb.Vertex: it is the first result.
func (x *opVertex) Output() llb.Output { return &opOutput{vertex: x} }

// Inputs implements llb.Vertex.
func (x *opVertex) Inputs() []llb.Output { return x.inputs }

// opOutput is a result of an operation.
type opOutput struct {
	vertex *opVertex
	index  int
}

// Vertex implements llb.Output.
func (o *opOutput) Vertex(context.Context, *llb.Constraints) llb.Vertex { return o.vertex }

// ToInput implements llb.Output.
func (o *opOutput) ToInput(context.Context, *llb.Constraints) (*pb.Input, error) {
	if o.index < 0 {
		return nil, fmt.Errorf("result %d of %s does not exist", o.index, o.vertex.op.digest)
	}
	return &pb.Input{Digest: string(o.vertex.op.digest), Index: int64(o.index)}, nil
}
