package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/graph"
)

// graphFormats are the forms of zlayer graph.
var graphFormats = map[string]func(io.Writer, *graph.Graph) error{
	"text":    graph.Fprint,
	"dot":     graph.Dot,
	"mermaid": graph.Mermaid,
	"json":    graph.JSON,
}

// errNoGraph says that there is nothing to show.
var errNoGraph = errors.New("the build file is left to another frontend by its syntax line: its stages are not known")

func newGraph(a *app) *cobra.Command {
	var (
		f      buildFlags
		format string
	)
	cmd := &cobra.Command{
		Use:   "graph [flags] [CONTEXT]",
		Short: "Show the stages of a build and what they read of each other",
		Long: `Show the stages of a build, those of nested builds too, and what they read of each
other: as text, as JSON, or as a picture in the languages of Graphviz (dot) and
Mermaid. Nothing is built.`,
		Example: `  zlayer graph
  zlayer graph --format dot . | dot -Tsvg > build.svg
  zlayer graph --format mermaid -f build/Dockerfile .`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("zlayer graph takes one build context, not %d: %s", len(args), strings.Join(args, " "))
			}
			return nil
		},
	}
	f.graphFlags(cmd.Flags(), &format)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		context := "."
		if len(args) == 1 {
			context = args[0]
		}
		write := graphFormats[format]
		if write == nil {
			return usage(fmt.Errorf("--format %q is none of text, dot, mermaid and json", format))
		}
		req, err := f.request(a, cmd.Flags(), context)
		if err != nil {
			return usage(err)
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			g, err := e.Plan(cmd.Context(), req)
			if err != nil {
				return err
			}
			if g == nil {
				return errNoGraph
			}
			var b bytes.Buffer
			if err := write(&b, g); err != nil {
				return err
			}
			return a.print(b.String())
		})
	}
	usesGlobals(cmd, remoteFlags, stateFlags, embeddedFlags, debugFlags)
	return cmd
}

// graphFlags are the flags that say what is built.
func (f *buildFlags) graphFlags(fs *pflag.FlagSet, format *string) {
	fs.SortFlags = false
	fs.StringVar(format, "format", "text", "show as `FORMAT`: text, dot, mermaid or json")
	group(fs, "How to show it")
	f.what(fs)
	f.locking(fs)
	f.allowFlag(fs)
	group(fs, "What is built")
}
