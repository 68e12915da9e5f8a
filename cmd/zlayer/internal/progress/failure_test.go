package progress

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

const buildFile = "FROM busybox AS a\nRUN false\nFROM busybox\nCOPY --from=a / /\nRUN nope\n"

func stageError(line int, text string) *solver.StageError {
	return &solver.StageError{
		Stage:  &graph.Stage{},
		Vertex: digest.FromString(text),
		Pos:    graph.Pos{File: "Dockerfile", Line: line},
		Source: []byte(buildFile),
		Err:    errors.New(text),
	}
}

func TestPrintFailure(t *testing.T) {
	one := stageError(2, "process \"/bin/sh -c false\" did not complete successfully: exit code: 1")
	two := stageError(5, "process \"/bin/sh -c nope\" did not complete successfully: exit code: 127")
	pos := &graph.PosError{Pos: graph.Pos{File: "Dockerfile", Line: 4, Column: 6}, Err: errors.New("unknown flag: form (did you mean from?)"), Source: []byte(buildFile)}
	var b strings.Builder
	for _, c := range []struct {
		title  string
		err    error
		events []solver.Event
	}{
		{"one stage", one, []solver.Event{{Kind: solver.StageDone}, {Kind: solver.StageFailed}}},
		{"two stages, wrapped", fmt.Errorf("building: %w", multierror.Append(nil, one, two)), []solver.Event{
			{Kind: solver.StageFailed}, {Kind: solver.StageFailed}, {Kind: solver.StageSkipped}, {Kind: solver.StageCached}, {Kind: solver.StageDone},
		}},
		{"what the step printed, where the view does not show it", one, []solver.Event{
			{Kind: solver.Output, Step: &solver.StepStatus{Digest: one.Vertex}, Log: &solver.Log{Data: []byte("compiling\nerr")}},
			{Kind: solver.Output, Step: &solver.StepStatus{Digest: one.Vertex}, Log: &solver.Log{Data: []byte("or: \x1b[31mno\r\n")}},
			{Kind: solver.StageFailed},
		}},
		{"a mistake in the build file", pos, nil},
		{"two mistakes", errors.Join(pos, pos), nil},
		{"an error without a position", errors.New("connecting to the daemon: no such file"), nil},
		{"an error of two lines", errors.New("first\nsecond\x07\n"), nil},
	} {
		v, err := NewView(&b, Quiet)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.events {
			v.Sink(e)
		}
		v.Close()
		fmt.Fprintf(&b, "== %s\n", c.title)
		PrintFailure(&b, c.err, v, Style{})
	}
	fmt.Fprintln(&b, "== colours")
	PrintError(&b, one, Style{Color: true})
	golden(t, "failure", b.String())
}

func TestBuildFileError(t *testing.T) {
	pos := &graph.PosError{Err: errors.New("x")}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"position", pos, true},
		{"wrapped", fmt.Errorf("w: %w", pos), true},
		{"joined", errors.Join(errors.New("a"), pos), true},
		{"stage", stageError(1, "x"), false},
		{"a stage that failed because of a build file", &solver.StageError{Stage: &graph.Stage{}, Err: pos}, false},
		{"other", errors.New("x"), false},
	} {
		if got := BuildFileError(c.err); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPrintWarnings(t *testing.T) {
	list := []solver.WarningInfo{
		{Short: "StageNameCasing: stage names should be lowercase (line 3)", Detail: []string{"Stage names should be lowercase"}, URL: "https://docs.example/rule", Pos: graph.Pos{File: "Dockerfile", Line: 3}, Source: []byte(buildFile)},
		{Short: "FromAsCasing: casing (line 1)", Pos: graph.Pos{File: "Dockerfile", Line: 1}, Source: []byte(buildFile)},
		{Short: "FromAsCasing: casing (line 1)", Pos: graph.Pos{File: "Dockerfile", Line: 1}, Source: []byte(buildFile)},
		{Short: "the daemon has something to say"},
	}
	var b strings.Builder
	fmt.Fprintln(&b, "== short")
	PrintWarnings(&b, list, false, Style{})
	fmt.Fprintln(&b, "== details")
	PrintWarnings(&b, list, true, Style{})
	fmt.Fprintln(&b, "== one")
	PrintWarnings(&b, list[:1], false, Style{})
	fmt.Fprintln(&b, "== none")
	PrintWarnings(&b, nil, false, Style{})
	golden(t, "warnings", b.String())
}

func TestTail(t *testing.T) {
	var x tail
	for i := range 40 {
		x.write([]byte(fmt.Sprintf("line %d\n", i)))
	}
	got := x.last()
	if len(got) != tailLines || got[0] != "line 20" || got[tailLines-1] != "line 39" {
		t.Errorf("got %d lines from %q to %q", len(got), got[0], got[len(got)-1])
	}
	var y tail
	for range 1000 {
		y.write(make([]byte, 1000))
	}
	if n := len(y.buf); n > 2*tailBytes {
		t.Errorf("keeps %d bytes", n)
	}
	if got := (&tail{}).last(); got != nil {
		t.Errorf("nothing printed: got %q", got)
	}
}
