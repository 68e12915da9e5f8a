package progress

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/solver"
)

// PrintWarnings lists warnings, each once, one line each; with details also what
// BuildKit says about the rule and the place in the build file.
func PrintWarnings(w io.Writer, list []solver.WarningInfo, details bool, st Style) {
	list = distinct(list)
	if len(list) == 0 {
		return
	}
	hint := ""
	if !details {
		hint = " (--debug shows the details)"
	}
	fmt.Fprintf(w, "%s%s:\n", st.yellow(count(len(list), "warning")+" found"), hint)
	for _, wi := range list {
		fmt.Fprintf(w, "- %s\n", printable(warningLine(wi)))
		if !details {
			continue
		}
		for _, d := range wi.Detail {
			fmt.Fprintf(w, "  %s\n", printable(d))
		}
		if wi.URL != "" {
			fmt.Fprintf(w, "  See %s\n", printable(wi.URL))
		}
		Excerpt(w, wi.Pos, wi.Source, st)
	}
}

// warningLine begins with the position; BuildKit's text ends with the line.
func warningLine(wi solver.WarningInfo) string {
	if wi.Pos.IsZero() {
		return wi.Short
	}
	return wi.Pos.String() + ": " + strings.TrimSuffix(wi.Short, fmt.Sprintf(" (line %d)", wi.Pos.Line))
}

// distinct sorts warnings by their place and drops repetitions: the same warning may come with an event and with
// the result, and once for each platform.
func distinct(list []solver.WarningInfo) []solver.WarningInfo {
	type key struct {
		short string
		pos   string
	}
	seen := map[key]bool{}
	var out []solver.WarningInfo
	for _, w := range list {
		k := key{w.Short, w.Pos.String()}
		if !seen[k] {
			seen[k] = true
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b solver.WarningInfo) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line))
	})
	return out
}

// count writes a number with its noun: "1 warning", "2 warnings".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
