package progress

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

const (
	// around is how many lines of context surround the marked ones.
	around = 2
	// markedLines bounds how much of a long construct, such as a heredoc, is shown.
	markedLines = 8
	// excerptWidth bounds a line.
	excerptWidth = 160
)

// Excerpt draws the lines of source that pos points at, with line numbers, a
// marker on each line of the construct and a caret below the column. It draws
// nothing where pos lies outside source.
func Excerpt(w io.Writer, pos graph.Pos, source []byte, st Style) {
	lines := strings.Split(strings.TrimSuffix(string(source), "\n"), "\n")
	if pos.Line < 1 || pos.Line > len(lines) || len(source) == 0 {
		return
	}
	last := min(max(pos.Line, pos.EndLine), len(lines))
	cut := last
	if last-pos.Line >= markedLines {
		cut = pos.Line + markedLines - 2
	}
	from, to := max(1, pos.Line-around), min(len(lines), last+around)
	e := excerpt{w: w, st: st, digits: max(3, len(strconv.Itoa(to)))}
	for n := from; n <= to; n++ {
		if n == cut+1 && cut < last {
			fmt.Fprintf(w, "%s %*s %s\n", st.red(">"), e.digits, "...", st.dim("|"))
			n = last
		}
		e.line(n, lines[n-1], n >= pos.Line && n <= last)
		if n == pos.Line && pos.Column > 0 && last == pos.Line {
			e.caret(lines[n-1], pos.Column)
		}
	}
}

type excerpt struct {
	w      io.Writer
	st     Style
	digits int
}

func (e *excerpt) line(n int, text string, marked bool) {
	mark := " "
	if marked {
		mark = e.st.red(">")
	}
	text = clip(printable(strings.TrimSuffix(text, "\r")))
	bar := e.st.dim(fmt.Sprintf("%*d |", e.digits, n))
	if text == "" {
		fmt.Fprintf(e.w, "%s %s\n", mark, bar)
		return
	}
	fmt.Fprintf(e.w, "%s %s %s\n", mark, bar, text)
}

// caret points at a column: below the same tabs, so that it stands right
// whatever width they have.
func (e *excerpt) caret(text string, column int) {
	runes := []rune(strings.TrimSuffix(text, "\r"))
	if column > len(runes)+1 || column > excerptWidth {
		return
	}
	var pad strings.Builder
	for _, r := range runes[:column-1] {
		if r != '\t' {
			r = ' '
		}
		pad.WriteRune(r)
	}
	fmt.Fprintf(e.w, "  %*s %s %s%s\n", e.digits, "", e.st.dim("|"), pad.String(), e.st.red("^"))
}

// clip shortens a line to the width of an excerpt.
func clip(s string) string {
	r := []rune(s)
	if len(r) <= excerptWidth {
		return s
	}
	return string(r[:excerptWidth-1]) + "…"
}
