package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// shownChanges is how many changes of a stage are shown unless all are asked for.
const shownChanges = 20

// whyFlags are what zlayer why has besides the flags of zlayer build.
type whyFlags struct {
	against     string
	stages      []string
	json, every bool
}

func newWhy(a *app) *cobra.Command {
	var (
		f buildFlags
		w whyFlags
	)
	cmd := &cobra.Command{
		Use:   "why [flags] [CONTEXT]",
		Short: "Say what has changed since the last build",
		Long: `Say what has changed since the last build of the same build file, target and
platforms: files, instructions, base images, build arguments, with the place in the
build file that is concerned. Nothing is built, and no daemon is started.

The flags of zlayer build are taken as they are, also those that have no influence
on what is built, such as --tag: put why in the place of build. For zlayer wasm build
there is zlayer wasm why. The values of build arguments and secrets are never shown.

The exit code is 0 whether something has changed or not, 1 where there is nothing
to compare with, and 2 after a mistake.`,
		Example: `  zlayer why
  zlayer why -f build/Dockerfile --build-arg GO=1.26 .
  zlayer why --against main --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("zlayer why takes one build context, not %d: %s", len(args), strings.Join(args, " "))
			}
			return nil
		},
	}
	w.register(cmd.Flags(), &f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		where := "."
		if len(args) == 1 {
			where = args[0]
		}
		req, err := f.request(a, cmd.Flags(), where)
		if err != nil {
			return usage(err)
		}
		return w.ask(cmd.Context(), a, req)
	}
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	return cmd
}

func newWasmWhy(a *app) *cobra.Command {
	var (
		f buildFlags
		o engine.WasmOptions
		w whyFlags
	)
	cmd := &cobra.Command{
		Use:   "why [flags] [CONTEXT]",
		Short: "Say what has changed since the last build of WebAssembly",
		Long: `Say what has changed since the last build of the same context and build file, as
zlayer why does for images. The flags of zlayer wasm build are taken as they are: put
why in the place of build. Nothing is built, and no daemon is started.`,
		Example: `  zlayer wasm why
  zlayer wasm why --language c --adapter command -t tool .
  zlayer wasm why --optimize --against main`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("zlayer wasm why takes one build context, not %d", len(args))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	w.what(flags)
	registerWasmOptions(flags, &o)
	group(flags, "WebAssembly")
	f.whatWasm(flags)
	group(flags, "What is built")
	f.noInfluence(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		where := "."
		if len(args) == 1 {
			where = args[0]
		}
		req, err := f.request(a, flags, where)
		if err != nil {
			return usage(err)
		}
		req.Wasm = &o
		return w.ask(cmd.Context(), a, req)
	}
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	return cmd
}

// ask has the engine compare, and shows what comes of it.
func (w *whyFlags) ask(ctx context.Context, a *app, req engine.Request) error {
	return a.withEngine(ctx, func(e builder) error {
		why, err := e.Why(ctx, req, w.against)
		if err != nil {
			return noRecord(err)
		}
		return a.explainWhy(why, w)
	})
}

// what are the flags that say what to tell.
func (w *whyFlags) what(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&w.against, "against", "", "compare with a git commit, branch or tag, or the record `REF|DIGEST` of another build, instead of with the last one")
	f.StringArrayVar(&w.stages, "stages", nil, "tell about the stage `NAME,...` only (repeatable)")
	f.BoolVar(&w.every, "all", false, fmt.Sprintf("show all changes of a stage, not only the first %d", shownChanges))
	f.BoolVar(&w.json, "json", false, "show as JSON")
	group(f, "What to tell")
}

func (w *whyFlags) register(f *pflag.FlagSet, b *buildFlags) {
	w.what(f)
	b.what(f)
	b.locking(f)
	b.allowFlag(f)
	group(f, "What is built")
	b.noInfluence(f)
}

// noInfluence takes the other flags of a build without showing them.
func (b *buildFlags) noInfluence(f *pflag.FlagSet) {
	influence := map[string]bool{}
	f.VisitAll(func(fl *pflag.Flag) { influence[fl.Name] = true })
	rest := pflag.NewFlagSet("", pflag.ContinueOnError)
	b.result(rest)
	b.cache(rest)
	b.steps(rest)
	b.how(rest)
	rest.VisitAll(func(fl *pflag.Flag) {
		if !influence[fl.Name] {
			fl.Hidden = true
			f.AddFlag(fl)
		}
	})
}

// explainWhy shows a comparison.
func (a *app) explainWhy(w *engine.Why, o *whyFlags) error {
	var names []string
	for _, s := range o.stages {
		names = append(names, strings.Split(s, ",")...)
	}
	if len(names) > 0 {
		for _, n := range names {
			if !slices.ContainsFunc(w.Stages, func(s engine.WhyStage) bool { return s.Name == n }) && w.NoKey == "" {
				return usage(fmt.Errorf("--stages: there is no stage %q", n))
			}
		}
		w.Stages = slices.DeleteFunc(w.Stages, func(s engine.WhyStage) bool { return !slices.Contains(names, s.Name) })
	}
	if o.json {
		return a.printJSON(w)
	}
	return a.print(whyText(w, o.every))
}

// whyText is a comparison for people.
func whyText(w *engine.Why, every bool) string {
	switch {
	case w.NoKey != "":
		return progress.Lines("nothing is remembered of this build: "+w.NoKey) + "\n"
	case w.Same && len(w.Args) == 0:
		return "nothing has changed since " + progress.Lines(w.Against) + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "compared with %s:\n", progress.Lines(w.Against))
	for _, c := range w.Args {
		fmt.Fprintf(&b, "  %s\n", progress.Lines(changeText(c)))
	}
	same, platforms := 0, map[string]bool{}
	for _, s := range w.Stages {
		platforms[s.Platform] = true
	}
	for _, s := range w.Stages {
		if s.State == engine.StageSame {
			same++
			continue
		}
		if len(platforms) > 1 {
			s.Name += " (" + s.Platform + ")"
		}
		stageText(&b, s, every)
	}
	if same > 0 {
		fmt.Fprintf(&b, "%s the same\n", number(same, "stage is", "stages are"))
	}
	return b.String()
}

func stageText(b *strings.Builder, s engine.WhyStage, every bool) {
	name := "stage " + s.Name
	if pos := s.Pos.String(); pos != "" {
		name = pos + ": " + name
	}
	fmt.Fprintf(b, "%s %s\n", progress.Lines(name), map[engine.StageState]string{
		engine.StageChanged: "has changed:", engine.StageAdded: "is new", engine.StageRemoved: "is gone",
	}[s.State])
	changes := s.Changes
	if !every && len(changes) > shownChanges {
		changes = changes[:shownChanges]
	}
	for _, c := range changes {
		line := changeText(c)
		if pos := c.Pos.String(); pos != "" {
			line = pos + ": " + line
		}
		fmt.Fprintf(b, "  %s\n", progress.Lines(line))
	}
	if n := len(s.Changes) - len(changes); n > 0 {
		fmt.Fprintf(b, "  and %s: --all shows them\n", number(n, "change more", "changes more"))
	}
}

// changeText says one change.
func changeText(c engine.Change) string {
	switch c.Kind {
	case engine.ChangeFileAdded:
		return "file added: " + c.Name
	case engine.ChangeFileRemoved:
		return "file removed: " + c.Name
	case engine.ChangeFileEdited:
		return "file edited: " + c.Name
	case engine.ChangeFileMode:
		return fmt.Sprintf("mode of %s: %s, was %s", c.Name, c.After, c.Before)
	case engine.ChangeFiles:
		return "files of " + c.Name + ": they differ, and were too many to be listed"
	case engine.ChangeArg:
		return argText(c)
	case engine.ChangeConfig:
		return "image config, platform or epoch changed"
	case engine.ChangeStage:
		return fmt.Sprintf("stage %s, which it reads, has changed", cmp.Or(c.After, c.Name, c.Before))
	}
	return fmt.Sprintf("%s %s", c.Kind, editText(c))
}

func argText(c engine.Change) string {
	switch {
	case c.Before == "":
		return "build argument " + c.Name + " is given, was not"
	case c.After == "":
		return "build argument " + c.Name + " is not given, was"
	}
	return "build argument " + c.Name + " has another value"
}

// editText says what became of an instruction or a source.
func editText(c engine.Change) string {
	switch {
	case c.Before == "":
		return "added: " + c.After
	case c.After == "":
		return "removed: " + c.Before
	case c.Before == c.After:
		return "changed by arguments or environment: " + c.After
	}
	return "edited: " + c.After + ", was " + c.Before
}

// noRecord says what to do where there is nothing to compare with.
func noRecord(err error) error {
	if errors.Is(err, engine.ErrNoRecord) {
		return fmt.Errorf("%w: build it once, or compare with a commit by --against", err)
	}
	return err
}
