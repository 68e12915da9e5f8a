package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// llbFile makes stages of LLB by hand, as if each line were an instruction of one
// build file.
type llbFile struct {
	t     *testing.T
	src   *llb.SourceMap
	lines []string
	salt  string
}

func newLLBFile(t *testing.T, lines ...string) *llbFile {
	text := strings.Join(lines, "\n") + "\n"
	return &llbFile{t: t, lines: lines, src: llb.NewSourceMap(nil, "Testfile", "", []byte(text)), salt: identity.NewID()}
}

// at places an operation in the line that holds text.
func (f *llbFile) at(text string) llb.ConstraintsOpt {
	f.t.Helper()
	i := slices.IndexFunc(f.lines, func(l string) bool { return strings.Contains(l, text) })
	if i < 0 {
		f.t.Fatalf("no line has %q", text)
	}
	p := pb.Position{Line: int32(i + 1)}
	return f.src.Location([]*pb.Range{{Start: &p, End: &p}})
}

func (f *llbFile) busybox() llb.State { return llb.Image("docker.io/library/busybox:latest") }

// run is a shell step, made different in each test run so that no cache has it.
func (f *llbFile) run(st llb.State, cmd string) llb.State {
	f.t.Helper()
	return st.Run(llb.Args([]string{"/bin/sh", "-c", cmd}), llb.AddEnv("SALT", f.salt), f.at(cmd)).Root()
}

func (f *llbFile) stage(name string, st llb.State, inputs ...*graph.Stage) *graph.Stage {
	f.t.Helper()
	def, err := st.Marshal(f.t.Context(), llb.LinuxAmd64)
	if err != nil {
		f.t.Fatal(err)
	}
	spec := graph.Spec{Name: name, Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}, Definition: graph.Definition(def)}
	for _, in := range inputs {
		spec.Inputs = append(spec.Inputs, graph.Input{Stage: in, Kind: graph.InputCopy})
	}
	s, err := graph.NewStage(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func copyFrom(st, from llb.State, path string) llb.State {
	return st.File(llb.Copy(from, path, path))
}

// countingExecutor notes which stages were asked for.
type countingExecutor struct {
	solver.Executor
	mu    sync.Mutex
	asked []string
}

func (e *countingExecutor) Execute(ctx context.Context, s *graph.Stage) (gwclient.Reference, error) {
	e.mu.Lock()
	e.asked = append(e.asked, s.Name)
	e.mu.Unlock()
	return e.Executor.Execute(ctx, s)
}

// solved is what one build gave.
type solved struct {
	err    error
	asked  []string
	ends   map[string]solver.EventKind
	ran    []string // names of steps that ran
	counts solver.Counts
	output string
}

// solveStages builds outputs through client.Build; watch, if not nil, sees the events.
func solveStages(ctx context.Context, t *testing.T, s solver.Solver, opt client.SolveOpt, watch func(solver.Event), outputs ...*graph.Stage) solved {
	t.Helper()
	g, err := graph.New(outputs...)
	if err != nil {
		t.Fatal(err)
	}
	out := solved{ends: map[string]solver.EventKind{}}
	tracker := &solver.Tracker{Events: func(e solver.Event) {
		switch e.Kind {
		case solver.StageDone, solver.StageCached, solver.StageFailed, solver.StageSkipped:
			if old := out.ends[e.Stage.Name]; old != "" {
				t.Errorf("stage %s ended twice: %s, %s", e.Stage.Name, old, e.Kind)
			}
			out.ends[e.Stage.Name] = e.Kind
		case solver.StepDone:
			if e.Stage != nil && !e.Step.Cached {
				out.ran = append(out.ran, e.Step.Name)
			}
		case solver.Output:
			out.output += string(e.Log.Data)
		}
		if watch != nil {
			watch(e)
		}
	}}
	status := make(chan *client.SolveStatus)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for msg := range status {
			tracker.Status(msg)
		}
		tracker.Close()
	}()
	x := &countingExecutor{}
	_, err = buildkit(t).Build(ctx, opt, "", func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		var imports []*controlapi.CacheOptionsEntry
		if dt := c.BuildOpts().Opts["cache-imports"]; dt != "" {
			if err := json.Unmarshal([]byte(dt), &imports); err != nil {
				return nil, err
			}
		}
		gw := solver.Gateway{Client: c}
		for _, im := range imports {
			gw.CacheImports = append(gw.CacheImports, gwclient.CacheOptionsEntry{Type: im.Type, Attrs: im.Attrs})
		}
		x.Executor = gw
		s.Exec, s.Tracker = x, tracker
		refs, err := s.Solve(ctx, g)
		if err != nil {
			out.err = err
			return nil, err
		}
		res := gwclient.NewResult()
		res.SetRef(refs[outputs[0].ID])
		return res, nil
	}, status)
	<-read
	if out.err == nil {
		out.err = err
	}
	out.asked, out.counts = x.asked, tracker.Counts()
	t.Logf("error: %v\nasked: %v\nends: %v\nran: %q", out.err, out.asked, out.ends, out.ran)
	return out
}

// twoBranches is a graph of two independent stages and an output that reads both.
func (f *llbFile) twoBranches(left, right string) *graph.Stage {
	a, b := f.run(f.busybox(), left), f.run(f.busybox(), right)
	sa, sb := f.stage("left", a), f.stage("right", b)
	out := copyFrom(copyFrom(f.busybox(), a, "/l"), b, "/r")
	return f.stage("out", out, sa, sb)
}

func TestSolverBuildsThenFindsInCache(t *testing.T) {
	for _, jobs := range []int{0, 2} {
		t.Run(fmt.Sprint("jobs ", jobs), func(t *testing.T) {
			buildkit(t)
			f := newLLBFile(t, "echo $SALT >/l", "echo two; echo $SALT >/r")
			out := f.twoBranches("echo $SALT >/l", "echo two; echo $SALT >/r")
			s := solver.Solver{Jobs: jobs}
			first := solveStages(t.Context(), t, s, client.SolveOpt{}, nil, out)
			if first.err != nil {
				t.Fatal(first.err)
			}
			want := solver.Counts{Done: 3}
			if first.counts != want {
				t.Errorf("first: got %v, want %v", first.counts, want)
			}
			if first.output != "two\n" {
				t.Errorf("output: got %q", first.output)
			}
			second := solveStages(t.Context(), t, s, client.SolveOpt{}, nil, out)
			if want := (solver.Counts{Cached: 3}); second.err != nil || second.counts != want {
				t.Errorf("second: got %v, %v, want %v", second.err, second.counts, want)
			}
			if jobs == 0 && !slices.Equal(second.asked, []string{"out"}) {
				t.Errorf("asked for %v, want the output only", second.asked)
			}
		})
	}
}

func TestSolverReportsIndependentCauses(t *testing.T) {
	for _, jobs := range []int{0, 1, 2} {
		t.Run(fmt.Sprint("jobs ", jobs), func(t *testing.T) {
			buildkit(t)
			f := newLLBFile(t, "# a test", "echo oops; exit 3", "sleep 1; exit 4")
			out := f.twoBranches("echo oops; exit 3", "sleep 1; exit 4")
			got := solveStages(t.Context(), t, solver.Solver{Jobs: jobs}, client.SolveOpt{}, nil, out)
			causes := solver.Causes(got.err)
			if len(causes) != 2 {
				t.Fatalf("got %d causes in %v, want 2", len(causes), got.err)
			}
			want := `Testfile:2: process "/bin/sh -c echo oops; exit 3" did not complete successfully: exit code: 3

Testfile:3: process "/bin/sh -c sleep 1; exit 4" did not complete successfully: exit code: 4`
			if got.err.Error() != want {
				t.Errorf("got:\n%v\nwant:\n%s", got.err, want)
			}
			for i, code := range []int{3, 4} {
				if c := causes[i]; c.ExitCode != code || c.Step == nil || !strings.HasPrefix(string(c.Source), "# a test") {
					t.Errorf("cause %d: exit code %d, step %v, source %q", i, c.ExitCode, c.Step, c.Source)
				}
			}
			wantEnds := map[string]solver.EventKind{"left": solver.StageFailed, "right": solver.StageFailed, "out": solver.StageSkipped}
			if !maps.Equal(got.ends, wantEnds) {
				t.Errorf("ends: got %v, want %v", got.ends, wantEnds)
			}
		})
	}
}

func TestSolverKeepsUnrelatedWork(t *testing.T) {
	buildkit(t)
	f := newLLBFile(t, "exit 3", "sleep 2; echo kept >/r")
	out := f.twoBranches("exit 3", "sleep 2; echo kept >/r")
	got := solveStages(t.Context(), t, solver.Solver{}, client.SolveOpt{}, nil, out)
	if got.ends["left"] != solver.StageFailed || got.ends["right"] != solver.StageDone {
		t.Errorf("ends: got %v", got.ends)
	}
	if len(solver.Causes(got.err)) != 1 {
		t.Errorf("got %v, want one cause", got.err)
	}
	starts := 0
	for _, name := range got.ran {
		if strings.Contains(name, "sleep 2") {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("the slow step ran %d times, want once", starts)
	}
}

func TestSolverFailFast(t *testing.T) {
	buildkit(t)
	f := newLLBFile(t, "sleep 1; exit 3", "sleep 300")
	out := f.twoBranches("sleep 1; exit 3", "sleep 300")
	begin := time.Now()
	got := solveStages(t.Context(), t, solver.Solver{FailFast: true}, client.SolveOpt{}, nil, out)
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %v", d)
	}
	if c := solver.Causes(got.err); len(c) != 1 || c[0].ExitCode != 3 {
		t.Errorf("got %v, want the failure of the first step", got.err)
	}
	if got.ends["right"] != solver.StageSkipped {
		t.Errorf("ends: got %v", got.ends)
	}
}

func TestSolverCancel(t *testing.T) {
	for _, jobs := range []int{0, 2} {
		t.Run(fmt.Sprint("jobs ", jobs), func(t *testing.T) {
			buildkit(t)
			f := newLLBFile(t, "echo ready; sleep 300", "sleep 299")
			out := f.twoBranches("echo ready; sleep 300", "sleep 299")
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("interrupted by the test")
			got := solveStages(ctx, t, solver.Solver{Jobs: jobs}, client.SolveOpt{}, func(e solver.Event) {
				if e.Kind == solver.Output && strings.Contains(string(e.Log.Data), "ready") {
					cancel(why)
				}
			}, out)
			if !errors.Is(got.err, why) {
				t.Errorf("got %v, want %v", got.err, why)
			}
			if want := (solver.Counts{Skipped: 3}); got.counts != want {
				t.Errorf("got %v, want %v", got.counts, want)
			}
		})
	}
}

func TestSolverLeavesLazyStagesAlone(t *testing.T) {
	c := buildkit(t)
	f := newLLBFile(t, "echo $SALT >/l", "echo $SALT >/r")
	out := f.twoBranches("echo $SALT >/l", "echo $SALT >/r")
	dir := t.TempDir()
	export := client.SolveOpt{
		Exports:      []client.ExportEntry{{Type: client.ExporterOCI, Attrs: map[string]string{"tar": "false"}, OutputDir: t.TempDir()}},
		CacheExports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"dest": dir, "mode": "min"}}},
	}
	if first := solveStages(t.Context(), t, solver.Solver{}, export, nil, out); first.err != nil {
		t.Fatal(first.err)
	}
	// The daemon forgets everything; the cache has the last stage only.
	if err := c.Prune(t.Context(), nil, client.PruneAll); err != nil {
		t.Fatal(err)
	}
	imports := client.SolveOpt{FrontendAttrs: map[string]string{}, CacheImports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": dir}}}}
	got := solveStages(t.Context(), t, solver.Solver{}, imports, nil, out)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if !slices.Equal(got.asked, []string{"out"}) || slices.ContainsFunc(got.ran, func(s string) bool { return strings.Contains(s, "echo") }) {
		t.Errorf("asked for %v, ran %q; want nothing built for nothing", got.asked, got.ran)
	}
	if want := (solver.Counts{Cached: 3}); got.counts != want {
		t.Errorf("got %v, want %v", got.counts, want)
	}
}

func TestSolverMissingCopySource(t *testing.T) {
	buildkit(t)
	f := newLLBFile(t, "true")
	a := f.run(f.busybox(), "true")
	out := f.stage("out", copyFrom(f.busybox(), a, "/nosuch"), f.stage("a", a))
	got := solveStages(t.Context(), t, solver.Solver{}, client.SolveOpt{}, nil, out)
	if c := solver.Causes(got.err); len(c) != 1 || c[0].Stage.Name != "out" || !strings.Contains(got.err.Error(), `"/nosuch": not found`) {
		t.Errorf("got %v", got.err)
	}
}

func TestSolverMissingImageIsOneCause(t *testing.T) {
	buildkit(t)
	f := newLLBFile(t, "true", "false")
	gone := llb.Image("docker.io/library/nosuch:" + f.salt)
	a := f.stage("a", f.run(gone, "true"))
	b := f.stage("b", f.run(gone, "false"))
	got := solveStages(t.Context(), t, solver.Solver{}, client.SolveOpt{}, nil, a, b)
	if c := solver.Causes(got.err); len(c) != 1 || c[0].Stage.Name != "a" {
		t.Errorf("got %v, want one cause, in the first stage", got.err)
	}
	if want := (solver.Counts{Failed: 2}); got.counts != want {
		t.Errorf("got %v, want %v", got.counts, want)
	}
}
