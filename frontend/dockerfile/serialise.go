package dockerfile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/zlayer-dev/zlayer/graph"
)

// marshalStages serialises the target of a lowering and those of the stages below it
// that it has a state of, as if each were a target of a lowering without the scan-stage
// argument, all at once: the stages, the operations of all, and the results that are
// the target and each of them. change may change operations on the way.
func (c *compiler) marshalStages(ctx context.Context, res *dockerfile2llb.Result, order []*decl, change graph.ChangeOp) ([]*decl, *graph.Ops, []graph.Result, error) {
	order = slices.DeleteFunc(order, func(d *decl) bool {
		_, ok := res.SBOM.Extras[d.name]
		return !ok
	})
	results := make([]graph.Result, len(order)+1)
	outputs := make([]llb.Output, 0, len(results))
	at := make([]int, 0, len(results)) // of the states that are no empty file systems
	add := func(i int, st llb.State) {
		if out := st.Output(); out != nil && out.Vertex(ctx, &llb.Constraints{}) != nil {
			outputs = append(outputs, out)
			at = append(at, i)
		}
	}
	add(0, res.State)
	for i, d := range order {
		add(i+1, res.SBOM.Extras[d.name])
	}
	if len(at) == 0 {
		ops, _, err := graph.NewOps(nil, nil)
		return order, ops, results, err
	}
	ops, yields, err := c.serialise(ctx, outputs, change)
	if err != nil {
		return nil, nil, nil, err
	}
	for n, i := range at {
		results[i] = yields[n]
	}
	return order, ops, results, nil
}

// serialiser serialises the results of many stages at once: each operation that they
// share is serialised once, inputs first, in the order and to the bytes that
// [llb.State.Marshal] would give for an operation that reads them all. It does so without
// recursion, since chains of stages are deep, and hands on operations while it works, so
// that they are decoded beside.
type serialiser struct {
	constraints *llb.Constraints
	ops         chan []serialised
	batch       []serialised

	seen     map[llb.Vertex]bool
	metadata map[string]*pb.OpMetadata
	merged   map[string]bool // that of these is of several vertices
	// places are those in build files, by operation, with an entry for each; maps are the
	// build files in the order in which they are met.
	places map[digest.Digest][]*llb.SourceLocation
	maps   []*llb.SourceMap
}

// serialised is an operation as BuildKit is given it.
type serialised struct {
	digest digest.Digest
	bytes  []byte
}

// serialise gives the operations of outputs, and results that are the outputs, in order.
// There has to be an output.
func (c *compiler) serialise(ctx context.Context, outputs []llb.Output, change graph.ChangeOp) (*graph.Ops, []graph.Result, error) {
	opts := []llb.ConstraintsOpt{
		llb.Platform(c.targetPlatform()),
		llb.WithCaps(c.ui.BuildOpts().LLBCaps),
		llb.LocalUniqueID(c.ui.BuildOpts().SessionID),
	}
	s := &serialiser{
		constraints: llb.NewConstraints(opts...),
		ops:         make(chan []serialised, 8),
		seen:        map[llb.Vertex]bool{},
		metadata:    map[string]*pb.OpMetadata{},
		merged:      map[string]bool{},
		places:      map[digest.Digest][]*llb.SourceLocation{},
	}
	builder := graph.NewOpsBuilder(change, 3*len(outputs))
	decoded := make(chan error, 1)
	go func() {
		var err error
		for batch := range s.ops { // to the end, or the walk would wait
			for i := 0; i < len(batch) && err == nil; i++ {
				err = builder.Add(batch[i].digest, batch[i].bytes)
			}
		}
		decoded <- err
	}()
	inputs, err := s.walk(ctx, outputs)
	close(s.ops)
	decodeErr := <-decoded
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling llb: %w", err)
	}
	if decodeErr != nil {
		return nil, nil, decodeErr
	}
	end, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Op{Inputs: inputs})
	if err != nil {
		return nil, nil, err
	}
	src, err := s.source(ctx, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling llb: %w", err)
	}
	s.metadata[string(digest.FromBytes(end))] = s.end()
	c.unshiftAll(src)
	c.relocateAll(src)
	return builder.Finish(end, s.metadata, src)
}

// visit is a vertex on the way from an output down, with how many of its inputs are done.
type visit struct {
	vertex llb.Vertex
	inputs []llb.Output
	done   int
}

// walk serialises everything below outputs and returns what reads them.
func (s *serialiser) walk(ctx context.Context, outputs []llb.Output) ([]*pb.Input, error) {
	inputs := make([]*pb.Input, len(outputs))
	var path []visit
	descend := func(v llb.Vertex) {
		if !s.seen[v] {
			s.seen[v] = true
			path = append(path, visit{vertex: v, inputs: v.Inputs()})
		}
	}
	for i, o := range outputs {
		descend(o.Vertex(ctx, s.constraints))
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.done < len(top.inputs) {
				top.done++
				descend(top.inputs[top.done-1].Vertex(ctx, s.constraints))
				continue
			}
			v := top.vertex
			path = path[:len(path)-1]
			if err := s.add(ctx, v); err != nil {
				return nil, err
			}
		}
		var err error
		if inputs[i], err = o.ToInput(ctx, s.constraints); err != nil {
			return nil, err
		}
	}
	s.flush()
	return inputs, nil
}

// add serialises a vertex whose inputs are serialised.
func (s *serialiser) add(ctx context.Context, v llb.Vertex) error {
	d, dt, md, places, err := v.Marshal(ctx, s.constraints)
	if err != nil {
		return err
	}
	for _, p := range places {
		if !slices.Contains(s.maps, p.SourceMap) {
			s.maps = append(s.maps, p.SourceMap)
		}
	}
	have, twice := s.places[d]
	s.places[d] = append(have, places...)
	s.describe(string(d), md)
	if twice {
		return nil
	}
	if s.batch = append(s.batch, serialised{d, dt}); len(s.batch) == 256 {
		s.flush()
	}
	return nil
}

func (s *serialiser) flush() {
	s.ops <- s.batch
	s.batch = nil
}

// describe files what is known about an operation, together with what is known about an
// equal one.
func (s *serialiser) describe(d string, md *pb.OpMetadata) {
	have := s.metadata[d]
	switch {
	case md == nil:
	case have == nil:
		s.metadata[d] = md
	default:
		if !s.merged[d] { // have is the vertex's own, which stays as it is
			s.merged[d] = true
			have = &pb.OpMetadata{}
			mergeMetadata(have, s.metadata[d])
			s.metadata[d] = have
		}
		mergeMetadata(have, md)
	}
}

// mergeMetadata adds what is known about an operation to what is known about an equal
// one; as in BuildKit, the later one is right.
func mergeMetadata(have, md *pb.OpMetadata) {
	have.IgnoreCache = have.IgnoreCache || md.IgnoreCache
	if have.Description == nil && len(md.Description) > 0 {
		have.Description = make(map[string]string, len(md.Description))
	}
	maps.Copy(have.Description, md.Description)
	if have.Caps == nil {
		have.Caps = make(map[string]bool, len(md.Caps))
	}
	for c := range md.Caps {
		have.Caps[c] = true
	}
	have.ExportCache = cmp.Or(md.ExportCache, have.ExportCache)
	have.ProgressGroup = cmp.Or(md.ProgressGroup, have.ProgressGroup)
	have.LinuxResources = cmp.Or(md.LinuxResources, have.LinuxResources)
}

// end is what is known about the entry that points at the results.
func (s *serialiser) end() *pb.OpMetadata {
	md := &pb.OpMetadata{Caps: map[string]bool{string(pb.CapConstraints): true, string(pb.CapPlatform): true}}
	for _, m := range s.metadata {
		if m.IgnoreCache {
			md.Caps[string(pb.CapMetaIgnoreCache)] = true
		}
		if m.Description != nil {
			md.Caps[string(pb.CapMetaDescription)] = true
		}
		if m.ExportCache != nil {
			md.Caps[string(pb.CapMetaExportCache)] = true
		}
	}
	return md
}

// source gives the build files and the places of all operations in them.
func (s *serialiser) source(ctx context.Context, opts []llb.ConstraintsOpt) (*pb.Source, error) {
	// Which of the files are the same, and how they are to be found, is for BuildKit to say.
	def, err := llb.NewState(&reader{files: s.maps}).Marshal(ctx, opts...)
	if err != nil {
		return nil, err
	}
	src := def.Source
	index := make(map[*llb.SourceMap]int32, len(s.maps))
	for _, locs := range src.Locations {
		for i, l := range locs.Locations {
			index[s.maps[i]] = l.SourceIndex
		}
	}
	src.Locations = make(map[string]*pb.Locations, len(s.places))
	for d, places := range s.places {
		locs := &pb.Locations{Locations: make([]*pb.Location, len(places))}
		for i, p := range places {
			locs.Locations[i] = &pb.Location{SourceIndex: index[p.SourceMap], Ranges: p.Ranges}
		}
		src.Locations[string(d)] = locs
	}
	return src, nil
}

// reader is an operation that all of some build files ask for.
type reader struct {
	files []*llb.SourceMap
}

var (
	_ llb.Vertex = (*reader)(nil)
	_ llb.Output = (*reader)(nil)
)

// Validate implements llb.Vertex.
func (r *reader) Validate(context.Context, *llb.Constraints) error { return nil }

// Output implements llb.Vertex.
func (r *reader) Output() llb.Output { return r }

// Inputs implements llb.Vertex.
func (r *reader) Inputs() []llb.Output { return nil }

// Vertex implements llb.Output.
func (r *reader) Vertex(context.Context, *llb.Constraints) llb.Vertex { return r }

// Marshal implements llb.Vertex.
func (r *reader) Marshal(context.Context, *llb.Constraints) (digest.Digest, []byte, *pb.OpMetadata, []*llb.SourceLocation, error) {
	places := make([]*llb.SourceLocation, len(r.files))
	for i, f := range r.files {
		places[i] = &llb.SourceLocation{SourceMap: f}
	}
	return digest.FromBytes(nil), nil, nil, places, nil
}

// ToInput implements llb.Output.
func (r *reader) ToInput(context.Context, *llb.Constraints) (*pb.Input, error) {
	return &pb.Input{Digest: string(digest.FromBytes(nil))}, nil
}
