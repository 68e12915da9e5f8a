package main

import (
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

// imageRow is one image as --json shows it.
type imageRow struct {
	Name      string     `json:"name,omitempty"`
	Digest    string     `json:"digest"`
	MediaType string     `json:"mediaType"`
	Platforms []string   `json:"platforms"`
	Size      int64      `json:"size"`
	Unpacked  *int64     `json:"unpacked,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	Error     string     `json:"error,omitempty"`
}

func newImages(a *app) *cobra.Command {
	var (
		format                   dataFormat
		quiet, noTrunc, unpacked bool
	)
	cmd := &cobra.Command{
		Use:     "images [flags]",
		Aliases: []string{"ls"},
		Short:   "List the images in the store",
		Example: "  zlayer images\n  zlayer images --json | jq -r '.[].name'",
		Args:    exactly(),
	}
	format.register(cmd)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print digests only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print digests in full")
	cmd.Flags().BoolVar(&unpacked, "unpacked", false, "show also the size of the unpacked layers, which takes reading each once")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
	cmd.MarkFlagsMutuallyExclusive("quiet", "format")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			list, err := s.Images(cmd.Context(), store.ListOptions{Unpacked: unpacked})
			switch {
			case err != nil:
				return err
			case quiet:
				return a.print(digests(list))
			case asJSON:
				return a.printJSON(imageRows(list))
			}
			return a.printTable(imageTable(list, noTrunc, unpacked, time.Now()))
		})
	}
	return storeCommand(cmd)
}

// digests lists each image once, however many names it has.
func digests(list []store.Summary) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, s := range list {
		if d := s.Digest.String(); !seen[d] {
			seen[d] = true
			b.WriteString(d + "\n")
		}
	}
	return b.String()
}

func imageRows(list []store.Summary) []imageRow {
	rows := make([]imageRow, 0, len(list))
	for _, s := range list {
		r := imageRow{Name: s.Name, Digest: s.Digest.String(), MediaType: s.MediaType, Platforms: s.Platforms, Size: s.Size}
		if s.Unpacked >= 0 {
			r.Unpacked = &s.Unpacked
		}
		if !s.Created.IsZero() {
			r.Created = &s.Created
		}
		if s.Err != nil {
			r.Error = s.Err.Error()
		}
		if r.Platforms == nil {
			r.Platforms = []string{}
		}
		rows = append(rows, r)
	}
	return rows
}

func imageTable(list []store.Summary, full, unpacked bool, now time.Time) [][]string {
	head := []string{"NAME", "DIGEST", "PLATFORMS", "CREATED", "SIZE"}
	if unpacked {
		head = append(head, "UNPACKED")
	}
	rows := [][]string{head}
	for _, s := range list {
		d := s.Digest.String()
		if !full {
			d = shortDigest(d)
		}
		name := orDash(strings.Join(shortNames(named(s.Name)), ""))
		if s.Err != nil {
			rows = append(rows, []string{name, d, "broken: " + s.Err.Error()})
			continue
		}
		row := []string{name, d, orDash(strings.Join(s.Platforms, ",")), age(s.Created, now), size(s.Size)}
		if unpacked {
			row = append(row, size(s.Unpacked))
		}
		rows = append(rows, row)
	}
	return rows
}

// named is a list of a name, empty for no name.
func named(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// age says how long ago t was. Reproducible builds put images at the beginning
// of time, where an age says nothing.
func age(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.Unix() <= 0:
		return "1970"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}
