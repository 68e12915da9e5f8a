package progress

import (
	"fmt"
	"io"

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
		pos := ""
		if !wi.Pos.IsZero() {
			pos = wi.Pos.String() + ": "
		}
		fmt.Fprintf(w, "- %s%s\n", pos, printable(wi.Short))
		if !details {
			continue
		}
		for _, d := range wi.Detail {
			fmt.Fprintf(w, "  %s\n", printable(d))
		}
		if wi.URL != "" {
			fmt.Fprintf(w, "  See %s\n", wi.URL)
		}
		Excerpt(w, wi.Pos, wi.Source, st)
	}
}

// distinct drops repetitions: the same warning may come with an event and with
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
	return out
}

// count writes a number with its noun: "1 warning", "2 warnings".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
