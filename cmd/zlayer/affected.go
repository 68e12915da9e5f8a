package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// errNothingAffected is how affected --quiet says that nothing is.
var errNothingAffected = errors.New("nothing is affected")

// affectedFlags are what zlayer affected has besides what builds read.
type affectedFlags struct {
	under, since, format string
	files                []string
	quiet                bool
}

func newAffected(a *app) *cobra.Command {
	var (
		f buildFlags
		w affectedFlags
	)
	cmd := &cobra.Command{
		Use:   "affected [flags] (--since REF | --files PATH) (CONTEXT... | --all-under DIR)",
		Short: "Say which builds a change touches",
		Long: `Say which of several builds a change touches: those whose result could be another
one. Nothing is built, and no daemon is started. With --since, everything counts
that differs from a commit, be it committed or not, and files that git does not
know. What ignore files keep out of a build context does not count.

Builds are named by their contexts. They are listed in an order in which they can
be built: first those that others are based on. The formats:

  list    a name a line
  tree    names with their stages that are touched, below what they are based on
  json    everything that is known
  matrix  for jobs of a CI system: a line of {"include":[{"name":...,"level":...}]}
          for each level, the builds of one level being independent of each other

With --quiet nothing is printed, and the exit code is 0 if a build is affected and 1
if none is.`,
		Example: `  zlayer affected --since origin/main --all-under .
  zlayer affected --since HEAD~1 --format matrix services/api services/web
  git diff --name-only HEAD~1 | zlayer affected --files - --all-under services`,
	}
	f.sources(cmd.Flags())
	group(cmd.Flags(), "What is built")
	w.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		reqs, opts, err := w.plan(cmd, a, &f, args)
		if err != nil {
			return err
		}
		if len(reqs) == 0 || w.since == "" && len(opts.Files) == 0 {
			return a.affected(nothingAffected(reqs), &w)
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			res, err := e.Affected(cmd.Context(), reqs, opts)
			if err != nil {
				return err
			}
			return a.affected(res, &w)
		})
	}
	usesGlobals(cmd, remoteFlags, stateFlags, embeddedFlags)
	return cmd
}

func (w *affectedFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.under, "all-under", "", "look at every directory at and below `DIR` that has a build file and that git does not ignore")
	f.StringVar(&w.since, "since", "", "compare with the git commit, branch or tag `REF`")
	f.StringArrayVar(&w.files, "files", nil, "take `PATH` as changed, - for a list on standard input, one a line (repeatable)")
	f.StringVar(&w.format, "format", "list", "show as `FORMAT`: list, tree, json or matrix")
	f.BoolVarP(&w.quiet, "quiet", "q", false, "print nothing, and tell by the exit code whether a build is affected")
	group(f, "What to tell")
}

// plan checks the command line.
func (w *affectedFlags) plan(cmd *cobra.Command, a *app, f *buildFlags, args []string) ([]engine.NamedRequest, engine.AffectedOptions, error) {
	var o engine.AffectedOptions
	switch {
	case !slices.Contains([]string{"list", "tree", "json", "matrix"}, w.format):
		return nil, o, usage(fmt.Errorf("--format %q: use list, tree, json or matrix", w.format))
	case (w.since == "") == (len(w.files) == 0):
		return nil, o, usage(errors.New("say what has changed: --since REF or --files PATH"))
	case w.under != "" && len(args) > 0:
		return nil, o, usage(errors.New("--all-under finds the build contexts: name none besides it"))
	case w.under == "" && len(args) == 0:
		return nil, o, usage(errors.New("name the build contexts to look at, or where they are with --all-under DIR"))
	}
	o.Since = w.since
	for _, p := range w.files {
		if p != "-" {
			o.Files = append(o.Files, p)
			continue
		}
		lines, err := readLines(a.stdin)
		if err != nil {
			return nil, o, fmt.Errorf("reading the list of files: %w", err)
		}
		o.Files = append(o.Files, lines...)
	}
	if w.under != "" {
		var err error
		if args, err = engine.FindBuilds(cmd.Context(), w.under); err != nil {
			return nil, o, err
		}
	}
	if len(args) == 0 {
		return nil, o, nil // there is no build file
	}
	reqs, err := f.requests(a, cmd.Flags(), args)
	return reqs, o, usage(err)
}

// nothingAffected is the answer for a change without files.
func nothingAffected(reqs []engine.NamedRequest) *engine.Affected {
	res := &engine.Affected{Images: []engine.AffectedImage{}, Levels: [][]string{}}
	for _, r := range reqs {
		res.Images = append(res.Images, engine.AffectedImage{Name: r.Name})
	}
	return res
}

// readLines reads lines that are not empty.
func readLines(r io.Reader) ([]string, error) {
	var list []string
	s := bufio.NewScanner(r)
	for s.Scan() {
		if l := strings.TrimSuffix(s.Text(), "\r"); l != "" {
			list = append(list, l)
		}
	}
	return list, s.Err()
}

// affected tells what a change touches.
func (a *app) affected(res *engine.Affected, w *affectedFlags) error {
	if w.quiet {
		if len(res.Levels) == 0 {
			return &toldError{errNothingAffected}
		}
		return nil
	}
	switch w.format {
	case "json":
		return a.printJSON(res)
	case "matrix":
		return a.printMatrix(res)
	case "tree":
		return a.print(affectedTree(res))
	}
	for _, img := range res.Images {
		if img.Reason != "" {
			a.note(img.Name + ": counts as affected: " + img.Reason)
		}
	}
	var b strings.Builder
	for _, level := range res.Levels {
		for _, name := range level {
			b.WriteString(progress.Lines(name) + "\n")
		}
	}
	return a.print(b.String())
}

// printMatrix writes a matrix for each level, and an empty one if there are none: a
// job whose matrix is no JSON fails.
func (a *app) printMatrix(res *engine.Affected) error {
	type job struct {
		Name  string `json:"name"`
		Level int    `json:"level"`
	}
	type matrix struct {
		Include []job `json:"include"`
	}
	list := []matrix{}
	for i, level := range res.Levels {
		m := matrix{}
		for _, name := range level {
			m.Include = append(m.Include, job{name, i})
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		list = []matrix{{Include: []job{}}}
	}
	var b strings.Builder
	for _, m := range list {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return a.print(b.String())
}

// affectedTree draws the affected builds below those that they are based on. One
// that is based on several is drawn below each, what is below it only once.
func affectedTree(res *engine.Affected) string {
	images := map[string]engine.AffectedImage{}
	users := map[string][]string{}
	for _, img := range res.Images {
		images[img.Name] = img
	}
	needs := func(img engine.AffectedImage) []string {
		return slices.DeleteFunc(slices.Clone(img.Needs), func(n string) bool { return !images[n].Affected })
	}
	for _, img := range res.Images {
		for _, n := range needs(img) {
			users[n] = append(users[n], img.Name)
		}
	}
	var b strings.Builder
	drawn := map[string]bool{}
	var draw func(name, indent string)
	draw = func(name, indent string) {
		img := images[name]
		b.WriteString(indent + progress.Lines(name))
		switch {
		case img.Reason != "":
			b.WriteString(" (" + progress.Lines(img.Reason) + ")")
		case len(img.Stages) > 0:
			b.WriteString(" (" + progress.Lines(strings.Join(img.Stages, ", ")) + ")")
		}
		again := drawn[name] && len(users[name]) > 0
		drawn[name] = true
		if again {
			b.WriteString(", see above\n")
			return
		}
		b.WriteByte('\n')
		for _, u := range users[name] {
			draw(u, indent+"  ")
		}
	}
	for _, img := range res.Images {
		if img.Affected && len(needs(img)) == 0 {
			draw(img.Name, "")
		}
	}
	return b.String()
}
