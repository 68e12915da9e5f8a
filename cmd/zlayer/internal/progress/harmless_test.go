package progress

import (
	"errors"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// steering is a text of a build file that is no mere text for a terminal.
const steering = "\x1b]0;title\x07\x1b[31m\u202e\x9b2J"

func mustBeHarmless(t *testing.T, what, out string) {
	t.Helper()
	if out == "" {
		t.Errorf("%s: nothing was shown", what)
	}
	if i := strings.IndexAny(out, "\x1b\x07\u202e\u009b"); i >= 0 {
		t.Errorf("%s lets %q through", what, out[i:])
	}
}

func TestBuildFilesCannotSteerTheTerminal(t *testing.T) {
	pos := graph.Pos{File: "Docker" + steering, Line: 1}
	var b strings.Builder
	PrintError(&b, &graph.PosError{Pos: pos, Err: errors.New(steering), Source: []byte(steering)}, Style{})
	PrintError(&b, errors.New(steering), Style{})
	mustBeHarmless(t, "an error", b.String())

	b.Reset()
	PrintWarnings(&b, []solver.WarningInfo{{Short: steering, Detail: []string{steering}, URL: steering, Pos: pos, Source: []byte(steering)}}, true, Style{})
	mustBeHarmless(t, "a warning", b.String())

	t.Setenv("TTY_DISPLAY_RATE", "3600000")
	s := newScript()
	s.step("[a 1/1] RUN "+steering, "", "process \""+steering+"\" failed", false)
	out, _ := show(t, Plain, s.events)
	mustBeHarmless(t, "the name of a step", out)

	mustBeHarmless(t, "an answer", Lines(steering))
	if got := Lines("a\r\n\tb\n"); got != "a\n\tb\n" {
		t.Errorf("text with line ends became %q", got)
	}
}
