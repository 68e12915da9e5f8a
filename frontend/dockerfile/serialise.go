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

// serialise gives the operations of outputs and of all below them, and results that are
// the outputs, in order. There has to be an output. Each operation is serialised once,
// inputs first, in the order and to the bytes that [llb.State.Marshal] would give for one
// that reads all outputs; but without recursion, since chains of stages are deep, and what
// is done with operations is done beside, since it takes a good part of the time.
func (c *compiler) serialise(ctx context.Context, outputs []llb.Output, change graph.ChangeOp) (*graph.Ops, []graph.Result, error) {
	opts := []llb.ConstraintsOpt{
		llb.Platform(c.targetPlatform()),
		llb.WithCaps(c.ui.BuildOpts().LLBCaps),
		llb.LocalUniqueID(c.ui.BuildOpts().SessionID),
	}
	s := &serialiser{constraints: llb.NewConstraints(opts...), vertices: make(chan []llb.Vertex, 8), out: make(chan []serialised, 8)}
	k := &collector{
		compiler: c,
		ops:      graph.NewOpsBuilder(change, 3*len(outputs)),
		metadata: map[string]*pb.OpMetadata{},
		merged:   map[string]bool{},
		places:   map[string]*pb.Locations{},
	}
	go s.walk(ctx, outputs)
	collected := make(chan error, 1)
	go func() { collected <- k.collect(s.out) }()
	err := s.run(ctx)
	collectErr := <-collected
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling llb: %w", err)
	}
	if collectErr != nil {
		return nil, nil, collectErr
	}
	src, err := k.source(ctx, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling llb: %w", err)
	}
	c.relocateAll(src)
	end, err := s.end(ctx, outputs)
	if err != nil {
		return nil, nil, err
	}
	k.metadata[string(digest.FromBytes(end))] = k.describeEnd()
	return k.ops.Finish(end, k.metadata, src)
}

// serialiser serialises vertices. Batches of them go from one goroutine to the next: one
// finds the order, one serialises, and one collects what comes of it.
type serialiser struct {
	constraints *llb.Constraints
	vertices    chan []llb.Vertex
	out         chan []serialised
}

// serialised is what is known of a vertex.
type serialised struct {
	digest   digest.Digest
	bytes    []byte
	metadata *pb.OpMetadata
	places   []*llb.SourceLocation
}

// batchSize is how many vertices are handed on at once.
const batchSize = 256

// visit is a vertex on the way from an output down, with how many of its inputs are done.
type visit struct {
	vertex llb.Vertex
	inputs []llb.Output
	done   int
}

// walk finds the vertices of outputs and all below, inputs first.
func (s *serialiser) walk(ctx context.Context, outputs []llb.Output) {
	defer close(s.vertices)
	seen := map[llb.Vertex]bool{}
	alone := map[llb.Vertex]bool{} // what reads nothing
	var path []visit
	var batch []llb.Vertex
	descend := func(v llb.Vertex) {
		if !seen[v] {
			seen[v] = true
			path = append(path, visit{vertex: v, inputs: v.Inputs()})
		}
	}
	for _, o := range outputs {
		descend(o.Vertex(ctx, s.constraints))
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.done < len(top.inputs) {
				top.done++
				descend(top.inputs[top.done-1].Vertex(ctx, s.constraints))
				continue
			}
			here := true
			for _, in := range top.inputs {
				here = here && alone[in.Vertex(ctx, s.constraints)]
			}
			if here {
				// It waits for none that is not done here, where there is less to do. The vertex
				// remembers what comes of it, but for errors, which will come again.
				_, _, _, _, _ = top.vertex.Marshal(ctx, s.constraints)
			}
			if len(top.inputs) == 0 {
				alone[top.vertex] = true
			}
			if batch = append(batch, top.vertex); len(batch) == batchSize {
				s.vertices <- batch
				batch = nil
			}
			path = path[:len(path)-1]
		}
	}
	s.vertices <- batch
}

// run serialises the vertices that are found.
func (s *serialiser) run(ctx context.Context) error {
	defer close(s.out)
	var err error
	for batch := range s.vertices { // to the end, or the walk would wait
		done := make([]serialised, len(batch))
		for i := 0; i < len(batch) && err == nil; i++ {
			o := &done[i]
			o.digest, o.bytes, o.metadata, o.places, err = batch[i].Marshal(ctx, s.constraints)
		}
		if err == nil {
			s.out <- done
		}
	}
	return err
}

// end is the entry that points at the results, which are serialised.
func (s *serialiser) end(ctx context.Context, outputs []llb.Output) ([]byte, error) {
	inputs := make([]*pb.Input, len(outputs))
	for i, o := range outputs {
		var err error
		if inputs[i], err = o.ToInput(ctx, s.constraints); err != nil {
			return nil, err
		}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Op{Inputs: inputs})
}

// collector puts together what a definition holds. Equal operations of several vertices
// are one.
type collector struct {
	compiler *compiler
	ops      *graph.OpsBuilder
	metadata map[string]*pb.OpMetadata
	merged   map[string]bool // that of these is of several vertices
	// places are those in build files, by operation, with an entry for each.
	places map[string]*pb.Locations
	// maps are the build files in the order in which they are met; own says which are the
	// compiler's.
	maps []*llb.SourceMap
	own  []bool
}

// collect adds batches as they come.
func (k *collector) collect(batches <-chan []serialised) error {
	var err error
	for batch := range batches { // to the end, or who serialises would wait
		for i := 0; i < len(batch) && err == nil; i++ {
			err = k.add(batch[i])
		}
	}
	return err
}

func (k *collector) add(o serialised) error {
	d := string(o.digest)
	k.describe(d, o.metadata)
	locs, twice := k.places[d]
	if !twice {
		locs = &pb.Locations{Locations: make([]*pb.Location, 0, len(o.places))}
		k.places[d] = locs
	}
	for _, p := range o.places {
		locs.Locations = append(locs.Locations, k.place(p))
	}
	if twice {
		return nil
	}
	return k.ops.Add(o.digest, o.bytes)
}

// place is a place by the index of its file in maps, and in the text as it is.
func (k *collector) place(p *llb.SourceLocation) *pb.Location {
	n := slices.Index(k.maps, p.SourceMap)
	if n < 0 {
		n = len(k.maps)
		k.maps = append(k.maps, p.SourceMap)
		k.own = append(k.own, k.compiler.isOwn(p.SourceMap.Filename, p.SourceMap.Language, p.SourceMap.Data))
	}
	l := &pb.Location{SourceIndex: int32(n), Ranges: p.Ranges}
	if k.own[n] {
		l.Ranges = make([]*pb.Range, len(p.Ranges))
		for i, r := range p.Ranges {
			l.Ranges[i] = k.compiler.file.unshift(r)
		}
	}
	return l
}

// describe files what is known about an operation, together with what is known about an
// equal one.
func (k *collector) describe(d string, md *pb.OpMetadata) {
	have := k.metadata[d]
	switch {
	case md == nil:
	case have == nil:
		k.metadata[d] = md
	default:
		if !k.merged[d] { // have is the vertex's own, which stays as it is
			k.merged[d] = true
			have = &pb.OpMetadata{}
			mergeMetadata(have, k.metadata[d])
			k.metadata[d] = have
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

// describeEnd is what is known about the entry that points at the results.
func (k *collector) describeEnd() *pb.OpMetadata {
	md := &pb.OpMetadata{Caps: map[string]bool{string(pb.CapConstraints): true, string(pb.CapPlatform): true}}
	for _, m := range k.metadata {
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
func (k *collector) source(ctx context.Context, opts []llb.ConstraintsOpt) (*pb.Source, error) {
	// Which of the files are the same, and how they are to be found, is for BuildKit to say.
	def, err := llb.NewState(&reader{files: k.maps}).Marshal(ctx, opts...)
	if err != nil {
		return nil, err
	}
	src := def.Source
	index := make([]int32, len(k.maps))
	same := true // most often there is one file
	for _, locs := range src.Locations {
		for i, l := range locs.Locations {
			index[i] = l.SourceIndex
			same = same && int(l.SourceIndex) == i
		}
	}
	src.Locations = k.places
	if same {
		return src, nil
	}
	for _, locs := range k.places {
		for _, l := range locs.Locations {
			l.SourceIndex = index[l.SourceIndex]
		}
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
