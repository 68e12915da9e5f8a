package graph

import (
	"fmt"
	"slices"
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
	// Ops, if not nil, takes the place of Definition where many stages are made of the
	// same operations: the stage is what Result yields, with everything below it. A
	// zero Result is the empty file system.
	Ops    *Ops
	Result Result
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
	// near are the operations below the head that are not only reached through the
	// head of an input: the stage's own, and those that it shares with what it reads.
	near map[digest.Digest]bool
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
	if s.Ops == nil {
		var results []Result
		var err error
		if s.Ops, results, err = NewOps(spec.Definition, nil); err != nil {
			return nil, fmt.Errorf("reading the definition of stage %q: %w", spec.Name, err)
		}
		switch len(results) {
		case 0:
		case 1:
			s.Result = results[0]
		default:
			return nil, fmt.Errorf("the definition of stage %q has %d results", spec.Name, len(results))
		}
	}
	if _, ok := s.Ops.index[s.Result.Digest]; !ok && s.Result.Digest != "" {
		return nil, fmt.Errorf("stage %q is the result of %s, which is not among its operations", spec.Name, s.Result.Digest)
	}
	s.Head, s.headIndex = s.Result.Digest, s.Result.Index
	s.own()
	s.ID = s.identity()
	return s, nil
}

// Definition is the LLB of the stage and of everything below it, in the form that
// BuildKit takes. It is made for each call, unless the stage was made of one.
func (s *Stage) Definition() *pb.Definition {
	if s.Spec.Definition != nil {
		return s.Spec.Definition
	}
	return s.Ops.definition(s.Result)
}

// Op is one of the operations that the stage is made of or lies upon; nil if it has no
// such. It must not be changed.
func (s *Stage) Op(d digest.Digest) *pb.Op {
	n, ok := s.Ops.index[d]
	if !ok {
		return nil
	}
	return s.Ops.ops[n].Op
}

// Files are the build files that positions point into, with their texts.
func (s *Stage) Files() []*pb.SourceInfo { return s.Ops.source.GetInfos() }

// Terminal reports whether the stage yields the empty file system.
func (s *Stage) Terminal() bool { return s.Head == "" }

// own fills Steps and Sources with the operations no input has.
func (s *Stage) own() {
	list := s.walk()
	readers := s.readerPos(list)
	theirs := s.ofInputs(list)
	for _, o := range list {
		if theirs[o.digest] {
			continue
		}
		st := Step{
			Digest: o.digest,
			Name:   s.Ops.stepName(o),
			Pos:    s.Ops.stepPos(o.digest),
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

// walk fills near and lists it, inputs first. It stops at the heads of inputs, so that
// its cost is that of the stage and not of what lies below it.
func (s *Stage) walk() []op {
	s.near = map[digest.Digest]bool{}
	if s.Head == "" {
		return nil
	}
	heads := make(map[digest.Digest]bool, len(s.inputs))
	for _, in := range s.inputs {
		heads[in.Head] = true
	}
	if heads[s.Head] {
		s.near[s.Head] = true
		return nil
	}
	at := s.Ops.below(s.Head, func(d digest.Digest) bool { return heads[d] })
	list := make([]op, len(at))
	for i, n := range at {
		list[i] = s.Ops.ops[n]
		s.near[list[i].digest] = true
	}
	return list
}

// ofInputs says which of the operations of list, those of near in order, are part of what
// s reads. Stages whose head stands before all that are left to ask about are passed
// over with all that they read, which makes the answer a short one: what is a stage's own
// stands after most of what it reads.
func (s *Stage) ofInputs(list []op) map[digest.Digest]bool {
	theirs := map[digest.Digest]bool{}
	first := 0 // the first of list that is not known to be theirs
	var seen map[*Stage]bool
	todo := s.inputs
	for len(todo) > 0 {
		in := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		in.share(list, s.near, theirs)
		for first < len(list) && theirs[list[first].digest] {
			first++
		}
		if first == len(list) {
			break
		}
		if len(in.inputs) == 0 || seen[in] || s.Ops.before(in.Head, list[first].digest) {
			continue
		}
		if seen == nil {
			seen = map[*Stage]bool{}
			todo = slices.Clone(todo)
		}
		seen[in] = true
		todo = append(todo, in.inputs...)
	}
	return theirs
}

// share adds the operations near s that are among those of list, the keys of set.
func (s *Stage) share(list []op, set, shared map[digest.Digest]bool) {
	if len(list) < len(s.near) {
		for _, o := range list {
			if s.near[o.digest] {
				shared[o.digest] = true
			}
		}
		return
	}
	for d := range s.near {
		if set[d] {
			shared[d] = true
		}
	}
}

// readerPos gives for operations without a place the place of the first one that
// reads them: frontends give none to what an instruction fetches. A local directory
// is no one instruction's.
func (s *Stage) readerPos(list []op) map[digest.Digest]Pos {
	places := map[digest.Digest]Pos{}
	for _, o := range list {
		src := o.GetSource()
		if src == nil || strings.HasPrefix(src.Identifier, "local://") {
			continue
		}
		if s.Ops.stepPos(o.digest).IsZero() {
			places[o.digest] = Pos{}
		}
	}
	if len(places) == 0 {
		return nil
	}
	for _, o := range list {
		for _, in := range o.Inputs {
			d := digest.Digest(in.Digest)
			if p, wanted := places[d]; wanted && p.IsZero() {
				places[d] = s.Ops.stepPos(o.digest)
			}
		}
	}
	return places
}

func (s *Stage) identity() digest.Digest {
	h := NewHasher("zlayer.stage.v1")
	h.String(string(s.Head))
	h.Int(s.headIndex)
	h.String(platforms.FormatAll(s.Platform))
	h.Bytes(s.Config)
	h.Bytes(s.BaseConfig)
	if s.Epoch != nil {
		h.Int(int(s.Epoch.Unix()))
	}
	return h.Digest()
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
