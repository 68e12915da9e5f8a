package graph

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// InputKind says how a stage reads another one.
type InputKind string

// The ways in which a stage can read another stage.
const (
	// InputBase: the stage starts from the other's file system and config (FROM).
	InputBase InputKind = "base"
	// InputCopy: files are copied out of the other (COPY --from).
	InputCopy InputKind = "copy"
	// InputMount: the other is mounted while a command runs (RUN --mount=from).
	InputMount InputKind = "mount"
)

// Input is an edge of the graph: the stage that holds it needs Stage first.
type Input struct {
	Stage *Stage
	Kind  InputKind
	// Pos is where the build file asks for it.
	Pos Pos
}

// Spec is what a frontend says about a stage; [NewStage] makes the stage of it.
type Spec struct {
	// Name is the stage's name in its build file, or a made-up one ("stage-2").
	// Names are for people: they take no part in identity and need not be unique.
	Name string
	// Pos is where the stage begins in its build file.
	Pos Pos
	// Platform is what the stage is built for; never empty.
	Platform ocispecs.Platform
	// Definition is the LLB of the stage and of everything below it, marshalled
	// with explicit platform and local ids. A nil or empty Definition is the empty
	// file system (scratch).
	Definition *pb.Definition
	// Config is the image config (JSON, OCI image-spec with Docker's additions)
	// that exporting the stage would give; nil where the stage is files only.
	Config []byte
	// BaseConfig is the config of the base image the stage derives from; nil
	// without one.
	BaseConfig []byte
	// Epoch is the time that exported files and configs are clamped to
	// (SOURCE_DATE_EPOCH); nil means no clamping.
	Epoch *time.Time
	// Inputs are the stages this one reads.
	Inputs []Input
}

// Step is one operation of a stage: an instruction or a part of one.
type Step struct {
	// Digest is BuildKit's vertex digest, by which progress reports name the step.
	Digest digest.Digest
	// Name is the text that progress shows.
	Name string
	// Pos is the place of the instruction, for a source without one that of what
	// reads it; zero for internal steps.
	Pos Pos
	// Source is what the step fetches from outside the graph; nil for a step that
	// computes.
	Source *Source
	// Needs is the entitlement that running the step takes, in BuildKit's words
	// ("security.insecure", "network.host"); empty for none. What devices take depends
	// on the daemon.
	Needs string
}

// Source is something a stage reads from outside the graph.
type Source struct {
	// Scheme is the kind of source as BuildKit names it: "local", "docker-image",
	// "oci-layout", "git", "https", "http", "docker-image+blob".
	Scheme string
	// Ref is the identifier without the scheme: a local name, an image reference, a URL.
	Ref string
	// Attrs are BuildKit's source attributes (pb.Attr*).
	Attrs map[string]string
}

// Stage is an immutable unit of a build: LLB, the image config it would have,
// and the stages and sources it reads. Its fields must not be changed.
type Stage struct {
	Spec
	// ID is the digest of the stage's definition: equal for stages that would
	// build the same thing, whatever they are called and wherever they stand.
	ID digest.Digest
	// Head is the digest of the LLB operation that yields the stage's file system;
	// empty for scratch.
	Head digest.Digest
	// Steps are the operations that belong to this stage and to none of its
	// inputs, inputs first. Stages that begin alike share steps when neither reads
	// the other.
	Steps []Step
	// Sources are what the stage's own steps read, in the order of Steps.
	Sources []Source

	inputs    []*Stage // InputStages, made once
	ops       []op     // those of Steps, decoded
	headIndex int      // which result of the head
}

// NewStage checks spec and derives the stage's identity, steps and sources from
// its definition. It fails on a definition that is not well-formed LLB.
func NewStage(spec Spec) (*Stage, error) {
	if spec.Platform.OS == "" || spec.Platform.Architecture == "" {
		return nil, fmt.Errorf("stage %q has no platform", spec.Name)
	}
	spec.Platform = platforms.Normalize(spec.Platform)
	s := &Stage{Spec: spec, inputs: distinct(spec.Inputs)}
	for _, in := range spec.Inputs {
		if in.Stage == nil {
			return nil, fmt.Errorf("stage %q has an input that does not exist", spec.Name)
		}
	}
	ops, head, err := decode(spec.Definition)
	if err != nil {
		return nil, fmt.Errorf("reading the definition of stage %q: %w", spec.Name, err)
	}
	s.Head, s.headIndex = digest.Digest(head.Digest), int(head.Index)
	s.own(ops)
	s.ID = s.identity(head)
	return s, nil
}

// Terminal reports whether the stage yields the empty file system.
func (s *Stage) Terminal() bool { return s.Head == "" }

// op is a decoded LLB operation.
type op struct {
	digest digest.Digest
	*pb.Op
}

// decode unmarshals a definition. LLB is serialised inputs first; the last entry
// has no operation of its own and points at the result. An operation that stands
// there twice is one operation, as it is for BuildKit.
func decode(def *pb.Definition) ([]op, *pb.Input, error) {
	if def == nil || len(def.Def) == 0 {
		return nil, &pb.Input{}, nil
	}
	ops := make([]op, 0, len(def.Def))
	seen := make(map[string]bool, len(def.Def))
	for _, dt := range def.Def {
		o := op{digest: digest.FromBytes(dt), Op: &pb.Op{}}
		if err := o.UnmarshalVT(dt); err != nil {
			return nil, nil, err
		}
		if !seen[string(o.digest)] {
			seen[string(o.digest)] = true
			ops = append(ops, o)
		}
	}
	for _, o := range ops {
		for _, in := range o.Inputs {
			if !seen[in.Digest] {
				return nil, nil, fmt.Errorf("operation %s reads %q, which is not in the definition", o.digest, in.Digest)
			}
		}
	}
	last := ops[len(ops)-1]
	if last.GetOp() != nil || len(last.Inputs) != 1 {
		return nil, nil, errors.New("the last operation does not point at a result")
	}
	return ops[:len(ops)-1], last.Inputs[0], nil
}

// own fills Steps and Sources with the operations no input has.
func (s *Stage) own(ops []op) {
	theirs := s.inputOps(ops)
	readers := s.readerPos(ops)
	for _, o := range ops {
		if theirs[o.digest] {
			continue
		}
		st := Step{
			Digest: o.digest,
			Name:   stepName(s.Definition, o),
			Pos:    stepPos(s.Definition, o.digest),
		}
		st.Needs = needs(o.GetExec())
		if src := o.GetSource(); src != nil {
			if st.Pos.IsZero() {
				st.Pos = readers[o.digest]
			}
			st.Source = newSource(src)
			s.Sources = append(s.Sources, *st.Source)
		}
		s.Steps = append(s.Steps, st)
		s.ops = append(s.ops, o)
	}
}

// readerPos gives for operations without a place the place of the first one that
// reads them: frontends give none to what an instruction fetches. A local directory
// is no one instruction's.
func (s *Stage) readerPos(ops []op) map[digest.Digest]Pos {
	places := map[digest.Digest]Pos{}
	for _, o := range ops {
		src := o.GetSource()
		if src == nil || strings.HasPrefix(src.Identifier, "local://") {
			continue
		}
		if stepPos(s.Definition, o.digest).IsZero() {
			places[o.digest] = Pos{}
		}
	}
	if len(places) == 0 {
		return nil
	}
	for _, o := range ops {
		for _, in := range o.Inputs {
			d := digest.Digest(in.Digest)
			if p, wanted := places[d]; wanted && p.IsZero() {
				places[d] = stepPos(s.Definition, o.digest)
			}
		}
	}
	return places
}

// inputOps gives the operations that are part of an input: its head and everything
// below. So the walk stays within the stage's own definition, however many stages lie
// below it.
func (s *Stage) inputOps(ops []op) map[digest.Digest]bool {
	if len(s.inputs) == 0 {
		return nil
	}
	byDigest := make(map[digest.Digest]op, len(ops))
	for _, o := range ops {
		byDigest[o.digest] = o
	}
	theirs := map[digest.Digest]bool{}
	var todo []digest.Digest
	for _, in := range s.inputs {
		todo = append(todo, in.Head)
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		o, ok := byDigest[d]
		if !ok || theirs[d] {
			continue
		}
		theirs[d] = true
		for _, in := range o.Inputs {
			todo = append(todo, digest.Digest(in.Digest))
		}
	}
	return theirs
}

func (s *Stage) identity(head *pb.Input) digest.Digest {
	h := NewHasher("zlayer.stage.v1")
	h.String(head.Digest)
	h.Int(int(head.Index))
	h.String(platforms.FormatAll(s.Platform))
	h.Bytes(s.Config)
	h.Bytes(s.BaseConfig)
	if s.Epoch != nil {
		h.Int(int(s.Epoch.Unix()))
	}
	return h.Digest()
}

// stepName takes the name that progress shows from the LLB metadata, else the
// kind of the operation.
func stepName(def *pb.Definition, o op) string {
	if md := def.Metadata[string(o.digest)]; md != nil {
		if n := md.Description["llb.customname"]; n != "" {
			return n
		}
	}
	switch x := o.GetOp().(type) {
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

// needs gives the entitlement that an exec operation takes.
func needs(exec *pb.ExecOp) string {
	switch {
	case exec.GetSecurity() == pb.SecurityMode_INSECURE:
		return "security.insecure"
	case exec.GetNetwork() == pb.NetMode_HOST:
		return "network.host"
	}
	return ""
}

// stepPos reads the first source location of an operation.
func stepPos(def *pb.Definition, dgst digest.Digest) Pos {
	if def.Source == nil {
		return Pos{}
	}
	locs := def.Source.Locations[string(dgst)]
	if locs == nil || len(locs.Locations) == 0 {
		return Pos{}
	}
	loc := locs.Locations[0]
	i := int(loc.SourceIndex)
	if i < 0 || i >= len(def.Source.Infos) || len(loc.Ranges) == 0 {
		return Pos{}
	}
	first, last := loc.Ranges[0], loc.Ranges[len(loc.Ranges)-1]
	p := Pos{File: def.Source.Infos[i].Filename}
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

// newSource splits BuildKit's identifier, scheme://ref.
func newSource(src *pb.SourceOp) *Source {
	scheme, ref, _ := strings.Cut(src.Identifier, "://")
	return &Source{Scheme: scheme, Ref: ref, Attrs: src.Attrs}
}

// Definition converts LLB as client/llb marshals it into the form a [Spec] takes.
func Definition(def *llb.Definition) *pb.Definition {
	if def == nil {
		return nil
	}
	return def.ToPB()
}

// InputStages lists the distinct stages s reads directly, in the order of Inputs.
// The slice must not be changed.
func (s *Stage) InputStages() []*Stage { return s.inputs }

func distinct(inputs []Input) []*Stage {
	seen := make(map[*Stage]bool, len(inputs))
	var out []*Stage
	for _, in := range inputs {
		if !seen[in.Stage] {
			seen[in.Stage] = true
			out = append(out, in.Stage)
		}
	}
	return out
}
