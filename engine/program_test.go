package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/graph"
)

// pair is a program and the build file that says the same.
type pair struct {
	name  string
	stage func(dir string) *dag.Stage
	file  string
}

func pairs() []pair {
	bb := baseStage
	on := func(steps ...dag.Step) func(dir string) *dag.Stage {
		return func(dir string) *dag.Stage { return dag.New(dag.Spec{From: bb(dir), Steps: steps}) }
	}
	return []pair{
		{"base", bb, base},
		{"run", on(dag.Shell("echo hi > /a"), dag.Shell("set -e\necho x\n")), base + "FROM base\nRUN echo hi > /a\nRUN <<EOF\nset -e\necho x\nEOF\n"},
		{"env", on(dag.Env("A", "b c"), dag.Env("D", "$A"), dag.Shell("env")), base + "FROM base\nENV A=\"b c\"\nENV D=\\$A\nRUN env\n"},
		{"meta", on(dag.Workdir("/w"), dag.User("1:2"), dag.Configure(dag.Config{
			Labels: map[string]string{"l": "v"}, Expose: []string{"80"}, Volumes: []string{"/v"}, StopSignal: "SIGINT",
			Healthcheck: &dag.Healthcheck{Shell: "true"}, Entrypoint: []string{"a"}, Cmd: []string{"b", "c"},
		})), base + "FROM base\nWORKDIR /w\nUSER 1:2\nLABEL l=v\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"a\"]\nCMD [\"b\", \"c\"]\n"},
		{"copy", func(dir string) *dag.Stage {
			tree := dag.Local(dir)
			one := dag.New(dag.Spec{From: bb(dir), Steps: []dag.Step{dag.Copy(dag.Files{From: tree, Src: []string{"src"}, Dest: "/src/"})}})
			return dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{
				dag.Copy(dag.Files{From: one, Src: []string{"/src"}, Dest: "/out/", Chmod: "0700", Chown: "3:4"}),
				dag.Copy(dag.Files{From: tree, Dest: "/all/", Exclude: []string{"busybox"}, Link: true}),
			}})
		}, base + "FROM base AS one\nCOPY src /src/\nFROM scratch\nCOPY --from=one --chmod=0700 --chown=3:4 /src /out/\nCOPY --link --exclude=busybox . /all/\n"},
		{"platform", func(dir string) *dag.Stage {
			other := dag.New(dag.Spec{From: dag.Scratch(), Platform: "linux/arm64", Steps: []dag.Step{dag.Copy(dag.Files{From: dag.Local(dir), Src: []string{"src"}, Dest: "/"})}})
			return dag.New(dag.Spec{From: other, Platform: "linux/s390x", Steps: []dag.Step{dag.Env("A", "b")}})
		}, "FROM --platform=linux/arm64 scratch AS x\nCOPY src /\nFROM --platform=linux/s390x x\nENV A=b\n"},
		{"mounts", func(dir string) *dag.Stage {
			return dag.New(dag.Spec{From: bb(dir), Steps: []dag.Step{dag.Run(dag.Command{Shell: "ls /m /c", Mounts: []dag.Mount{
				{From: dag.Local(dir), Source: "src", Target: "/m"},
				{Kind: dag.MountCache, Target: "/c", ID: "x", Sharing: "locked"},
				{Kind: dag.MountTmpfs, Target: "/t", Size: "1m"},
				{Kind: dag.MountSecret, ID: "s"},
				{From: bb(dir), Target: "/b", Writable: true},
			}})}})
		}, base + "FROM base\nRUN --mount=source=src,target=/m --mount=type=cache,target=/c,id=x,sharing=locked --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=s --mount=from=base,target=/b,rw ls /m /c\n"},
	}
}

// TestProgramKeys compares the keys of programs with those of build files that say the
// same.
func TestProgramKeys(t *testing.T) {
	for _, p := range pairs() {
		t.Run(p.name, func(t *testing.T) {
			dir := project(t, map[string]string{"Dockerfile": p.file, "src/a": "a", "src/b/c": "c", ".dockerignore": "Dockerfile\n.dockerignore\n"})
			if err := os.WriteFile(filepath.Join(dir, "busybox"), []byte("x"), 0o755); err != nil {
				t.Fatal(err)
			}
			e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir(), NoDaemon: true})
			if err != nil {
				t.Fatal(err)
			}
			want := keysOf(t, e, Request{Context: dir})
			got := keysOf(t, e, Request{Stage: p.stage(dir)})
			if want.base == "" || got.base != want.base {
				t.Errorf("the program has the key %s (%v), the build file %s (%v)", got.base, got.why, want.base, want.why)
			}
			if len(got.graph.Stages()) != len(want.graph.Stages()) {
				t.Errorf("the program has %d stages, the build file %d", len(got.graph.Stages()), len(want.graph.Stages()))
			}
			for _, s := range got.graph.Stages() {
				if want := placeOf(s.Name); filepath.Base(s.Pos.File) != want || s.Pos.Line == 0 {
					t.Errorf("stage %s is at %s", s.Name, s.Pos)
				}
				for _, st := range s.Steps {
					if !st.Pos.IsZero() && filepath.Base(st.Pos.File) != placeOf(s.Name) {
						t.Errorf("step %s is at %s", st.Name, st.Pos)
					}
				}
			}
		})
	}
}

// placeOf is the file in which the stage of that name is made.
func placeOf(stage string) string {
	if stage == "base" {
		return "engine_program_test.go"
	}
	return "program_test.go"
}

// TestProgramState gives states of LLB keys that do not depend on the run.
func TestProgramState(t *testing.T) {
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir(), NoDaemon: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := project(t, map[string]string{"a": "a", "b": "b"})
	stage := func(file string) *dag.Stage {
		st := llb.Scratch().File(llb.Copy(llb.Local("src"), file, "/x")).AddEnv("K", "v").Dir("/d")
		return dag.New(dag.Spec{From: dag.LLB(dag.State{State: st, Locals: map[string]string{"src": dir}}), Steps: []dag.Step{dag.Workdir("e")}})
	}
	one, again, other := keysOf(t, e, Request{Stage: stage("a")}), keysOf(t, e, Request{Stage: stage("a")}), keysOf(t, e, Request{Stage: stage("b")})
	if one.base == "" || one.base != again.base || one.base == other.base {
		t.Errorf("keys are %s, %s and of another file %s (%v)", one.base, again.base, other.base, one.why)
	}
	if c := string(one.graph.Outputs()[0].Config); !strings.Contains(c, `"K=v"`) || !strings.Contains(c, `"/d/e"`) {
		t.Errorf("the config has not the state's environment and directory: %s", c)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if k := keysOf(t, e, Request{Stage: stage("a")}); k.base == one.base {
		t.Error("the key is the same although a file has changed")
	}
}

// TestProgramMistakes: mistakes that show only when the engine looks have the line of Go
// as well.
func TestProgramMistakes(t *testing.T) {
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir(), NoDaemon: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := project(t, map[string]string{"bad/Dockerfile": "NONSENSE\n", "ign/.dockerignore": "[\n", "empty/x": ""})
	source, err := os.ReadFile("program_test.go")
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	from := func(s dag.Source, steps ...dag.Step) *dag.Stage { return dag.New(dag.Spec{From: s, Steps: steps}) }
	for name, tt := range map[string]struct {
		req  Request
		want string
	}{
		"context":   {Request{Stage: from(dag.Scratch()), Context: dir}, "has no Context"},
		"directory": {Request{Stage: from(dag.Local(at("none")))}, "program_test.go:LINE: directory " + at("none") + " does not exist"},
		"nested":    {Request{Stage: from(dag.Build(dag.Nested{Dir: at("empty")}))}, "program_test.go:LINE: no ZImagefile"},
		"in nested": {Request{Stage: from(dag.Build(dag.Nested{Dir: at("bad")}))}, "bad/Dockerfile:1: unknown instruction: NONSENSE"},
		"local":     {Request{Stage: from(dag.LLB(dag.State{State: llb.Local("x")}))}, `program_test.go:LINE: the state reads the local source "x"`},
		"ignore":    {Request{Stage: from(dag.Local(at("ign")))}, at("ign") + "/.dockerignore:1: "},
		"sharing":   {Request{Stage: from(dag.Scratch(), dag.Run(dag.Command{Shell: "x", Mounts: []dag.Mount{{Kind: dag.MountCache, Target: "/x", Sharing: "bogus"}}}))}, "program_test.go:LINE: unsupported sharing value"},
	} {
		t.Run(name, func(t *testing.T) {
			want := tt.want
			r, err := e.newRun(tt.req)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			j, err := r.prepareCall(tt.req)
			if err == nil {
				defer j.close()
				if _, err = j.compileKeys(t.Context()); err != nil {
					err = j.explain(t.Context(), err)
				}
			}
			for n, line := range strings.Split(string(source), "\n") {
				if strings.Contains(line, strconv.Quote(name)+":") {
					want = strings.ReplaceAll(want, "LINE", strconv.Itoa(n+1))
				}
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			var pe *graph.PosError
			if strings.Contains(want, "program_test.go") && (!errors.As(err, &pe) || !bytes.Equal(pe.Source, source)) {
				t.Errorf("%v has not the text of the program for an excerpt", err)
			}
		})
	}
}

// TestProgramOfBuilds: an image that another build of the call makes is that build.
func TestProgramOfBuilds(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"})
	out := t.TempDir()
	req := BatchRequest{Builds: []BatchBuild{
		{NamedRequest: NamedRequest{Name: "go", Request: Request{
			Stage:   dag.New(dag.Spec{From: dag.Image("example.com/file"), Steps: []dag.Step{dag.Copy(dag.Files{From: dag.Image("example.com/file"), Src: []string{"/a"}, Dest: "/b"})}}),
			Outputs: []Output{{Type: OutputLocal, Dest: out}},
		}}},
		{NamedRequest: NamedRequest{Name: "file", Request: Request{Context: dir, Tags: []string{"example.com/file"}}}},
	}}
	res, err := e.BuildAll(t.Context(), req)
	if err != nil || states(res) != "go built, file built" || !slices.Equal(res.Images[0].Needs, []string{"file"}) {
		t.Fatalf("got %s, %v", states(res), err)
	}
	if b, err := os.ReadFile(filepath.Join(out, "b")); err != nil || string(b) != "a" {
		t.Errorf("b is %q, %v", b, err)
	}
}

// keysOf compiles a request without a daemon.
func keysOf(t *testing.T, e *Engine, req Request) *keys {
	t.Helper()
	req.Outputs = []Output{{Type: OutputCacheOnly}}
	r, err := e.newRun(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	j, err := r.prepare(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	k, err := j.compileKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}
