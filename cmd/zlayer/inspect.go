package main

import (
	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

func newInspect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect IMAGE...",
		Short: "Show all that is known about images, as a JSON list",
		Long: `Show all that is known about images, as a JSON list with one element per image:
names, descriptor, manifests, configs, history, layers with their sizes.

An image is named as in "zlayer images", by its digest, or by the digest's first
digits.`,
		Example: "  zlayer inspect app\n  zlayer inspect app | jq '.[0].images[0].config.config.Env'",
		Args:    atLeastOne("IMAGE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			var list []*store.Inspection
			for _, ref := range args {
				i, err := s.Inspect(cmd.Context(), ref)
				if err != nil {
					return err
				}
				list = append(list, i)
			}
			return a.printJSON(list)
		})
	}
	return storeCommand(cmd)
}
