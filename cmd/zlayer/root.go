package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/util/suggest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot makes the tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "zlayer",
		Short: "Build container images",
		Long: `Build container images from build files, stage by stage, on an embedded BuildKit.

Exit codes: 0 success; 1 a stage failed, or a push or another step after the
build; 2 a mistake on the command line or in a build file; 130 interrupted.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	a.globals.register(root.PersistentFlags())
	root.AddCommand(
		newBuild(a), newPipeline(a), newLock(a), newWhy(a), newAffected(a), newGraph(a),
		newImages(a), newInspect(a), newTag(a), newRemove(a), newSave(a), newLoad(a), newPush(a), newGC(a),
		newConvert(a), newFmt(a), newRuntimes(a), newInit(a), newWasm(a),
		newPrune(a), newMemo(a), newDaemon(a), newFrontend(a), newVersion(a),
	)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = help(a.stdout, cmd) })
	each(root, a.wire)
	return root
}

// wire gives a command what all of them have: the check of global flags, and
// for those that only hold others an answer to anything but one of them.
func (a *app) wire(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = unknownCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return help(a.stdout, cmd) }
		return
	}
	runE := cmd.RunE
	if runE == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.globals.check(cmd, a.lookup); err != nil {
			return err
		}
		a.started = true
		return runE(cmd, args)
	}
}

// each calls f for cmd and everything below it.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		each(c, f)
	}
}

// unknownCommand is the argument check of commands that only hold others.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
			names = append(names, c.Aliases...)
		}
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if s, ok := suggest.Search(args[0], names, false); ok {
		return fmt.Errorf("%w, did you mean %q?", err, s)
	}
	return err
}

// flagError adds a suggestion to an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return err
	}
	name := missing.GetSpecifiedName()
	if len(name) < 2 {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if s, ok := suggest.Search(strings.ToLower(name), names, false); ok {
		return fmt.Errorf("unknown flag --%s, did you mean --%s?", name, s)
	}
	return fmt.Errorf("unknown flag --%s", name)
}

// exactly is the argument check of commands that take one form of arguments;
// names says which.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return fmt.Errorf("%s takes %s, not %d arguments", cmd.CommandPath(), wanted(names), len(args))
		}
		return nil
	}
}

func wanted(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, " and ")
}

// atLeastOne is the argument check of commands that work on a list.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s needs at least one %s", cmd.CommandPath(), name)
		}
		return nil
	}
}
