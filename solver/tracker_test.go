package solver_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/solvertest"
)

// sourceStage is a base image with one step on top.
func sourceStage(t *testing.T, name string) *graph.Stage {
	return solvertest.StageOf(t, name, llb.Image("docker.io/library/busybox:latest").File(llb.Mkfile("/"+name, 0o644, nil)))
}

func TestHowStagesEnd(t *testing.T) {
	image := solvertest.StageOf(t, "image", llb.Image("docker.io/library/busybox:latest"))
	build := sourceStage(t, "build")
	local := solvertest.StageOf(t, "local", llb.Scratch().File(llb.Copy(llb.Local("context"), "/", "/")))
	lone := solvertest.Stage(t, "lone", 1)
	tests := []struct {
		name   string
		stage  *graph.Stage
		script func(*solvertest.Script, func(...*client.SolveStatus))
		want   string
	}{
		{"a step runs", build, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(build, 0), c.End(build, 0, ""), c.Start(build, 1), c.End(build, 1, ""))
		}, "done"},
		{"the base image is looked up only", build, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(build, 0), c.End(build, 0, ""), c.Hit(build, 1))
		}, "cached"},
		{"a cached step is downloaded", build, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(build, 0), c.End(build, 0, ""), c.Hit(build, 1), withoutInputs(c.Start(build, 1)), withoutInputs(c.End(build, 1, "")))
		}, "cached"},
		{"a cached step cannot be loaded and runs", build, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(build, 0), c.End(build, 0, ""), broken(c.Hit(build, 1)), c.Start(build, 1), c.End(build, 1, ""))
		}, "done"},
		{"the image is looked up", image, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(image, 0), c.End(image, 0, ""))
		}, "cached"},
		{"the image is pulled", image, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(image, 0), c.End(image, 0, ""), c.Start(image, 0), c.End(image, 0, ""))
		}, "done"},
		{"the image is there and its files are downloaded", image, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(image, 0), c.End(image, 0, ""), c.Hit(image, 0), c.Start(image, 0), c.End(image, 0, ""))
		}, "cached"},
		{"the context is sent and has not changed", local, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(local, 0), c.End(local, 0, ""), c.Start(local, 0), c.End(local, 0, ""), c.Hit(local, 1))
		}, "cached"},
		{"a step without inputs is looked up", lone, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(lone, 0), c.End(lone, 0, ""), c.Hit(lone, 0))
		}, "cached"},
		{"a step without inputs runs", lone, func(c *solvertest.Script, say func(...*client.SolveStatus)) {
			say(c.Start(lone, 0), c.End(lone, 0, ""), c.Start(lone, 0), c.End(lone, 0, ""))
		}, "done"},
		{"nothing is heard of it", lone, func(*solvertest.Script, func(...*client.SolveStatus)) {}, "cached"},
	}
	for _, tt := range tests {
		for _, when := range []string{"before", "after"} {
			t.Run(tt.name+", stream "+when+" the answer", func(t *testing.T) {
				x := solvertest.New(t)
				s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, tt.stage))
				call := x.Meet(tt.stage.Name)
				if when == "after" { // the stream lags behind
					call.Done()
					<-s.done
				}
				tt.script(&solvertest.Script{}, func(msgs ...*client.SolveStatus) {
					for _, m := range msgs {
						s.tracker.Status(m)
					}
				})
				if when == "before" {
					call.Done()
				}
				if err := s.wait(); err != nil {
					t.Fatal(err)
				}
				equal(t, "end", s.ends()[tt.stage.Name], tt.want)
			})
		}
	}
}

func withoutInputs(msg *client.SolveStatus) *client.SolveStatus {
	for _, v := range msg.Vertexes {
		v.Inputs = nil
	}
	return msg
}

// broken lets the load from the cache fail.
func broken(msg *client.SolveStatus) *client.SolveStatus {
	msg.Vertexes[1].Error = "reading blob: not found"
	return msg
}

// TestEndsDoNotWaitForClose says when ends are reported: as soon as the stream has
// shown them, not at the end of everything.
func TestEndsDoNotWaitForClose(t *testing.T) {
	lazy := solvertest.Stage(t, "lazy", 2)
	ran := solvertest.Stage(t, "ran", 2, lazy)
	out := solvertest.Stage(t, "out", 2, ran)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, FailFast: true}, solvertest.Graph(t, out))
	call := x.Meet("out")
	var c solvertest.Script
	s.tracker.Status(c.Start(ran, 1))
	equal(t, "events", s.stageEvents(), []string{"started ran"})
	s.tracker.Status(c.End(ran, 1, ""))
	want := []string{"started ran", "done ran", "started lazy", "cached lazy"}
	equal(t, "events", s.stageEvents(), want)
	s.tracker.Status(c.Start(out, 1))
	s.tracker.Status(c.End(out, 1, ""))
	want = append(want, "started out")
	equal(t, "events", s.stageEvents(), want)
	call.Done()
	<-s.done
	equal(t, "events", s.stageEvents(), append(want, "done out"))
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// TestFailureComesAfterItsOutput holds the end back until the stream has shown what
// the step printed.
func TestFailureComesAfterItsOutput(t *testing.T) {
	bad := solvertest.Stage(t, "bad", 2)
	out := solvertest.Stage(t, "out", 2, bad)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, FailFast: true}, solvertest.Graph(t, out))
	call := x.Meet("out")
	var c solvertest.Script
	s.tracker.Status(c.Start(bad, 1))
	call.Fail(stepError(bad, 1, "exit code: 1"))
	<-s.done
	equal(t, "counts", s.tracker.Counts(), "1 failed, 1 skipped")
	print, end := c.Print(bad, 1, "oh no"), c.End(bad, 1, "exit code: 1")
	end.Logs = print.Logs
	s.tracker.Status(end)
	if s.wait() == nil {
		t.Error("no error")
	}
	var got []string
	for _, e := range s.events {
		got = append(got, string(e.Kind))
	}
	equal(t, "events", got, []string{"stage-started", "step-started", "output", "step-done", "stage-failed", "stage-skipped"})
	if e := s.events[2]; e.Stage != bad || string(e.Log.Data) != "oh no" || e.Log.Stream != 1 || e.Step.Name != "bad 1" {
		t.Errorf("output: got %+v", e)
	}
	if e := s.events[5]; e.Err == nil || e.Err.Error() != "bad:1: exit code: 1" {
		t.Errorf("skipped: got error %v, want the cause", e.Err)
	}
}

func TestStepsOutsideEveryStage(t *testing.T) {
	var events []solver.Event
	now := time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)
	ticks := []time.Duration{2, 1, 3} // a clock that goes back
	tracker := &solver.Tracker{Build: "web", Events: func(e solver.Event) { events = append(events, e) }, Now: func() time.Time {
		d := ticks[0]
		ticks = ticks[1:]
		return now.Add(d * time.Second)
	}}
	started, completed := now, now.Add(time.Second)
	d := digest.FromString("exporting")
	v := client.Vertex{Digest: d, Name: "exporting to image", Started: &started, ProgressGroup: &pb.ProgressGroup{Id: "g", Name: "group", Weak: true}}
	end := v
	end.Completed = &completed
	tracker.Status(&client.SolveStatus{Vertexes: []*client.Vertex{&v}})
	tracker.Status(&client.SolveStatus{
		Vertexes: []*client.Vertex{&end},
		Statuses: []*client.VertexStatus{{ID: "layers", Vertex: d, Name: "exporting layers", Current: 1, Total: 2, Started: &started}},
	})
	tracker.Status(&client.SolveStatus{Vertexes: []*client.Vertex{&end}}) // BuildKit repeats itself
	tracker.Close()
	step := solver.StepStatus{Digest: d, Name: v.Name, Started: &started, Group: "g", GroupName: "group", GroupWeak: true}
	ended := step
	ended.Completed = &completed
	want := []solver.Event{
		{Kind: solver.StepStarted, Time: now.Add(2 * time.Second), Build: "web", Step: &step},
		{Kind: solver.Progress, Time: now.Add(2 * time.Second), Build: "web", Step: &step,
			Progress: &solver.Transfer{ID: "layers", Name: "exporting layers", Current: 1, Total: 2, Started: &started}},
		{Kind: solver.StepDone, Time: now.Add(3 * time.Second), Build: "web", Step: &ended},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	equal(t, "counts", tracker.Counts(), "")
}

func TestWarnings(t *testing.T) {
	a := solvertest.Stage(t, "a", 1)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, a))
	call := x.Meet("a")
	s.tracker.Status(&client.SolveStatus{Warnings: []*client.VertexWarning{{
		Vertex: a.Head, Level: 1, Short: []byte("short"), Detail: [][]byte{[]byte("long")}, URL: "https://example.com/rule",
		SourceInfo: &pb.SourceInfo{Filename: "Dockerfile", Data: []byte("FROM x\n")},
		Range:      []*pb.Range{{Start: &pb.Position{Line: 3}, End: &pb.Position{Line: 3}}, {Start: &pb.Position{Line: 4}, End: &pb.Position{Line: 5}}},
	}}})
	call.Done()
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.events, func(e solver.Event) bool { return e.Kind == solver.Warning })
	want := &solver.WarningInfo{Level: 1, Short: "short", Detail: []string{"long"}, URL: "https://example.com/rule",
		Pos: graph.Pos{File: "Dockerfile", Line: 3, EndLine: 5}, Source: []byte("FROM x\n"), Step: a.Head}
	if diff := cmp.Diff(want, s.events[i].Warning); diff != "" || s.events[i].Stage != a {
		t.Errorf("warning of %v (-want +got):\n%s", s.events[i].Stage, diff)
	}
}

// TestIgnoreCacheDigest: while another build runs the same step from the cache,
// BuildKit gives a step that may not use it another digest.
func TestIgnoreCacheDigest(t *testing.T) {
	a := solvertest.Stage(t, "a", 2)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, a))
	call := x.Meet("a")
	var c solvertest.Script
	for _, msg := range []*client.SolveStatus{c.Start(a, 1), c.End(a, 1, "")} {
		for _, v := range msg.Vertexes {
			v.Digest = digest.FromString(string(v.Digest) + "-ignorecache")
		}
		s.tracker.Status(msg)
	}
	call.Done()
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "ends", s.ends(), map[string]string{"a": "done"})
	for _, e := range s.events {
		if e.Step != nil && e.Step.Digest != a.Head {
			t.Errorf("%s of step %s, want %s", e.Kind, e.Step.Digest, a.Head)
		}
	}
}

// TestFinishedOutputVouchesForItsInputs: what a finished output did without is not
// built for the sake of another output's failure.
func TestFinishedOutputVouchesForItsInputs(t *testing.T) {
	deep := solvertest.Stage(t, "deep", 1)
	base := solvertest.Stage(t, "base", 1, deep)
	fine := solvertest.Stage(t, "fine", 1, base)
	bad := solvertest.Stage(t, "bad", 1)
	mid := solvertest.Stage(t, "mid", 1, base)
	broken := solvertest.Stage(t, "broken", 1, bad, mid)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, fine, broken))
	top := x.Meet("broken")
	x.Done("fine")
	hold(t, s, fine)
	top.Fail(stepError(bad, 0, "bad broke"))
	// mid has its inputs, though nobody asked for them. They turn out to be gone, and
	// cannot be made again.
	x.Fail("mid", stepError(base, 0, "base broke"))
	equal(t, "causes", causes(s.wait()), []string{"base", "bad"})
	equal(t, "asked", len(x.Asked()), 3)
	equal(t, "results", len(s.refs), 1)
}

// hold waits until the solver knows that an output is there.
func hold(t *testing.T, s *solve, out *graph.Stage) {
	t.Helper()
	var c solvertest.Script
	patience := time.Now().Add(30 * time.Second)
	for s.ends()[out.Name] == "" {
		if time.Now().After(patience) {
			t.Fatalf("%s has no end", out.Name)
		}
		s.tracker.Status(c.Hit(out, 0))
	}
}

// TestStageThatIsThereIsNotBlamed: BuildKit may fetch the files of a base image only
// when a step needs them; the failure is that step's.
func TestStageThatIsThereIsNotBlamed(t *testing.T) {
	base := solvertest.Stage(t, "base", 1)
	out := solvertest.Stage(t, "out", 1, base)
	x := solvertest.New(t)
	s := start(t, t.Context(), solver.Solver{Exec: x, Jobs: 1}, solvertest.Graph(t, out))
	x.Done("base")
	x.Fail("out", stepError(base, 0, "connection reset"))
	err := s.wait()
	equal(t, "error", err, "out:1: connection reset")
	equal(t, "ends", s.ends(), map[string]string{"base": "cached", "out": "failed"})
}

func TestStageErrorPosition(t *testing.T) {
	text := []byte("FROM x\n\nRUN a \\\n  b\n")
	src := llb.NewSourceMap(nil, "Dockerfile", "", text)
	at := src.Location([]*pb.Range{{Start: &pb.Position{Line: 3}, End: &pb.Position{Line: 4}}})
	s := solvertest.StageOf(t, "s", llb.Scratch().File(llb.Mkfile("/a", 0o644, nil), at))
	x := solvertest.New(t)
	b := start(t, t.Context(), solver.Solver{Exec: x}, solvertest.Graph(t, s))
	x.Fail("s", stepError(s, 0, "broke"))
	err := b.wait()
	var se *solver.StageError
	if !errors.As(err, &se) {
		t.Fatal(err)
	}
	if want := (graph.Pos{File: "Dockerfile", Line: 3, EndLine: 4}); se.Pos != want || string(se.Source) != string(text) {
		t.Errorf("got %+v in %q", se.Pos, se.Source)
	}
	if !strings.HasPrefix(err.Error(), "Dockerfile:3: ") {
		t.Errorf("got %q", err)
	}
}
