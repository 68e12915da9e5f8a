package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
)

// errLockStale makes lock --check fail; what is stale has been told.
var errLockStale = errors.New("the lock file is stale: run zlayer lock for what is missing, zlayer lock --update for what has moved")

// everything is the value of --update without one.
const everything = "all"

func newLock(a *app) *cobra.Command {
	var (
		f      buildFlags
		update []string
		under  string
		opts   engine.LockOptions
		form   lockForm
	)
	cmd := &cobra.Command{
		Use:   "lock [flags] [CONTEXT... | --all-under DIR]",
		Short: "Write down what images and other sources stand for",
		Long: `Write down what images and other sources stand for, in the lock file zlayer.lock at
the root of the builds: image tags by digest, git references by commit, http
addresses by checksum. Builds hold to it until it is updated. Builds nested in
these are locked with them.

What is locked stays as it is without --update. With --update, arguments that are
no directories are names of what to look up again: images as FROM has them, with or
without the tag, git and http URLs, or patterns of them.

With --check nothing is written: what is missing or has moved is listed, and the
exit code is 1 if there is any.`,
		Example: `  zlayer lock
  zlayer lock services/api services/web
  zlayer lock --all-under . --prune
  zlayer lock --update
  zlayer lock --update alpine 'golang:*'
  zlayer lock --check`,
	}
	f.sources(cmd.Flags())
	cmd.Flags().StringVar(&under, "all-under", "", "lock every directory at and below `DIR` that has a build file and that git does not ignore")
	group(cmd.Flags(), "What to lock")
	cmd.Flags().StringArrayVar(&update, "update", nil, "look up again what is locked as `NAME`, everything if none is named (repeatable)")
	cmd.Flags().Lookup("update").NoOptDefVal = everything
	cmd.Flags().BoolVar(&opts.Check, "check", false, "write nothing, list what is missing or has moved, and fail if there is any")
	cmd.Flags().BoolVar(&opts.Prune, "prune", false, "drop what none of these builds reads")
	cmd.Flags().BoolVar(&form.json, "json", false, "show as JSON")
	cmd.Flags().BoolVar(&form.policy, "policy", false, "show what is locked as a source policy of BuildKit, for buildctl --source-policy-file and the like")
	group(cmd.Flags(), "How to lock it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if form.json && form.policy {
			return usage(errors.New("--json and --policy exclude each other: give one of them"))
		}
		if len(update) > 0 {
			if opts.Check {
				return usage(errors.New("--check writes nothing, so nothing can be updated: leave out --update"))
			}
			args = setUpdate(&opts, update, args)
		}
		if under != "" {
			if len(args) > 0 {
				return usage(errors.New("--all-under finds the build contexts: name none besides it"))
			}
			var err error
			if args, err = engine.FindBuilds(cmd.Context(), under); err != nil {
				return err
			}
			if len(args) == 0 {
				return usage(fmt.Errorf("--all-under: there is no build file at or below %s", under))
			}
		}
		reqs, err := f.requests(a, cmd.Flags(), args)
		if err != nil {
			return usage(err)
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			res, err := e.Lock(cmd.Context(), unnamed(reqs), opts)
			if err != nil {
				return err
			}
			return a.locked(res, opts, form)
		})
	}
	usesGlobals(cmd, remoteFlags, stateFlags, embeddedFlags)
	return cmd
}

// lockForm is how to show what is locked, other than for people.
type lockForm struct{ json, policy bool }

// setUpdate says what is looked up again and returns the arguments that are build
// contexts.
func setUpdate(opts *engine.LockOptions, update, args []string) []string {
	for _, name := range update {
		if name != everything {
			opts.Update = append(opts.Update, name)
		}
	}
	var contexts []string
	for _, arg := range args {
		if fi, err := os.Stat(arg); err == nil && fi.IsDir() {
			contexts = append(contexts, arg)
		} else {
			opts.Update = append(opts.Update, arg)
		}
	}
	opts.UpdateAll = len(opts.Update) == 0
	return contexts
}

func unnamed(reqs []engine.NamedRequest) []engine.Request {
	list := make([]engine.Request, len(reqs))
	for i, r := range reqs {
		list[i] = r.Request
	}
	return list
}

// locked tells what is locked now.
func (a *app) locked(res *engine.LockResult, o engine.LockOptions, form lockForm) error {
	stale := len(res.Added)+len(res.Changed)+len(res.Removed) > 0
	var err error
	switch {
	case form.json:
		err = a.printJSON(res)
	case form.policy:
		var text []byte
		if text, err = res.Policy(); err == nil {
			err = a.print(string(text))
		}
	default:
		var b strings.Builder
		for _, l := range []struct {
			sign    string
			entries []engine.LockEntry
		}{{"+", res.Added}, {"~", res.Changed}, {"-", res.Removed}} {
			for _, e := range l.entries {
				fmt.Fprintf(&b, "%s %s\n", l.sign, e)
			}
		}
		if !o.Check || !stale {
			b.WriteString(lockSummary(res) + "\n")
		}
		err = a.print(b.String())
	}
	if err == nil && o.Check && stale {
		err = errLockStale
	}
	return err
}

// lockSummary says in a line what has happened to the lock file.
func lockSummary(res *engine.LockResult) string {
	s := fmt.Sprintf("%s: %s", res.Path, number(len(res.Entries), "entry", "entries"))
	for _, l := range []struct {
		n    int
		what string
	}{{len(res.Added), "added"}, {len(res.Changed), "changed"}, {len(res.Removed), "removed"}} {
		if l.n > 0 {
			s += fmt.Sprintf(", %d %s", l.n, l.what)
		}
	}
	return s
}

// number writes a number of things.
func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
