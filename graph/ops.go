package graph

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// Ops are LLB operations that stages are made of. Stages of one build file share
// them: a chain of stages would otherwise hold what is below it once for each. They
// are immutable.
type Ops struct {
	ops   []op // in the order they were given
	index map[digest.Digest]int
	reads [][]int // by place in ops, the places of what the operation reads
	// sorted: every operation stands after those that it reads.
	sorted   bool
	metadata map[string]*pb.OpMetadata
	source   *pb.Source
	// end describes the last entry of a definition, which points at the result.
	end *pb.OpMetadata

	vertices vertices
}

// Result is one of the file systems that an operation yields.
type Result struct {
	// Digest is that of the operation; empty is the empty file system.
	Digest digest.Digest
	Index  int
}

// op is a decoded LLB operation.
type op struct {
	digest digest.Digest
	bytes  []byte
	*pb.Op
}

// NewOps decodes a definition and returns what it yields. LLB is serialised inputs
// first; the last entry has no operation of its own and points at the result, or at
// several. An operation that stands there twice is one operation, as it is for BuildKit.
// Nil and an empty definition have no operations and no results. A change that is not
// nil is made to every operation, once, after those that it reads.
func NewOps(def *pb.Definition, change ChangeOp) (*Ops, []Result, error) {
	last := len(def.GetDef()) - 1
	b := NewOpsBuilder(change, last+1)
	if last < 0 {
		b.ops.metadata, b.ops.source = def.GetMetadata(), def.GetSource()
		return b.ops, nil, nil
	}
	for _, dt := range def.Def[:last] {
		if err := b.Add(digest.FromBytes(dt), dt); err != nil {
			return nil, nil, err
		}
	}
	return b.Finish(def.Def[last], def.Metadata, def.Source)
}

// OpsBuilder makes Ops of operations as they come, inputs first, so that they can be
// decoded beside whatever serialises them. It is for one goroutine.
type OpsBuilder struct {
	ops    *Ops
	change changer
	// moved are the digests of operations that became others, before and after.
	moved [][2]digest.Digest
}

// NewOpsBuilder makes a builder without operations, with room for n. change is that of
// [NewOps].
func NewOpsBuilder(change ChangeOp, n int) *OpsBuilder {
	return &OpsBuilder{
		ops:    &Ops{ops: make([]op, 0, n), index: make(map[digest.Digest]int, n)},
		change: changer{change: change},
	}
}

// Add decodes an operation; d is the digest of dt.
func (b *OpsBuilder) Add(d digest.Digest, dt []byte) error { return b.add(d, dt, false) }

func (b *OpsBuilder) add(was digest.Digest, dt []byte, end bool) error {
	d := op{digest: was, bytes: dt, Op: &pb.Op{}}
	if err := d.UnmarshalVT(dt); err != nil {
		return err
	}
	if err := b.change.apply(&d, end); err != nil {
		return err
	}
	if was != d.digest {
		b.moved = append(b.moved, [2]digest.Digest{was, d.digest})
	}
	if _, twice := b.ops.index[d.digest]; !twice {
		b.ops.index[d.digest] = len(b.ops.ops)
		b.ops.ops = append(b.ops.ops, d)
	}
	return nil
}

// Finish adds the entry that points at the results and returns them with the operations.
// metadata and source are those of a definition; they belong to the operations then.
func (b *OpsBuilder) Finish(end []byte, metadata map[string]*pb.OpMetadata, source *pb.Source) (*Ops, []Result, error) {
	o := b.ops
	o.metadata, o.source = metadata, source
	if err := b.add(digest.FromBytes(end), end, true); err != nil {
		return nil, nil, err
	}
	for _, m := range b.moved {
		o.move(m[0], m[1])
	}
	if err := o.link(); err != nil {
		return nil, nil, err
	}
	last := o.ops[len(o.ops)-1]
	if last.GetOp() != nil || len(last.Inputs) == 0 {
		return nil, nil, errors.New("the last operation does not point at a result")
	}
	o.ops, o.reads = o.ops[:len(o.ops)-1], o.reads[:len(o.ops)-1]
	delete(o.index, last.digest)
	o.end = o.metadata[string(last.digest)]
	results := make([]Result, len(last.Inputs))
	for i, in := range last.Inputs {
		results[i] = Result{Digest: digest.Digest(in.Digest), Index: int(in.Index)}
	}
	return o, results, nil
}

// link finds the places of what operations read, so that walks need not look for digests.
func (o *Ops) link() error {
	edges := 0
	for _, d := range o.ops {
		edges += len(d.Inputs)
	}
	all := make([]int, 0, edges)
	o.reads, o.sorted = make([][]int, len(o.ops)), true
	for i, d := range o.ops {
		first := len(all)
		for _, in := range d.Inputs {
			n, ok := o.index[digest.Digest(in.Digest)]
			if !ok {
				return fmt.Errorf("operation %s reads %q, which is not in the definition", d.digest, in.Digest)
			}
			o.sorted = o.sorted && n < i
			all = append(all, n)
		}
		o.reads[i] = all[first:len(all):len(all)]
	}
	return nil
}

// move files what is known about an operation under its new digest.
func (o *Ops) move(was, is digest.Digest) {
	if md, ok := o.metadata[string(was)]; ok {
		delete(o.metadata, string(was))
		o.metadata[string(is)] = md
	}
	if o.source == nil {
		return
	}
	if locs, ok := o.source.Locations[string(was)]; ok {
		delete(o.source.Locations, string(was))
		o.source.Locations[string(is)] = locs
	}
}

// changer changes operations and what reads them. It knows only those that became
// others.
type changer struct {
	change ChangeOp
	became map[digest.Digest]digest.Digest
}

// apply changes an operation in place; one that only points at results is not shown to
// the change.
func (c *changer) apply(d *op, end bool) error {
	if c.change == nil {
		return nil
	}
	changed := false
	if len(c.became) > 0 {
		for _, in := range d.Inputs {
			if is, ok := c.became[digest.Digest(in.Digest)]; ok {
				in.Digest, changed = string(is), true
			}
		}
	}
	if !end {
		mine, err := c.change(d.digest, d.Op)
		if err != nil {
			return err
		}
		changed = changed || mine
	}
	if !changed {
		return nil
	}
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(d.Op)
	if err != nil {
		return err
	}
	was := d.digest
	d.bytes, d.digest = dt, digest.FromBytes(dt)
	if c.became == nil {
		c.became = map[digest.Digest]digest.Digest{}
	}
	c.became[was] = d.digest
	return nil
}

// below lists the places of the operation at first and of all that it reads, directly or
// not, in ascending order; what stop holds for, and what is below that, is left out.
func (o *Ops) below(first int, stop func(int) bool) []int {
	seen := placeSet{}
	seen.add(first)
	for i := 0; i < len(seen.list); i++ {
		for _, n := range o.reads[seen.list[i]] {
			if !stop(n) {
				seen.add(n)
			}
		}
	}
	slices.Sort(seen.list)
	return seen.list
}

// placeSet is a set of places, most often of a few.
type placeSet struct {
	list []int
	all  map[int]bool // made when a look at each of list would take long
}

func (p *placeSet) add(n int) {
	if p.has(n) {
		return
	}
	p.list = append(p.list, n)
	switch {
	case p.all != nil:
		p.all[n] = true
	case len(p.list) > 16:
		p.all = make(map[int]bool, 2*len(p.list))
		for _, n := range p.list {
			p.all[n] = true
		}
	}
}

func (p *placeSet) has(n int) bool {
	if p.all != nil {
		return p.all[n]
	}
	return slices.Contains(p.list, n)
}

// whole lists the places of an operation and of all that it reads, directly or not.
func (o *Ops) whole(d digest.Digest) []int {
	first, ok := o.index[d]
	if !ok {
		return nil
	}
	return o.below(first, func(int) bool { return false })
}

// Below returns the digests of the operation d and of all that it reads, directly or
// not.
func (o *Ops) Below(d digest.Digest) map[digest.Digest]bool {
	at := o.whole(d)
	all := make(map[digest.Digest]bool, len(at))
	for _, n := range at {
		all[o.ops[n].digest] = true
	}
	return all
}

// definition is what BuildKit takes for a result; nil for the empty file system.
func (o *Ops) definition(r Result) *pb.Definition {
	if r.Digest == "" {
		return nil
	}
	at := o.whole(r.Digest)
	def := &pb.Definition{Def: make([][]byte, 0, len(at)+1), Metadata: make(map[string]*pb.OpMetadata, len(at)+1)}
	if o.source != nil {
		def.Source = &pb.Source{Infos: o.source.Infos, Locations: make(map[string]*pb.Locations, len(at))}
	}
	for _, n := range at {
		d := o.ops[n]
		def.Def = append(def.Def, d.bytes)
		key := string(d.digest)
		if md := o.metadata[key]; md != nil {
			def.Metadata[key] = md
		}
		if o.source == nil {
			continue
		}
		if locs := o.source.Locations[key]; locs != nil {
			def.Source.Locations[key] = locs
		}
	}
	end, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Op{Inputs: []*pb.Input{{Digest: string(r.Digest), Index: int64(r.Index)}}})
	if err != nil {
		panic(err) // two plain fields; there is nothing that could fail
	}
	def.Def = append(def.Def, end)
	if o.end != nil {
		def.Metadata[string(digest.FromBytes(end))] = o.end
	}
	return def
}

// stepName takes the name that progress shows from the LLB metadata, else the
// kind of the operation.
func (o *Ops) stepName(d op) string {
	if md := o.metadata[string(d.digest)]; md != nil {
		if n := md.Description["llb.customname"]; n != "" {
			return n
		}
	}
	switch x := d.GetOp().(type) {
	case *pb.Op_Source:
		return x.Source.Identifier
	case *pb.Op_Exec:
		return "run"
	case *pb.Op_File:
		return "file"
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	case *pb.Op_Build:
		return "build"
	}
	return "step"
}

// stepPos reads the first source location of an operation.
func (o *Ops) stepPos(dgst digest.Digest) Pos {
	if o.source == nil {
		return Pos{}
	}
	locs := o.source.Locations[string(dgst)]
	if locs == nil || len(locs.Locations) == 0 {
		return Pos{}
	}
	loc := locs.Locations[0]
	i := int(loc.SourceIndex)
	if i < 0 || i >= len(o.source.Infos) || len(loc.Ranges) == 0 {
		return Pos{}
	}
	first, last := loc.Ranges[0], loc.Ranges[len(loc.Ranges)-1]
	p := Pos{File: o.source.Infos[i].Filename}
	if first.Start != nil {
		p.Line = int(first.Start.Line)
		if first.Start.Character > 0 { // 0 also where the column is not known
			p.Column = int(first.Start.Character) + 1
		}
	}
	if last.End != nil && int(last.End.Line) > p.Line {
		p.EndLine = int(last.End.Line)
	}
	return p
}
