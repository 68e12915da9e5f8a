package dockerfile

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// seenStage is what is to be seen of a stage, but for the places of its steps.
type seenStage struct {
	Name, ID, Config, Base string
	Pos                    graph.Pos
	Steps                  []graph.Step
	Inputs                 []string
}

func see(t *testing.T, s *graph.Stage) []seenStage {
	t.Helper()
	g, err := graph.New(s)
	if err != nil {
		t.Fatal(err)
	}
	var out []seenStage
	for _, s := range g.Stages() {
		v := seenStage{Name: s.Name, ID: string(s.ID), Config: string(s.Config), Base: string(s.BaseConfig), Pos: s.Pos}
		for _, st := range s.Steps {
			st.Pos = graph.Pos{}
			v.Steps = append(v.Steps, st)
		}
		for _, in := range s.Inputs {
			v.Inputs = append(v.Inputs, string(in.Kind)+" "+string(in.Stage.ID)+" "+in.Pos.String())
		}
		out = append(out, v)
	}
	return out
}

// compileBy compiles a Dockerfile in one of the ways, if one lowering may be enough for
// it.
func compileBy(t *testing.T, dir string, opts map[string]string, o Options, way func(c *compiler, target *decl) (*compiled, error)) (*compiled, []string) {
	t.Helper()
	ctx := context.Background()
	gw := open(dir, opts)
	b, err := newBuild(ctx, gw, o)
	if err != nil {
		return nil, nil
	}
	c, target, err := b.compiler(ctx, nil, true)
	defer c.ahead.drop()
	if err != nil || target == nil || !c.onceWillDo() {
		return nil, nil
	}
	out, err := way(c, target)
	if err != nil {
		return nil, []string{err.Error()}
	}
	warnings := gw.Client.(*gateway).warnings
	slices.Sort(warnings) // some come in the order of a map
	return out, warnings
}

// compareWays compiles a Dockerfile with one lowering and with two, and reports
// whether one was enough.
func compareWays(t *testing.T, text string, opts map[string]string) bool {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	writeFile(t, dir, "Dockerfile", text)
	writeFile(t, dir, "one", "1")
	writeFile(t, dir, "two", "2")
	byOne := func(c *compiler, target *decl) (*compiled, error) { return c.compileOnce(ctx, target, true) }
	once, onceWarned := compileBy(t, dir, opts, Options{}, byOne)
	if once == nil && onceWarned == nil {
		return false
	}
	// What the lowering gives for the Dockerfile as it is, the definition must be to the
	// last byte and position.
	var plain *pb.Definition
	twice, twiceWarned := compileBy(t, dir, opts, Options{}, func(c *compiler, target *decl) (*compiled, error) {
		res, err := dockerfile2llb.Dockerfile2LLB(ctx, c.text, c.convertOpt(ctx))
		if err != nil {
			return nil, err
		}
		if plain, err = c.marshal(ctx, res.State); err != nil {
			return nil, err
		}
		c.client.Client.(*resolveCache).Client.(*frontend.Files).Client.(*gateway).warnings = nil
		return c.compileTwice(ctx, target, true)
	})
	if diff := cmp.Diff(twiceWarned, onceWarned); diff != "" {
		t.Errorf("warnings, or the mistake (-twice +once):\n%s", diff)
	}
	if once == nil || twice == nil {
		return false
	}
	if diff := cmp.Diff(see(t, twice.stage), see(t, once.stage)); diff != "" {
		t.Errorf("stages (-twice +once):\n%s", diff)
	}
	def := once.stage.Definition()
	if def == nil {
		def = &pb.Definition{}
	}
	if len(plain.Def) > 0 {
		sortDefinition(plain)
		sortDefinition(def)
		if diff := cmp.Diff(plain, def, protocmp.Transform()); diff != "" {
			t.Errorf("definition (-as it is +once):\n%s", diff)
		}
	} else if len(def.Def) > 0 {
		t.Error("the target is not empty")
	}
	local := func(name string) string { return "zlayer-" + name }
	renamed, _ := compileBy(t, dir, opts, Options{Local: local}, byOne)
	g, err := graph.New(once.stage)
	if err != nil {
		t.Fatal(err)
	}
	g, err = graph.Rewrite(g, func(_ digest.Digest, op *pb.Op) (bool, error) {
		src := op.GetSource()
		if src == nil || !strings.HasPrefix(src.Identifier, "local://") {
			return false, nil
		}
		src.Identifier = "local://" + local(src.Identifier[len("local://"):])
		return true, nil
	}, graph.Rewriting{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(see(t, g.Outputs()[0]), see(t, renamed.stage)); diff != "" {
		t.Errorf("renamed (-rewritten +once):\n%s", diff)
	}
	return true
}

// sortDefinition puts operations into an order that does not depend on how they were
// walked, and takes ids away that are drawn; the last entry stays.
func sortDefinition(def *pb.Definition) {
	for _, md := range def.Metadata {
		if md.ProgressGroup != nil {
			md.ProgressGroup.Id = ""
		}
	}
	slices.SortFunc(def.Def[:len(def.Def)-1], slices.Compare)
}

// One lowering gives what two give, to the last byte and position.
func TestOneLoweringIsEnough(t *testing.T) {
	files, err := filepath.Glob("../../integration/testdata/*/*/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range files {
		dt, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[f] = string(dt)
	}
	enough := 0
	try := func(t *testing.T, text string, opts map[string]string) {
		if compareWays(t, text, opts) {
			enough++
		}
	}
	for name, c := range compileCases {
		t.Run(name, func(t *testing.T) { try(t, c.text, c.opts) })
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) { try(t, text, nil) })
	}
	if enough < 200 {
		t.Errorf("one lowering was enough for %d files, and the comparison has little to say", enough)
	}
}

// Where the argument of the lowering would be seen, the Dockerfile is lowered as it is.
func TestOneLoweringIsNotSeen(t *testing.T) {
	stages := "FROM busybox AS a\nRUN echo a\nFROM busybox\nCOPY --from=a /etc /x\n"
	for name, c := range map[string]struct {
		text string
		opts map[string]string
	}{
		"given":        {text: stages, opts: map[string]string{"build-arg:" + scanStageArg: "true"}},
		"sbom":         {text: stages, opts: map[string]string{"attest:sbom": ""}},
		"declared":     {text: "ARG " + scanStageArg + "=false\n" + stages},
		"used":         {text: strings.Replace(stages, "RUN echo", "ARG "+scanStageArg+"\nRUN echo", 1)},
		"continued":    {text: strings.Replace(stages, "RUN echo", "ARG BUILDKIT_SBOM_\\\nSCAN_STAGE\nRUN echo", 1)},
		"trigger":      {text: "FROM busybox AS a\nONBUILD ARG " + scanStageArg + "\nFROM a\nRUN true\n"},
		"in from":      {text: strings.Replace(stages, "FROM busybox\n", "FROM busy${"+scanStageArg+":+}box\n", 1)},
		"base trigger": {text: "FROM scanned\nRUN true\n"},
		"suggested":    {text: "FROM busy${BUILDKIT_SBM_SCAN_STAGE}box\nRUN true\n"},
		"name taken":   {text: compileCases["name taken"].text},
		"shebang":      {text: "#!/usr/bin/zlayer\n# check=skip=all\n" + stages},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			dir := t.TempDir()
			writeFile(t, dir, "Dockerfile", c.text)
			gw := open(dir, c.opts)
			gw.Client.(*gateway).images["docker.io/library/scanned:latest"] =
				strings.Replace(busyboxConfig, `"Cmd"`, `"OnBuild":["ARG `+scanStageArg+`"],"Cmd"`, 1)
			b, err := newBuild(ctx, gw, Options{})
			if err != nil {
				t.Fatal(err)
			}
			comp, target, err := b.compiler(ctx, nil, true)
			defer comp.ahead.drop()
			if err != nil {
				t.Fatal(err)
			}
			if comp.onceWillDo() {
				out, err := comp.compileOnce(ctx, target, true)
				if out != nil || err != nil {
					t.Fatalf("one lowering was taken for enough (%v)", err)
				}
			}
			out, err := b.compileTarget(ctx, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range gw.Client.(*gateway).warnings {
				if name != "in from" && strings.Contains(w, scanStageArg) {
					t.Errorf("warned of the argument: %s", w)
				}
			}
			if text := string(out.stage.Config); strings.Contains(text, scanStageArg+"=true") {
				t.Errorf("the argument is in the config: %s", text)
			}
		})
	}
}

// Positions of what a nested build asks for are those of its own file.
func TestNestedPositionsStay(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	writeFile(t, dir, "Dockerfile", "FROM busybox AS base\nRUN echo 2\nFROM scratch\nCOPY --from=base /etc /x\n")
	inner, err := Compile(ctx, open(dir, nil), Options{Name: "inner/Dockerfile"})
	if err != nil {
		t.Fatal(err)
	}
	outer := t.TempDir()
	writeFile(t, outer, "Dockerfile", "# a comment\nFROM nested AS n\nRUN echo 3\nFROM busybox\nCOPY --from=n /x /y\n")
	g, err := Compile(ctx, open(outer, nil), Options{Name: "outer/Dockerfile", Nested: func(_ context.Context, ref Reference) (*graph.Stage, error) {
		if ref.Name == "nested" {
			return inner.Outputs()[0], nil
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"[base 1/2] FROM docker.io/library/busybox:latest@" + digest.FromString("docker.io/library/busybox:latest").String(): "inner/Dockerfile:1",
		"[base 2/2] RUN echo 2":                  "inner/Dockerfile:2",
		"[stage-1 1/1] COPY --from=base /etc /x": "inner/Dockerfile:4",
		"[n 1/2] RUN echo 3":                     "outer/Dockerfile:3",
		"[stage-1 2/2] COPY --from=n /x /y":      "outer/Dockerfile:5",
	}
	got := map[string]string{}
	for _, s := range g.Stages() {
		for _, st := range s.Steps {
			if _, wanted := want[st.Name]; wanted {
				got[st.Name] = st.Pos.String()
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

func FuzzOneLowering(f *testing.F) {
	for _, c := range compileCases {
		f.Add(c.text)
	}
	f.Add("# syntax=docker/dockerfile:1\n# check=skip=all\n# comment\n\nARG A=1\n# check=skip=StageNameCasing\nFROM busybox AS B\nRUN echo $A\nfrom B\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := newBuild(context.Background(), newGateway(t, map[string]string{"Dockerfile": text}, nil), Options{}); err != nil {
			return
		}
		compareWays(t, text, nil)
	})
}
