package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// script makes the events of a build: steps one after the other, so that what
// the plain view prints does not depend on when it is drawn.
type script struct {
	now    time.Time
	events []solver.Event
}

func newScript() *script {
	return &script{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func (s *script) add(e solver.Event) {
	s.now = s.now.Add(10 * time.Millisecond)
	e.Time = s.now
	s.events = append(s.events, e)
}

// step runs a step that takes a second and prints out.
func (s *script) step(name, out, failure string, cached bool) {
	start := s.now
	d := digest.FromString(name)
	s.add(solver.Event{Kind: solver.StepStarted, Step: &solver.StepStatus{Digest: d, Name: name, Started: &start}})
	for _, piece := range strings.SplitAfter(out, "|") {
		if piece != "" {
			s.add(solver.Event{Kind: solver.Output, Step: &solver.StepStatus{Digest: d}, Log: &solver.Log{Stream: 1, Data: []byte(strings.TrimSuffix(piece, "|"))}})
		}
	}
	s.now = start.Add(time.Second)
	end := s.now
	s.add(solver.Event{Kind: solver.StepDone, Step: &solver.StepStatus{Digest: d, Name: name, Started: &start, Completed: &end, Cached: cached, Error: failure}})
}

// build is a build with all kinds of events.
func build() []solver.Event {
	s := newScript()
	stage := &graph.Stage{}
	s.step("[internal] load build context", "", "", false)
	d := digest.FromString("transfer")
	start := s.now
	s.add(solver.Event{Kind: solver.StepStarted, Step: &solver.StepStatus{Digest: d, Name: "[a 1/3] FROM busybox", Started: &start}})
	end := start.Add(500 * time.Millisecond)
	s.now = end
	s.add(solver.Event{Kind: solver.Progress, Step: &solver.StepStatus{Digest: d}, Progress: &solver.Transfer{ID: "sha256:74b5", Name: "layer", Current: 1 << 20, Total: 1 << 20, Started: &start, Completed: &end}})
	s.add(solver.Event{Kind: solver.StepDone, Step: &solver.StepStatus{Digest: d, Name: "[a 1/3] FROM busybox", Started: &start, Completed: &end}})
	s.add(solver.Event{Kind: solver.StageStarted, Stage: stage})
	s.step("[a 2/3] RUN make", "cc a.c\ncc |b.c\nwarn|ing: x\n", "", false)
	s.add(solver.Event{Kind: solver.Warning, Warning: &solver.WarningInfo{Level: 1, Short: "JSONArgsRecommended: x (line 9)", Pos: graph.Pos{File: "Dockerfile", Line: 9}, Source: []byte("x"), Step: d}})
	s.step("[a 3/3] COPY x y", "", "", true)
	s.add(solver.Event{Kind: solver.StageDone, Stage: stage})
	s.step("[b 2/2] RUN false", "last words\n------\n", "process did not complete successfully: exit code: 1", false)
	s.add(solver.Event{Kind: solver.StageFailed, Stage: stage, Err: errors.New("x")})
	s.add(solver.Event{Kind: solver.StageSkipped, Stage: stage})
	return s.events
}

func show(t *testing.T, mode Mode, events []solver.Event) (string, *View) {
	t.Helper()
	var b bytes.Buffer
	v, err := NewView(&b, mode)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		v.Sink(e)
	}
	v.Close()
	v.Close()
	v.Sink(solver.Event{Kind: solver.StageDone}) // after the end: dropped
	return b.String(), v
}

// TestStagesOfSeveralBuilds: a stage that several builds have is counted once.
func TestStagesOfSeveralBuilds(t *testing.T) {
	stage := func(id string) *graph.Stage { return &graph.Stage{ID: digest.FromString(id)} }
	var events []solver.Event
	for id, kinds := range map[string][]solver.EventKind{
		"root":    {solver.StageFailed, solver.StageSkipped, solver.StageFailed},
		"above":   {solver.StageSkipped, solver.StageSkipped},
		"shared":  {solver.StageCached, solver.StageDone, solver.StageCached},
		"foreign": {solver.StageSkipped, solver.StageCached},
	} {
		for _, k := range kinds {
			events = append(events, solver.Event{Kind: k, Stage: stage(id)})
		}
	}
	_, v := show(t, Quiet, events)
	if want := (Counts{Done: 1, Cached: 1, Failed: 1, Skipped: 1}); v.Counts() != want {
		t.Errorf("counted %+v, want %+v", v.Counts(), want)
	}
}

func TestPlain(t *testing.T) {
	// One drawing at the end, whatever the machine does meanwhile.
	t.Setenv("TTY_DISPLAY_RATE", "3600000")
	got, v := show(t, Auto, build())
	golden(t, "plain", got)
	if v.Mode() != Plain {
		t.Errorf("mode %s on what is no terminal", v.Mode())
	}
	if want := (Counts{Done: 1, Failed: 1, Skipped: 1}); v.Counts() != want {
		t.Errorf("counted %+v, want %+v", v.Counts(), want)
	}
	if n := len(v.Warnings()); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	if got := v.Tail(digest.FromString("[b 2/2] RUN false")); got != nil {
		t.Errorf("the tail of what was shown: %q", got)
	}
}

func TestQuiet(t *testing.T) {
	got, v := show(t, Quiet, build())
	if got != "" {
		t.Errorf("printed %q", got)
	}
	want := []string{"last words", "------"}
	if d := cmp.Diff(want, v.Tail(digest.FromString("[b 2/2] RUN false"))); d != "" {
		t.Error(d)
	}
	if got := v.Tail(digest.FromString("[a 2/3] RUN make")); got != nil {
		t.Errorf("the tail of a step that succeeded: %q", got)
	}
}

func TestTTYNeedsTerminal(t *testing.T) {
	if _, err := NewView(&bytes.Buffer{}, TTY); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("got %v", err)
	}
}

// The raw form is that of BuildKit's client: what reads one reads the other.
func TestRawJSON(t *testing.T) {
	got, _ := show(t, RawJSON, build())
	golden(t, "rawjson", got)
	var sum client.SolveStatus
	dec := json.NewDecoder(strings.NewReader(got))
	dec.DisallowUnknownFields()
	for dec.More() {
		var s client.SolveStatus
		if err := dec.Decode(&s); err != nil {
			t.Fatal(err)
		}
		sum.Vertexes = append(sum.Vertexes, s.Vertexes...)
		sum.Logs = append(sum.Logs, s.Logs...)
		sum.Statuses = append(sum.Statuses, s.Statuses...)
		sum.Warnings = append(sum.Warnings, s.Warnings...)
	}
	if a, b, c, d := len(sum.Vertexes), len(sum.Logs), len(sum.Statuses), len(sum.Warnings); a != 10 || b != 4 || c != 1 || d != 1 {
		t.Errorf("%d vertexes, %d logs, %d statuses, %d warnings", a, b, c, d)
	}
}

func TestStepName(t *testing.T) {
	for _, c := range [][3]string{
		{"", "[a 1/2] RUN x", "[a 1/2] RUN x"},
		{"web", "[a 1/2] RUN x", "[web a 1/2] RUN x"},
		{"web", "exporting", "[web] exporting"},
	} {
		if got := stepName(c[0], c[1]); got != c[2] {
			t.Errorf("%q, %q: got %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// Events come from many goroutines in turn, and the build ends while some are
// still on their way.
func TestSinkAndClose(t *testing.T) {
	v, err := NewView(&bytes.Buffer{}, Plain)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for _, e := range build() {
				v.Sink(e)
			}
		}()
	}
	<-done
	v.Close()
	for range 7 {
		<-done
	}
}
