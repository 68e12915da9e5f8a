package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
)

func newRuntimes(a *app) *cobra.Command {
	var format dataFormat
	cmd := &cobra.Command{
		Use:     "runtimes [flags]",
		Short:   "List the language runtimes that projects can be built for",
		Example: "  zlayer runtimes\n  zlayer build --runtime go -t app .",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		list := engine.Runtimes()
		if asJSON {
			return a.printJSON(list)
		}
		rows := [][]string{{"NAME", "ALSO", "FOR", "SUGGESTED BY"}}
		for _, r := range list {
			rows = append(rows, []string{r.Name, strings.Join(r.Aliases, " "), r.Description, strings.Join(r.Detect, " ")})
		}
		return a.printTable(rows)
	}
	usesGlobals(cmd)
	return cmd
}

func newInit(a *app) *cobra.Command {
	var runtime string
	var zimagefile, force bool
	cmd := &cobra.Command{
		Use:   "init [flags] [DIR]",
		Short: "Write a build file for a project that has none",
		Long: `Write a build file for the project in DIR (the working directory if none is
named) from the template of its language runtime. The file is yours from then on.
One that is there is kept, unless --force is given.`,
		Example: "  zlayer init\n  zlayer init --runtime node22 --zimagefile web",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&runtime, "runtime", "", "take the template of the runtime `NAME` instead of the one that the project suggests")
	cmd.Flags().BoolVar(&zimagefile, "zimagefile", false, "write a ZImagefile instead of a Dockerfile")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, name := ".", "Dockerfile"
		if len(args) > 0 {
			dir = args[0]
		}
		if zimagefile {
			name = "ZImagefile"
		}
		text, err := engine.RuntimeFile(dir, runtime, zimagefile)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if err := writeNew(path, text, force); err != nil {
			return err
		}
		return a.print(path + "\n")
	}
	usesGlobals(cmd)
	return cmd
}

// writeNew writes a file that must not be there, unless it may be replaced.
func writeNew(path string, text []byte, replace bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if replace {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usage(errors.New(path + " is there already: --force replaces it"))
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
