package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

func newRemove(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"rmi"},
		Short:   "Remove images from the store",
		Long: `Remove images from the store: a name from its image, or by digest an image that
has at most one name. What an image alone has used is deleted by "zlayer gc".`,
		Example: "  zlayer rm app:old\n  zlayer rm $(zlayer images -q) && zlayer gc",
		Args:    atLeastOne("IMAGE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			var errs []error
			for _, ref := range args {
				errs = append(errs, a.remove(cmd, s, ref))
			}
			return errors.Join(errs...)
		})
	}
	return storeCommand(cmd)
}

func (a *app) remove(cmd *cobra.Command, s *store.Store, ref string) error {
	r, err := s.Remove(cmd.Context(), ref)
	if err != nil {
		return err
	}
	name := r.Digest.String()
	if r.Name != "" {
		name = shortNames(named(r.Name))[0] + " " + name
	}
	what := "untagged "
	if r.Last {
		what = "removed "
	}
	return a.print(what + name + "\n")
}
