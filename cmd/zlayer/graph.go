package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
)

// graphFormats are the forms of zlayer graph.
var graphFormats = map[string]func(*graph.Picture, io.Writer) error{
	"text":    (*graph.Picture).Text,
	"dot":     (*graph.Picture).Dot,
	"mermaid": (*graph.Picture).Mermaid,
	"json":    (*graph.Picture).JSON,
}

// errNoGraph says that there is nothing to show.
var errNoGraph = errors.New("the build file is left to another frontend by its syntax line: its stages are not known")

// graphFlags are the flags of the graph command as they were given.
type graphFlags struct {
	build    buildFlags
	format   string
	last     bool
	pipeline string
	set      []string
}

func newGraph(a *app) *cobra.Command {
	var f graphFlags
	cmd := &cobra.Command{
		Use:   "graph [flags] [CONTEXT | NAME...]",
		Short: "Show the stages of a build and what they read of each other",
		Long: `Show the stages of a build, those of nested builds too, and what they read of each
other: as text, as JSON, or as a picture in the languages of Graphviz (dot) and
Mermaid. With a pipeline, all its images or those that are named. Nothing is built.

Of each stage it is said how it stands: memoized (an earlier build is remembered,
and no daemon is needed), unchanged (as in the last build, so that the daemon
should have it), or runs. With --last it is what became of it when something was
last built: built, cached, failed or skipped, how long it took, and whether it lies
on the critical path, which is what the build had to wait for. When everything was
remembered since, that is said above it.`,
		Example: `  zlayer graph
  zlayer graph --last
  zlayer graph --format dot . | dot -Tsvg > build.svg
  zlayer graph --format mermaid -f build/Dockerfile .
  zlayer graph -f ZPipeline.yaml --last`,
	}
	f.register(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		draw := graphFormats[f.format]
		if draw == nil {
			return usage(fmt.Errorf("--format %q is none of text, dot, mermaid and json", f.format))
		}
		ask, err := f.question(a, cmd, args)
		if err != nil {
			return err
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			p, head, err := ask(cmd.Context(), e)
			if err != nil {
				return err
			}
			if p == nil && f.last && f.format == "text" {
				return a.print(strings.TrimSuffix(head, "\n"))
			}
			if p == nil && f.last {
				return fmt.Errorf("%w: everything was remembered whenever it was asked for", engine.ErrNoLastBuild)
			}
			if p == nil {
				return errNoGraph
			}
			var b bytes.Buffer
			if f.format == "text" {
				b.WriteString(head)
			}
			if err := draw(p, &b); err != nil {
				return err
			}
			return a.print(b.String())
		})
	}
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	return cmd
}

func (f *graphFlags) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(&f.format, "format", "text", "show as `FORMAT`: text, dot, mermaid or json")
	fs.BoolVar(&f.last, "last", false, "show how the last build went instead of how one would go")
	group(fs, "How to show it")
	fs.StringVar(&f.pipeline, "pipeline", "", "show the images of the pipeline `FILE`; a --file that is called like a pipeline is one, too")
	fs.StringArrayVar(&f.set, "set", nil, "for a pipeline, set a variable or field as zlayer pipeline does: `NAME=VALUE` (repeatable)")
	f.build.what(fs)
	f.build.locking(fs)
	f.build.allowFlag(fs)
	group(fs, "What is built")
}

// asked gives the picture to show, and a line about it.
type asked func(context.Context, builder) (p *graph.Picture, head string, err error)

// question says what the command line asks for.
func (f *graphFlags) question(a *app, cmd *cobra.Command, args []string) (asked, error) {
	file := f.pipeline
	if file == "" && isPipelineName(f.build.file) {
		file = f.build.file
	}
	if file != "" {
		return f.pipelineQuestion(a, cmd.Flags(), file, args)
	}
	if len(f.set) > 0 {
		return nil, usage(errors.New("--set is for pipelines: name one with --pipeline"))
	}
	where := "."
	switch len(args) {
	case 0:
	case 1:
		where = args[0]
	default:
		return nil, usage(fmt.Errorf("zlayer graph takes one build context, not %d: %s", len(args), strings.Join(args, " ")))
	}
	req, err := f.build.request(a, cmd.Flags(), where)
	if err != nil {
		return nil, usage(err)
	}
	return func(ctx context.Context, e builder) (*graph.Picture, string, error) {
		if f.last {
			return lastPicture(e.LastBuild(req))
		}
		p, err := e.Outlook(ctx, req)
		return p, "", err
	}, nil
}

// pipelineQuestion asks about the images of a pipeline.
func (f *graphFlags) pipelineQuestion(a *app, given *pflag.FlagSet, file string, names []string) (asked, error) {
	if f.last && len(names) > 0 {
		return nil, usage(errors.New("--last shows all images that were built last: name none"))
	}
	flags := pipelineFlags{
		file: file, set: f.set, root: f.build.root, platforms: f.build.platforms, lockFile: f.build.lockFile,
		locked: f.build.locked, offline: f.build.offline, defaultRegistry: f.build.defaultRegistry, allow: f.build.allow,
		normalizeModes: f.build.normalizeModes, nestedIgnore: f.build.nestedIgnore,
	}
	plan, err := flags.plan(a, given, names)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e builder) (*graph.Picture, string, error) {
		if f.last {
			return lastPicture(e.LastPipeline(plan.pipeline))
		}
		p, err := e.OutlookPipeline(ctx, plan.pipeline, plan.options)
		return p, "", err
	}, nil
}

// lastPicture is the picture of the last build.
func lastPicture(l *engine.LastBuild, err error) (*graph.Picture, string, error) {
	if err != nil {
		return nil, "", err
	}
	said := ""
	at := func(how string, ended time.Time, took time.Duration) {
		said += fmt.Sprintf("%s %s, in %s\n", how, ended.Local().Format(time.DateTime), duration(took))
	}
	if r := l.Recalled; r != nil {
		how := "unchanged"
		if r.Restored {
			how = "restored"
		}
		at(how, r.Ended, r.Took)
	}
	switch {
	case l.Graph == nil:
	case l.Failed:
		at("failed", l.Ended, l.Took)
	default:
		at("built", l.Ended, l.Took)
	}
	return l.Graph, said + "\n", nil
}

// isPipelineName reports whether a file is called like a pipeline.
func isPipelineName(file string) bool {
	name := filepath.Base(file)
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && (strings.HasPrefix(name, "ZPipeline") || strings.HasPrefix(name, "zlayer-pipeline"))
}
