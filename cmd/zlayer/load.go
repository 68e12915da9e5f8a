package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

func newLoad(a *app) *cobra.Command {
	var input string
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Read images from an archive into the store",
		Long: `Read images from an archive into the store: a tar of an OCI image layout or what
"docker save" writes, plain or compressed with gzip or zstd.`,
		Example: "  zlayer load -i app.tar\n  docker save app | zlayer load",
		Args:    exactly(),
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "read from `FILE` (default standard input)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := a.stdin
		switch {
		case input != "" && input != "-":
			f, err := os.Open(input)
			if err != nil {
				return usage(err)
			}
			defer f.Close()
			in = f
		case isTerminal(a.stdin):
			return usage(errors.New("standard input is a terminal: send an archive there or add -i FILE"))
		}
		return a.withStore(cmd.Context(), func(s *store.Store) error { return a.load(cmd, s, in) })
	}
	return storeCommand(cmd)
}

func (a *app) load(cmd *cobra.Command, s *store.Store, in io.Reader) error {
	list, err := s.Load(cmd.Context(), in, store.LoadOptions{})
	if err != nil {
		return err
	}
	for _, l := range list {
		names := shortNames(l.Names)
		if len(names) == 0 {
			names = []string{""}
		}
		for _, n := range names {
			if n != "" {
				n += " "
			}
			if err := a.print("loaded " + n + l.Descriptor.Digest.String() + "\n"); err != nil {
				return err
			}
		}
		for _, d := range l.Dropped {
			a.note("zlayer: the archive lists but does not hold " + d.Digest.String() + ": it is left out")
		}
	}
	return nil
}
