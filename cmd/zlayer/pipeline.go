package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

func newPipeline(a *app) *cobra.Command {
	var f pipelineFlags
	cmd := &cobra.Command{
		Use:   "pipeline [flags] [NAME...]",
		Short: "Build the images of a pipeline",
		Long: `Build the images that a pipeline file names, in one run.

What an image depends on is built with it, and what several images share is
built once. After a failure everything is built that does not depend on it. At
the end a table says how each image ended: built, unchanged (it was there),
restored (it was put back where it belongs), failed, or skipped because of
another. docs/pipeline.md describes the file.

Exit codes: 0 all images are there and pushed; 1 something failed; 2 a mistake
on the command line, in the pipeline or in build files, and nothing else
failed; 130 interrupted.`,
		Example: `  zlayer pipeline
  zlayer pipeline --set VERSION=1.2.0 --push
  zlayer pipeline -f deploy/ZPipeline.yaml api 'worker-*'
  zlayer pipeline --print --except tools`,
	}
	f.register(cmd.Flags())
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := f.plan(a, cmd.Flags(), args)
		if err != nil {
			return err
		}
		switch {
		case p.print:
			return a.print(string(p.pipeline.JSON()))
		case p.list:
			return a.listPipeline(p.pipeline)
		}
		return a.pipeline(cmd.Context(), p)
	}
	return cmd
}

// listPipeline shows what there is to build.
func (a *app) listPipeline(p *engine.Pipeline) error {
	rows := [][]string{{"IMAGE", "PLATFORMS", "TAGS", "DEPENDS ON"}}
	for _, i := range p.Images() {
		name := i.Name
		if i.Along {
			name += " (needed)"
		}
		rows = append(rows, []string{name, orDash(strings.Join(i.Platforms, ",")), orDash(strings.Join(shortNames(i.Tags), ",")), orDash(strings.Join(i.DependsOn, ","))})
	}
	if err := a.printTable(rows); err != nil {
		return err
	}
	groups := p.Groups()
	if len(groups) == 0 {
		return nil
	}
	rows = [][]string{{"GROUP", "IMAGES"}}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		rows = append(rows, []string{name, strings.Join(groups[name], ",")})
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	return a.printTable(rows)
}

// pipeline runs a checked command.
func (a *app) pipeline(ctx context.Context, p *pipelinePlan) error {
	return a.withView(ctx, p.mode, []string{p.metadataFile, p.junitFile}, func(e builder, view *progress.View) error {
		if p.updateLock {
			res, err := e.LockPipeline(ctx, p.pipeline, p.options, engine.LockOptions{UpdateAll: true})
			if err != nil {
				return err
			}
			a.lockUpdated(p.mode, res)
		}
		p.options.Events = view.Sink
		res, err := e.BuildPipeline(ctx, p.pipeline, p.options)
		view.Close()
		if res == nil {
			if err == nil || ctx.Err() != nil {
				return err
			}
			return a.failed(ctx, err, view)
		}
		return a.pipelineEnded(ctx, p, res, err, view)
	})
}

// pipelineEnded tells how a pipeline ended.
func (a *app) pipelineEnded(ctx context.Context, p *pipelinePlan, res *engine.BatchResult, err error, view *progress.View) error {
	if werr := writePipelineMetadata(p.metadataFile, res); err == nil {
		err = werr
	}
	if werr := writeJUnit(p.junitFile, res); err == nil {
		err = werr
	}
	switch p.mode {
	case progress.Quiet:
		if perr := a.print(quietTable(res)); err == nil {
			err = perr
		}
	case progress.RawJSON:
	default:
		if err == nil || ctx.Err() != nil {
			progress.PrintWarnings(a.stderr, view.Warnings(), a.globals.debug, a.style())
		}
		a.note("\n" + pipelineTable(res, view.Counts().Retries))
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return a.failed(ctx, err, view)
}

// quietTable is a name and a digest a line.
func quietTable(res *engine.BatchResult) string {
	var b strings.Builder
	for _, i := range res.Images {
		if i.Result != nil && i.Result.Digest != "" && done(i.State) {
			fmt.Fprintf(&b, "%s %s\n", i.Name, i.Result.Digest)
		}
	}
	return b.String()
}

// done reports whether an image is there.
func done(s engine.BatchState) bool {
	return s == engine.BatchBuilt || s == engine.BatchUnchanged || s == engine.BatchRestored
}

// pipelineTable is the table of how all images ended, with a line that sums it up.
func pipelineTable(res *engine.BatchResult, retries int) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSTATE\tDIGEST\tTIME")
	counts := map[engine.BatchState]int{}
	for _, i := range res.Images {
		counts[i.State]++
		state, digest, took := string(i.State), "-", "-"
		if i.Because != "" {
			state += " because of " + i.Because
		}
		if i.Result != nil && i.Result.Digest != "" && done(i.State) {
			digest = shortDigest(i.Result.Digest.String())
		}
		if i.Duration > 0 && i.State != engine.BatchSkipped {
			took = fmt.Sprintf("%.1fs", i.Duration.Seconds())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, state, digest, took)
	}
	_ = w.Flush() // into memory
	var parts []string
	for _, s := range []engine.BatchState{engine.BatchBuilt, engine.BatchUnchanged, engine.BatchRestored, engine.BatchFailed, engine.BatchSkipped} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	pushed := 0
	for _, i := range res.Images {
		pushed += len(i.Pushed)
	}
	if pushed > 0 {
		parts = append(parts, number(pushed, "name", "names")+" pushed")
	}
	if retries > 0 {
		parts = append(parts, progress.RetriesText(retries))
	}
	fmt.Fprintf(&b, "%d images: %s, in %.1fs", len(res.Images), strings.Join(parts, ", "), res.Duration.Seconds())
	return b.String()
}

// writePipelineMetadata writes what is known of each image, by its name.
func writePipelineMetadata(path string, res *engine.BatchResult) error {
	if path == "" {
		return nil
	}
	out := map[string]any{}
	for _, i := range res.Images {
		if i.Result == nil || !done(i.State) {
			continue
		}
		m := metadataOf(i.Result)
		m["zlayer.state"] = i.State
		out[i.Name] = m
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return writeFile(path, append(text, '\n'))
}

// because is the image that another was skipped for.
func because(i engine.BatchImage) string { return cmp.Or(i.Because, "the end of the run") }
