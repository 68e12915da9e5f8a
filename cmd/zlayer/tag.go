package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/store"
)

func newTag(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tag IMAGE NAME",
		Short:   "Give an image in the store another name",
		Long:    "Give an image in the store another name. An image that had the name loses it.",
		Example: "  zlayer tag app registry.example/app:1",
		Args:    exactly("IMAGE", "NAME"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.CheckTag(args[1]); err != nil {
			return usage(fmt.Errorf("name %q: %w", args[1], err))
		}
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			return s.Tag(cmd.Context(), args[0], args[1])
		})
	}
	return storeCommand(cmd)
}
