package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/engine"
)

func newPrune(a *app) *cobra.Command {
	var (
		format dataFormat
		opts   engine.PruneOptions
		keep   string
	)
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Delete build cache that nothing uses",
		Long: `Delete build cache that nothing uses. Builds that run keep what they need, images
in the store stay.`,
		Example: "  zlayer prune --older-than 168h\n  zlayer prune --all --keep 10g",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.Flags().BoolVarP(&opts.All, "all", "a", false, "delete also what belongs to BuildKit itself, such as frontend images")
	cmd.Flags().DurationVar(&opts.OlderThan, "older-than", 0, "delete only what was not used for `DURATION`")
	cmd.Flags().StringVar(&keep, "keep", "", "keep the most recently used `SIZE` of cache, with k, m or g")
	cmd.Flags().StringArrayVar(&opts.Filters, "filter", nil, "delete only what matches BuildKit's `FILTER`, such as type==exec.cachemount (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		if opts.OlderThan < 0 {
			return usage(fmt.Errorf("--older-than %s is negative", opts.OlderThan))
		}
		if keep != "" {
			if opts.Keep, err = flags.ParseSize(keep); err != nil {
				return usage(fmt.Errorf("--keep %q: %w", keep, err))
			}
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			r, err := e.Prune(cmd.Context(), opts)
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.printJSON(r)
			}
			return a.print(fmt.Sprintf("deleted %d records, %s\n", r.Records, size(r.Bytes)))
		})
	}
	usesGlobals(cmd, remoteFlags, stateFlags, embeddedFlags)
	return cmd
}
