package graph

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispecs.Platform{OS: "linux", Architecture: "amd64"}

// spec makes the spec of a stage named name.
func spec(t testing.TB, name string, st llb.State, inputs ...Input) Spec {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Name: name, Platform: amd64, Definition: Definition(def), Inputs: inputs}
}

func newStage(t testing.TB, s Spec) *Stage {
	t.Helper()
	st, err := NewStage(s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// at places an operation on lines of a file.
func at(src *llb.SourceMap, first, last int) llb.ConstraintsOpt {
	return src.Location([]*pb.Range{{Start: &pb.Position{Line: int32(first)}, End: &pb.Position{Line: int32(last)}}})
}

func stepNames(s *Stage) []string {
	var names []string
	for _, st := range s.Steps {
		names = append(names, st.Name)
	}
	return names
}

func TestNewStage(t *testing.T) {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("FROM golang\nRUN make \\\n  all\n"))
	base := llb.Image("docker.io/library/golang:1.26", at(src, 1, 1))
	build := base.Run(llb.Shlex("make all"), at(src, 2, 3), llb.WithCustomName("[build 2/2] RUN make all")).Root()
	s := newStage(t, spec(t, "build", build))
	if s.Terminal() || s.Head != s.Steps[1].Digest {
		t.Errorf("head %s is not the last of %v", s.Head, s.Steps)
	}
	source := &Source{Scheme: "docker-image", Ref: "docker.io/library/golang:1.26"}
	want := []Step{
		{Digest: s.Steps[0].Digest, Name: "docker-image://docker.io/library/golang:1.26", Pos: Pos{File: "Dockerfile", Line: 1}, Source: source},
		{Digest: s.Steps[1].Digest, Name: "[build 2/2] RUN make all", Pos: Pos{File: "Dockerfile", Line: 2, EndLine: 3}},
	}
	if diff := cmp.Diff(want, s.Steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Source{*source}, s.Sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestSources(t *testing.T) {
	st := llb.Merge([]llb.State{
		llb.Local("context", llb.LocalUniqueID("x"), llb.FollowPaths([]string{"a"})),
		llb.Git("github.com/moby/buildkit.git", "v0.34.2"),
		llb.HTTP("https://example.com/file"),
	})
	s := newStage(t, spec(t, "all", st))
	var got []string
	for _, src := range s.Sources {
		got = append(got, src.Scheme+" "+src.Ref)
	}
	slices.Sort(got)
	want := []string{"git github.com/moby/buildkit.git#v0.34.2", "https example.com/file", "local context"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	for _, src := range s.Sources {
		if src.Scheme == "local" && src.Attrs[pb.AttrFollowPaths] != `["a"]` {
			t.Errorf("local source: got attributes %v", src.Attrs)
		}
	}
}

// What an instruction fetches stands where the instruction does.
func TestSourcePos(t *testing.T) {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("FROM scratch\nADD https://example.com/a /\nCOPY b /\n"))
	st := llb.Scratch().
		File(llb.Copy(llb.HTTP("https://example.com/a"), "a", "/"), at(src, 2, 2)).
		File(llb.Copy(llb.Local("context", llb.LocalUniqueID("x")), "b", "/"), at(src, 3, 3))
	s := newStage(t, spec(t, "fetching", st))
	got := map[string]Pos{}
	for _, step := range s.Steps {
		if step.Source != nil {
			got[step.Source.Scheme] = step.Pos
		}
	}
	want := map[string]Pos{"https": {File: "Dockerfile", Line: 2}, "local": {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions of sources (-want +got):\n%s", diff)
	}
}

func TestStepsOfInputsAreNotOwn(t *testing.T) {
	base := llb.Image("base").File(llb.Mkdir("/base", 0o755), llb.WithCustomName("base"))
	deps := base.File(llb.Mkdir("/deps", 0o755), llb.WithCustomName("deps"))
	other := llb.Image("base").File(llb.Mkdir("/other", 0o755), llb.WithCustomName("other"))
	out := deps.File(llb.Copy(other, "/", "/"), llb.WithCustomName("out"))

	sBase := newStage(t, spec(t, "base", base))
	sDeps := newStage(t, spec(t, "deps", deps, Input{Stage: sBase, Kind: InputBase}))
	sOther := newStage(t, spec(t, "other", other))
	sOut := newStage(t, spec(t, "out", out, Input{Stage: sDeps, Kind: InputBase}, Input{Stage: sOther, Kind: InputCopy}))
	for _, tt := range []struct {
		stage *Stage
		want  []string
	}{
		{sBase, []string{"docker-image://docker.io/library/base:latest", "base"}},
		{sDeps, []string{"deps"}},
		{sOther, []string{"docker-image://docker.io/library/base:latest", "other"}}, // shared, and nobody's alone
		{sOut, []string{"out"}},
	} {
		if diff := cmp.Diff(tt.want, stepNames(tt.stage)); diff != "" {
			t.Errorf("steps of %s (-want +got):\n%s", tt.stage.Name, diff)
		}
	}
	alias := newStage(t, spec(t, "alias", base, Input{Stage: sBase, Kind: InputBase}))
	if len(alias.Steps) != 0 || alias.Head != sBase.Head {
		t.Errorf("a stage that adds nothing has steps %v", alias.Steps)
	}
}

func TestScratch(t *testing.T) {
	for name, def := range map[string]*pb.Definition{"nil": nil, "empty": {}} {
		s := newStage(t, Spec{Name: name, Platform: amd64, Definition: def})
		if !s.Terminal() || len(s.Steps) != 0 || s.ID == "" {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if s := newStage(t, spec(t, "scratch", llb.Scratch())); !s.Terminal() {
		t.Errorf("scratch as llb has it is not the empty file system: head %s", s.Head)
	}
}

func TestIdentity(t *testing.T) {
	epoch, later := time.Unix(1, 0), time.Unix(2, 0)
	st := llb.Image("base").File(llb.Mkdir("/a", 0o755))
	change := map[string]func(*Spec){
		"":            func(*Spec) {},
		"config":      func(s *Spec) { s.Config = []byte(`{"a":1}`) },
		"base config": func(s *Spec) { s.BaseConfig = []byte(`{"a":1}`) },
		"epoch":       func(s *Spec) { s.Epoch = &epoch },
		"later epoch": func(s *Spec) { s.Epoch = &later },
		"platform":    func(s *Spec) { s.Platform.Architecture = "arm64" },
		"variant":     func(s *Spec) { s.Platform = ocispecs.Platform{OS: "linux", Architecture: "arm", Variant: "v6"} },
		"os version":  func(s *Spec) { s.Platform.OSVersion = "10.0.1" },
		"definition":  func(s *Spec) { s.Definition = spec(t, "", st.File(llb.Mkdir("/b", 0o755))).Definition },
		"scratch":     func(s *Spec) { s.Definition = nil },
	}
	seen := map[string]string{}
	for what, f := range change {
		s := spec(t, "a", st)
		f(&s)
		id := string(newStage(t, s).ID)
		if other, ok := seen[id]; ok {
			t.Errorf("changing %q and changing %q give the same ID", what, other)
		}
		seen[id] = what
	}

	same := map[string]func(*Spec){
		"name":     func(s *Spec) { s.Name = "other" },
		"position": func(s *Spec) { s.Pos = Pos{File: "x", Line: 7} },
		"names of steps": func(s *Spec) {
			s.Definition = spec(t, "", llb.Image("base").File(llb.Mkdir("/a", 0o755), llb.WithCustomName("x"))).Definition
		},
		"platform spelling": func(s *Spec) { s.Platform.Architecture = "x86_64" },
		"an edge":           func(s *Spec) { s.Inputs = []Input{{Stage: newStage(t, spec(t, "in", llb.Image("base")))}} },
		"empty config":      func(s *Spec) { s.Config = []byte{} },
	}
	want := newStage(t, spec(t, "a", st)).ID
	for what, f := range same {
		s := spec(t, "a", st)
		f(&s)
		if got := newStage(t, s).ID; got != want {
			t.Errorf("%s takes part in the identity", what)
		}
	}
}

// TestIdentityIsStable pins an ID on purpose: when it changes, every cache that is
// keyed by stages is cold.
func TestIdentityIsStable(t *testing.T) {
	s := Spec{Name: "a", Platform: amd64, Config: []byte(`{"config":{}}`)}
	const want = "sha256:370a228db0fcc3738db43b6e2ba0627f93c17f690244a08a5695babbba7e6747"
	if got := newStage(t, s).ID; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBadSpecs(t *testing.T) {
	good := spec(t, "a", llb.Image("base").File(llb.Mkdir("/a", 0o755)))
	defs := good.Definition.Def
	for _, tt := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no platform", Spec{Name: "a"}, `stage "a" has no platform`},
		{"nil input", Spec{Name: "a", Platform: amd64, Inputs: []Input{{}}}, `stage "a" has an input that does not exist`},
		{"not LLB", Spec{Name: "a", Platform: amd64, Definition: &pb.Definition{Def: [][]byte{[]byte("FROM x")}}}, `reading the definition of stage "a"`},
		{"no result", Spec{Name: "a", Platform: amd64, Definition: &pb.Definition{Def: defs[:len(defs)-1]}}, "does not point at a result"},
		{"missing input", Spec{Name: "a", Platform: amd64, Definition: &pb.Definition{Def: defs[1:]}}, "which is not in the definition"},
		{"nothing but the end", Spec{Name: "a", Platform: amd64, Definition: &pb.Definition{Def: [][]byte{nil}}}, "does not point at a result"},
	} {
		if _, err := NewStage(tt.spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestBadSourceLocations(t *testing.T) {
	s := spec(t, "a", llb.Image("base"))
	dgst := newStage(t, s).Head
	for name, loc := range map[string]*pb.Locations{
		"nil":          nil,
		"empty":        {},
		"index beyond": {Locations: []*pb.Location{{SourceIndex: 7, Ranges: []*pb.Range{{}}}}},
		"index below":  {Locations: []*pb.Location{{SourceIndex: -1, Ranges: []*pb.Range{{}}}}},
		"no range":     {Locations: []*pb.Location{{}}},
	} {
		s.Definition.Source = &pb.Source{Infos: []*pb.SourceInfo{{Filename: "f"}}, Locations: map[string]*pb.Locations{string(dgst): loc}}
		if got := newStage(t, s).Steps[0].Pos; !got.IsZero() {
			t.Errorf("%s: got position %v", name, got)
		}
	}
}

func FuzzNewStage(f *testing.F) {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("FROM x"))
	for _, st := range []llb.State{
		llb.Image("base"),
		llb.Image("base").Run(llb.Shlex("make"), at(src, 1, 1), llb.AddMount("/m", llb.Image("other"))).Root(),
		llb.Merge([]llb.State{llb.Image("a"), llb.Git("example.com/x.git", "")}),
		llb.Diff(llb.Image("a"), llb.Image("b")),
		llb.Scratch(),
	} {
		dt, err := spec(f, "", st).Definition.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(dt)
	}
	f.Fuzz(func(t *testing.T, dt []byte) {
		def := &pb.Definition{}
		if def.UnmarshalVT(dt) != nil {
			return
		}
		s, err := NewStage(Spec{Name: "fuzz", Platform: amd64, Definition: def})
		if err != nil {
			return
		}
		again := newStage(t, Spec{Name: "again", Platform: amd64, Definition: def})
		if again.ID != s.ID {
			t.Error("equal definitions give different IDs")
		}
		seen := map[string]bool{}
		for _, st := range s.Steps {
			if seen[string(st.Digest)] {
				t.Errorf("step %s is there twice", st.Digest)
			}
			seen[string(st.Digest)] = true
		}
		if s.Head != "" && !seen[string(s.Head)] {
			t.Errorf("the head %s is not a step", s.Head)
		}
		above := newStage(t, Spec{Name: "above", Platform: amd64, Definition: def, Inputs: []Input{{Stage: s, Kind: InputBase}}})
		for _, st := range above.Steps {
			if st.Digest == s.Head {
				t.Error("the head of an input is counted again")
			}
		}
		g, err := New(above)
		if err != nil {
			t.Fatal(err)
		}
		for _, print := range printers {
			if err := print(discard{}, g); err != nil {
				t.Error(err)
			}
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
