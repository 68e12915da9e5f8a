package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

func newBuild(a *app) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:     "build [flags] [CONTEXT|URL|-]",
		Aliases: []string{"b"},
		Short:   "Build an image from a build file",
		Long: `Build an image from a build file and put it into the image store.

The build context is a directory (the working directory if none is named), a git
URL, the http(s) URL of an archive, or - for a tar archive or a build file on
standard input. Progress goes to standard error. Standard output gets only what
was asked for: the digest with --quiet, an archive with -o -, the answer of
--check and --call.

Stages that do not depend on each other are built side by side. After a failure
those that can still be built are built, and all causes are told, unless
--fail-fast is given.`,
		Example: `  zlayer build -t app .
  zlayer build -t registry.example/app:1 --push .
  zlayer build --target test --build-arg GO=1.26 -f build/Dockerfile .
  zlayer build -o out --secret id=npm,src=$HOME/.npmrc https://github.com/owner/repo.git#main:web
  zlayer build --platform linux/amd64,linux/arm64 -o type=oci,dest=app.tar .
  zlayer build --check .`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("zlayer build takes one build context, not %d: %s", len(args), strings.Join(args, " "))
			}
			return nil
		},
	}
	f.register(cmd.Flags())
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := f.plan(a, cmd.Flags(), args)
		if err != nil {
			return usage(err)
		}
		return a.build(cmd.Context(), p)
	}
	return cmd
}

// buildPlan is a build command with all its values checked.
type buildPlan struct {
	request engine.Request
	mode    progress.Mode
	call    engine.Call
	// json asks for the answer to call in the form for programs.
	json bool
	// resultJSON asks for a description of the result on standard output.
	resultJSON bool
	// updateLock asks for the lock file to be updated before the build.
	updateLock   bool
	metadataFile string
	iidFile      string
	// archive is standard output where it is an output; nil otherwise.
	archive *archiveWriter
}

// build runs a checked command.
func (a *app) build(ctx context.Context, p *buildPlan) error {
	return a.withView(ctx, p.mode, []string{p.iidFile, p.metadataFile}, func(e builder, view *progress.View) error {
		if p.updateLock {
			if err := a.updateLock(ctx, e, p); err != nil {
				return err
			}
		}
		p.request.Events = view.Sink
		if p.call != "" {
			return a.call(ctx, e, p, view)
		}
		started := time.Now()
		res, err := e.Build(ctx, p.request)
		view.Close()
		switch {
		case err != nil && p.archive != nil && p.archive.err != nil:
			return p.archive.err
		case err != nil:
			return a.failed(ctx, err, view)
		}
		return a.built(p, res, view, time.Since(started))
	})
}

// call asks a question about the build file instead of building.
func (a *app) call(ctx context.Context, e builder, p *buildPlan, view *progress.View) error {
	res, err := e.Call(ctx, p.request, p.call)
	view.Close()
	if err != nil {
		return a.failed(ctx, err, view)
	}
	answer := []byte(progress.Lines(string(res.Text)))
	if p.json {
		answer = res.JSON
	}
	if n := len(answer); n > 0 && answer[n-1] != '\n' {
		answer = append(answer[:n:n], '\n')
	}
	if err := a.print(string(answer)); err != nil {
		return err
	}
	if res.Failed {
		return &toldError{errCheckFailed}
	}
	return nil
}

// failed shows why a build failed. An interrupted one has nothing to show.
func (a *app) failed(ctx context.Context, err error, view *progress.View) error {
	if ctx.Err() != nil {
		return err
	}
	if view.Mode() != progress.RawJSON && view.Mode() != progress.Quiet {
		progress.PrintWarnings(a.stderr, view.Warnings(), a.globals.debug, a.style())
	}
	progress.PrintFailure(a.stderr, err, view, a.style())
	return &toldError{err}
}

// built tells about a successful build.
func (a *app) built(p *buildPlan, res *engine.Result, view *progress.View, took time.Duration) error {
	if err := writeMetadata(p.metadataFile, res); err != nil {
		return err
	}
	if err := writeImageID(p.iidFile, res); err != nil {
		return err
	}
	if p.resultJSON {
		return a.printJSON(resultJSON(res))
	}
	switch p.mode {
	case progress.RawJSON:
		return nil
	case progress.Quiet:
		if res.Digest == "" {
			return nil
		}
		return a.print(res.Digest.String() + "\n")
	}
	progress.PrintWarnings(a.stderr, slices.Concat(view.Warnings(), res.Warnings), a.globals.debug, a.style())
	a.note(summary(res, view.Counts(), took))
	return nil
}

// summary is the last line of a successful build.
func summary(res *engine.Result, counts progress.Counts, took time.Duration) string {
	parts := []string{outcome(res)}
	parts = append(parts, shortNames(res.Tags)...)
	if res.Digest != "" {
		parts = append(parts, res.Digest.String())
	}
	parts = append(parts, "in "+duration(took))
	if s := counts.Built(); s != "" && res.Changed {
		parts = append(parts, "("+s+")")
	}
	return strings.Join(parts, " ")
}

// outcome says in a word what a build had to do.
func outcome(res *engine.Result) string {
	switch {
	case res.Changed:
		return "built"
	case res.Restored:
		return "restored"
	}
	return "unchanged"
}

// duration is how long something took, for people.
func duration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// updateLock is --update-bottles.
func (a *app) updateLock(ctx context.Context, e builder, p *buildPlan) error {
	res, err := e.Lock(ctx, []engine.Request{p.request}, engine.LockOptions{UpdateAll: true})
	if err != nil {
		return err
	}
	a.lockUpdated(p.mode, res)
	return nil
}

// lockUpdated tells what --update-bottles has done.
func (a *app) lockUpdated(mode progress.Mode, res *engine.LockResult) {
	if mode != progress.Quiet && mode != progress.RawJSON {
		a.note("--update-bottles updates the lock file: " + lockSummary(res))
	}
}
