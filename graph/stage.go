package graph

import (
	"fmt"
	"slices"
	"strings"
	"sync"
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
	headAt    int      // the place of the head, -1 without one
	alias     bool     // the head is that of an input
	// near are the places of the operations below the head that are not only reached
	// through the head of an input, in ascending order: the stage's own, and those that it
	// shares with what it reads.
	near []int
}

// NewStage checks spec and derives the stage's identity, steps and sources from
// its definition. It fails on a definition that is not well-formed LLB.
func NewStage(spec Spec) (*Stage, error) {
	s, err := begin(spec)
	if err != nil {
		return nil, err
	}
	s.walk()
	s.complete()
	return s, nil
}

// NewStages makes n stages as [NewStage] does. spec gives what is said about the i-th, whose
// inputs can be among those made before; nothing but their addresses is of use then, since
// what takes time is done at the end, for many stages at once.
func NewStages(n int, spec func(i int, made []*Stage) Spec) ([]*Stage, error) {
	made := make([]*Stage, 0, n)
	for i := range n {
		s, err := begin(spec(i, made))
		if err != nil {
			return nil, err
		}
		made = append(made, s)
	}
	// What belongs to a stage depends on what is near those that it reads.
	atOnce(made, (*Stage).walk)
	atOnce(made, (*Stage).complete)
	return made, nil
}

// atOnce calls f for each of some stages, on all processors if they are many.
func atOnce(stages []*Stage, f func(*Stage)) {
	var wg sync.WaitGroup
	for part := range slices.Chunk(stages, 128) {
		wg.Go(func() {
			for _, s := range part {
				f(s)
			}
		})
	}
	wg.Wait()
}

// begin checks spec, and knows of the stage what others need to know of it.
func begin(spec Spec) (*Stage, error) {
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
	s.headAt = -1
	if n, ok := s.Ops.index[s.Result.Digest]; ok {
		s.headAt = n
	} else if s.Result.Digest != "" {
		return nil, fmt.Errorf("stage %q is the result of %s, which is not among its operations", spec.Name, s.Result.Digest)
	}
	s.Head, s.headIndex = s.Result.Digest, s.Result.Index
	return s, nil
}

// complete finds out the rest, when it is known what is near the stage and its inputs.
func (s *Stage) complete() {
	s.own()
	s.ID = s.identity()
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
	if s.alias {
		return
	}
	list := s.near
	readers := s.readerPos(list)
	theirs := s.ofInputs(list)
	mine := 0
	for _, t := range theirs {
		if !t {
			mine++
		}
	}
	if mine == 0 {
		return
	}
	s.Steps, s.ops = make([]Step, 0, mine), make([]op, 0, mine)
	for i, n := range list {
		if theirs[i] {
			continue
		}
		o := s.Ops.ops[n]
		st := Step{
			Digest: o.digest,
			Name:   s.Ops.stepName(o),
			Pos:    s.Ops.stepPos(o.digest),
		}
		st.Needs = needs(o.GetExec())
		if src := o.GetSource(); src != nil {
			if st.Pos.IsZero() {
				st.Pos = readers[n]
			}
			st.Source = newSource(src)
			s.Sources = append(s.Sources, *st.Source)
		}
		s.Steps = append(s.Steps, st)
		s.ops = append(s.ops, o)
	}
}

// walk fills near. It stops at the heads of inputs, so that its cost is that of the stage
// and not of what lies below it.
func (s *Stage) walk() {
	if s.headAt < 0 {
		return
	}
	heads := placeSet{}
	for _, in := range s.inputs {
		if n := s.Ops.placeOfHead(in); n >= 0 {
			heads.add(n)
		}
	}
	if s.alias = heads.has(s.headAt); s.alias {
		s.near = []int{s.headAt}
		return
	}
	s.near = s.Ops.below(s.headAt, heads.has)
}

// placeOfHead is where the head of a stage stands, -1 where it does not.
func (o *Ops) placeOfHead(s *Stage) int {
	if s.Ops == o || s.headAt < 0 {
		return s.headAt
	}
	if n, ok := o.index[s.Head]; ok {
		return n
	}
	return -1
}

// ofInputs says which of list, the places near in order, are part of what s reads. Stages
// whose head stands before all that are left to ask about are passed over with all that
// they read, which makes the answer a short one: what is a stage's own stands after most
// of what it reads.
func (s *Stage) ofInputs(list []int) []bool {
	theirs := make([]bool, len(list))
	first := 0 // the first of list that is not known to be theirs
	var seen map[*Stage]bool
	todo := s.inputs
	for len(todo) > 0 {
		in := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		in.share(s.Ops, list, theirs)
		for first < len(list) && theirs[first] {
			first++
		}
		if first == len(list) {
			break
		}
		if len(in.inputs) == 0 || seen[in] || s.Ops.before(in, list[first]) {
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

// before reports whether the head of a stage is certain to stand before the operation at
// a place, so that nothing of the stage reads it.
func (o *Ops) before(s *Stage, place int) bool {
	n := o.placeOfHead(s)
	return o.sorted && n >= 0 && n < place
}

// share marks those of list, places in o, that are among the operations near s.
func (s *Stage) share(o *Ops, list []int, shared []bool) {
	if len(list) < len(s.near) {
		for i, n := range list {
			if !shared[i] {
				_, shared[i] = slices.BinarySearch(s.near, s.Ops.place(o, n))
			}
		}
		return
	}
	for _, n := range s.near {
		if i, ok := slices.BinarySearch(list, o.place(s.Ops, n)); ok {
			shared[i] = true
		}
	}
}

// place is where the operation at a place in other stands, -1 where it does not.
func (o *Ops) place(other *Ops, n int) int {
	if o == other {
		return n
	}
	if n, ok := o.index[other.ops[n].digest]; ok {
		return n
	}
	return -1
}

// readerPos gives for operations without a place the place of the first one that
// reads them: frontends give none to what an instruction fetches. A local directory
// is no one instruction's.
func (s *Stage) readerPos(list []int) map[int]Pos {
	var places map[int]Pos
	for _, n := range list {
		o := s.Ops.ops[n]
		src := o.GetSource()
		if src == nil || strings.HasPrefix(src.Identifier, "local://") || !s.Ops.stepPos(o.digest).IsZero() {
			continue
		}
		if places == nil {
			places = map[int]Pos{}
		}
		places[n] = Pos{}
	}
	if places == nil {
		return nil
	}
	for _, n := range list {
		for _, in := range s.Ops.reads[n] {
			if p, wanted := places[in]; wanted && p.IsZero() {
				places[in] = s.Ops.stepPos(s.Ops.ops[n].digest)
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
