package progress

import (
	"errors"
	"fmt"
	"io"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// failure is one cause of a failed command, ready to be shown.
type failure struct {
	pos    graph.Pos
	source []byte
	text   string
	step   digest.Digest
}

// failures takes err apart into its independent causes.
func failures(err error) []failure {
	if list, ok := err.(interface{ WrappedErrors() []error }); ok {
		var out []failure
		for _, e := range list.WrappedErrors() {
			out = append(out, failures(e)...)
		}
		return out
	}
	if causes := solver.Causes(err); len(causes) > 0 {
		var out []failure
		for _, c := range causes {
			out = append(out, failure{pos: c.Pos, source: c.Source, text: c.Err.Error(), step: c.Vertex})
		}
		return out
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		var out []failure
		for _, e := range list.Unwrap() {
			out = append(out, failures(e)...)
		}
		return out
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return []failure{{pos: pe.Pos, source: pe.Source, text: pe.Err.Error()}}
	}
	return []failure{{text: err.Error()}}
}

// BuildFileError reports whether err is a mistake in a build file, found before
// any stage was built.
func BuildFileError(err error) bool {
	var pe *graph.PosError
	return len(solver.Causes(err)) == 0 && errors.As(err, &pe)
}

// PrintError shows each cause of err: a line that begins with its position, as
// editors and CI systems expect it, and the excerpt of the build file.
func PrintError(w io.Writer, err error, st Style) {
	printFailures(w, failures(err), nil, st)
}

// PrintFailure is [PrintError] for a build that v showed: with what the failed
// step printed, where v did not show that, and a summary line.
func PrintFailure(w io.Writer, err error, v *View, st Style) {
	printFailures(w, failures(err), v, st)
	if s := v.Counts().failed(); s != "" {
		fmt.Fprintf(w, "\n%s\n", st.bold(s))
	}
}

func printFailures(w io.Writer, list []failure, v *View, st Style) {
	for i, f := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		pos := f.pos.String()
		if pos == "" {
			pos = "zlayer"
		}
		fmt.Fprintf(w, "%s %s\n", st.bold(printable(pos)+":"), st.red(Lines(strings.TrimRight(f.text, "\r\n"))))
		Excerpt(w, f.pos, f.source, st)
		if v == nil {
			continue
		}
		if lines := v.Tail(f.step); len(lines) > 0 {
			fmt.Fprintln(w, "The step's last output:")
			for _, l := range lines {
				fmt.Fprintf(w, "  %s\n", l)
			}
		}
	}
}

// failed is the summary of a failed build, such as "3 stages failed, 2 skipped,
// 5 done"; empty when no stage failed.
func (c Counts) failed() string {
	if c.Failed == 0 {
		return ""
	}
	s := count(c.Failed, "stage") + " failed"
	if c.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	if n := c.Done + c.Cached; n > 0 {
		s += fmt.Sprintf(", %d done", n)
	}
	return s
}

// Built is the summary of the stages of a successful build, such as "5 stages, 3
// cached"; empty when nothing is known about stages.
func (c Counts) Built() string {
	n := c.Done + c.Cached
	if n == 0 {
		return ""
	}
	s := count(n, "stage")
	if c.Cached > 0 {
		s += fmt.Sprintf(", %d cached", c.Cached)
	}
	if c.Retries > 0 {
		s += ", " + RetriesText(c.Retries)
	}
	return s
}

// RetriesText says how often something was tried again.
func RetriesText(n int) string {
	if n == 1 {
		return "1 retry"
	}
	return fmt.Sprintf("%d retries", n)
}
