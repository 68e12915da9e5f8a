package progress

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

func TestExcerpt(t *testing.T) {
	file := "FROM busybox AS base\n\nRUN echo one && \\\n    echo two\n\tCOPY\tnope /\nRUN true\nCMD sh\n"
	var long strings.Builder
	long.WriteString("RUN <<EOF\n")
	for i := range 30 {
		fmt.Fprintf(&long, "echo %d\n", i)
	}
	long.WriteString("EOF\nCMD x\n")
	var b strings.Builder
	for _, c := range []struct {
		title  string
		pos    graph.Pos
		source string
		st     Style
	}{
		{"first line", graph.Pos{Line: 1}, file, Style{}},
		{"two lines", graph.Pos{Line: 3, EndLine: 4}, file, Style{}},
		{"column after tabs", graph.Pos{Line: 5, Column: 7}, file, Style{}},
		{"last line", graph.Pos{Line: 7, Column: 1}, file, Style{}},
		{"last line, no line end", graph.Pos{Line: 2}, "FROM a\nRUN b", Style{}},
		{"a range that goes on behind the end", graph.Pos{Line: 6, EndLine: 99}, file, Style{}},
		{"a column behind the line", graph.Pos{Line: 6, Column: 99}, file, Style{}},
		{"behind the end", graph.Pos{Line: 8}, file, Style{}},
		{"no line", graph.Pos{File: "x"}, file, Style{}},
		{"no source", graph.Pos{Line: 1}, "", Style{}},
		{"long construct", graph.Pos{Line: 1, EndLine: 32}, long.String(), Style{}},
		{"long line", graph.Pos{Line: 1, Column: 3}, strings.Repeat("x", 500), Style{}},
		{"carriage returns", graph.Pos{Line: 2, Column: 5}, "FROM a\r\nRUN b\r\n", Style{}},
		{"what steers a terminal", graph.Pos{Line: 1}, "RUN \x1b[31mred\x07 \u202eabc\n", Style{}},
		{"more than a thousand lines", graph.Pos{Line: 1001}, strings.Repeat("RUN x\n", 1002), Style{}},
		{"colours", graph.Pos{Line: 1, Column: 1}, "RUN x\nRUN y\n", Style{Color: true}},
	} {
		fmt.Fprintf(&b, "== %s\n", c.title)
		Excerpt(&b, c.pos, []byte(c.source), c.st)
	}
	golden(t, "excerpt", b.String())
}

// Whatever the position and the text, the excerpt neither panics nor lets
// control characters through, and stays short.
func FuzzExcerpt(f *testing.F) {
	f.Add("FROM a\nRUN b\n", 1, 2, 2)
	f.Add("\x1b[31m\n\n\n", 2, 0, 9)
	f.Add("é\tü\r\n", 1, 3, 0)
	f.Fuzz(func(t *testing.T, src string, line, col, end int) {
		var b strings.Builder
		Excerpt(&b, graph.Pos{Line: line, Column: col, EndLine: end}, []byte(src), Style{})
		out := b.String()
		if n := strings.Count(out, "\n"); n > 2*around+markedLines+1 {
			t.Errorf("%d lines", n)
		}
		for _, r := range out {
			if r < ' ' && r != '\n' && r != '\t' {
				t.Fatalf("%q lets %q through", out, r)
			}
		}
	})
}
