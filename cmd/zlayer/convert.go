package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
)

func newConvert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Show the Dockerfile that a ZImagefile stands for, or the other way round",
		Long: `Show the Dockerfile that a ZImagefile stands for, or the ZImagefile that a
Dockerfile stands for; - reads standard input. What the other format cannot say
is an error.

A ZImagefile is recognised by its name or, where that says nothing, by its text.`,
		Example: "  zlayer convert ZImagefile >Dockerfile\n  zlayer convert Dockerfile >ZImagefile",
		Args:    exactly("FILE"),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		text, err := a.readFile(args[0])
		if err != nil {
			return err
		}
		out, err := engine.ConvertFile(args[0], text)
		if err != nil {
			return err
		}
		return a.print(string(out))
	}
	usesGlobals(cmd)
	return cmd
}

// readFile reads a file, - being standard input.
func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		text, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usage(err)
	}
	return text, nil
}
