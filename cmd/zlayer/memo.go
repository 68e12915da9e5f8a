package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/engine"
)

func newMemo(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "memo",
		Short: "Look after what is remembered of earlier builds",
		Long: `Look after what is remembered of earlier builds on this machine. Records that are
elsewhere, see --memo, are looked after by the tools of registries and buckets.`,
	}
	cmd.AddCommand(newMemoList(a), newMemoPrune(a))
	return cmd
}

func newMemoList(a *app) *cobra.Command {
	var format dataFormat
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the records of builds, those used last first",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			list, err := e.Memo(cmd.Context())
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.printJSON(list)
			}
			rows := [][]string{{"KEY", "KIND", "DIGEST", "CREATED", "USED", "SIZE", "NAMES"}}
			for _, r := range list {
				rows = append(rows, []string{
					shortDigest(r.Key.String()), r.Kind, orDash(shortDigest(r.Digest.String())),
					r.Created.Local().Format(time.DateTime), r.Used.Local().Format(time.DateOnly),
					size(r.Size), orDash(strings.Join(shortNames(r.Names), ",")),
				})
			}
			return a.printTable(rows)
		})
	}
	usesGlobals(cmd, stateFlags, memoFlags)
	return cmd
}

func newMemoPrune(a *app) *cobra.Command {
	var (
		format  dataFormat
		limits  engine.MemoLimits
		maxSize string
	)
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Forget builds that were not asked for in a long time",
		Long: `Forget builds that were not asked for in a long time. Without flags these are the
records not used for 90 days, and the least recently used beyond 512 MiB, which
builds delete once a day by themselves. Images and files stay; what is forgotten is
looked up in the build cache again.`,
		Example: "  zlayer memo prune --max-age 168h\n  zlayer memo prune --all",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.Flags().BoolVarP(&limits.All, "all", "a", false, "forget all builds")
	cmd.Flags().DurationVar(&limits.MaxAge, "max-age", 0, "forget what was not used for `DURATION`")
	cmd.Flags().StringVar(&maxSize, "max-size", "", "keep the most recently used records up to `SIZE`, with k, m or g")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		if limits.MaxAge < 0 {
			return usage(fmt.Errorf("--max-age %s is negative", limits.MaxAge))
		}
		if maxSize != "" {
			if limits.MaxSize, err = flags.ParseSize(maxSize); err != nil {
				return usage(fmt.Errorf("--max-size %q: %w", maxSize, err))
			}
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			p, err := e.PruneMemo(cmd.Context(), limits)
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.printJSON(p)
			}
			return a.print(fmt.Sprintf("forgot %s, %s; %d are left\n", number(p.Removed, "build", "builds"), size(p.RemovedBytes), p.Left))
		})
	}
	usesGlobals(cmd, stateFlags, memoFlags)
	return cmd
}
