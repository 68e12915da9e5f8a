package main

import (
	"bytes"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
)

// errNotFormatted makes fmt --check fail; the files have been named.
var errNotFormatted = errors.New("not formatted: run zlayer fmt")

func newFmt(a *app) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [--check] FILE...",
		Short: "Bring ZImagefiles into their usual form",
		Long: `Bring ZImagefiles into their usual form and name those that changed. Comments and
the order of things stay. A file with mistakes is left as it is. - formats
standard input to standard output.`,
		Example: "  zlayer fmt ZImagefile\n  zlayer fmt --check */ZImagefile",
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing, name the files that would be changed and fail if there are any")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var errs []error
		changed := false
		for _, name := range args {
			c, err := a.format(name, check)
			changed = changed || c
			errs = append(errs, err)
		}
		if check && changed {
			errs = append(errs, errNotFormatted)
		}
		return errors.Join(errs...)
	}
	usesGlobals(cmd)
	return cmd
}

// format formats one file and reports whether that changes it.
func (a *app) format(name string, check bool) (bool, error) {
	text, err := a.readFile(name)
	if err != nil {
		return false, err
	}
	out, err := engine.FormatFile(name, text)
	if err != nil {
		return false, err
	}
	if name == "-" && !check {
		return false, a.print(string(out))
	}
	if bytes.Equal(out, text) {
		return false, nil
	}
	if err := a.print(name + "\n"); err != nil || check {
		return true, err
	}
	fi, err := os.Stat(name)
	if err != nil {
		return true, err
	}
	return true, os.WriteFile(name, out, fi.Mode().Perm())
}
