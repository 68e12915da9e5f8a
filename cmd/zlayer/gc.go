package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

// gcRow is what gc did, as --json shows it.
type gcRow struct {
	DryRun     bool  `json:"dryRun"`
	Untagged   int   `json:"untaggedImages"`
	Blobs      int   `json:"deletedBlobs"`
	Bytes      int64 `json:"deletedBytes"`
	Kept       int   `json:"keptBlobs"`
	KeptBytes  int64 `json:"keptBytes"`
	Young      int   `json:"youngBlobs"`
	YoungBytes int64 `json:"youngBytes"`
	Sessions   int   `json:"staleSessions"`
}

func newGC(a *app) *cobra.Command {
	var (
		format dataFormat
		policy store.GCPolicy
		grace  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "gc [flags]",
		Short: "Delete what no image in the store uses",
		Long: `Delete what no image in the store uses. What has been written or used within the
grace period stays: a build that runs may be about to refer to it.

The build cache is another matter: see "zlayer prune".`,
		Example: "  zlayer gc --dry-run\n  zlayer gc --untagged --grace 0",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.Flags().BoolVarP(&policy.DryRun, "dry-run", "n", false, "delete nothing, tell what would be")
	cmd.Flags().BoolVar(&policy.Untagged, "untagged", false, "remove images without a name first")
	cmd.Flags().DurationVar(&grace, "grace", store.DefaultGrace, "keep what was used within `DURATION`; 0 keeps nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		if grace < 0 {
			return usage(fmt.Errorf("--grace %s is negative: use 0 to keep nothing", grace))
		}
		policy.Grace = grace
		if grace == 0 {
			policy.Grace = -1
		}
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			r, err := s.GC(cmd.Context(), policy)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(gcRow{policy.DryRun, r.Untagged, r.Blobs, r.Bytes, r.Kept, r.KeptBytes, r.Young, r.YoungBytes, r.Sessions})
			}
			return a.print(gcText(r, policy.DryRun))
		})
	}
	return storeCommand(cmd)
}

func gcText(r store.GCReport, dryRun bool) string {
	verb := "deleted"
	if dryRun {
		verb = "would delete"
	}
	s := fmt.Sprintf("%s %d blobs, %s; kept %d, %s\n", verb, r.Blobs, size(r.Bytes), r.Kept, size(r.KeptBytes))
	if r.Young > 0 {
		s += fmt.Sprintf("%d unused blobs, %s, are too young to go\n", r.Young, size(r.YoungBytes))
	}
	return s
}
