package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"
)

// print writes to standard output.
func (a *app) print(text string) error {
	if _, err := io.WriteString(a.stdout, text); err != nil {
		return &stdoutError{err}
	}
	return nil
}

// printJSON writes a value for programs.
func (a *app) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return a.print(string(text) + "\n")
}

// printTable writes rows in aligned columns; the first row is the heading.
func (a *app) printTable(rows [][]string) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.print(b.String())
}

// dataFormat is how a command shows data.
type dataFormat struct {
	name string
	json bool
}

func (f *dataFormat) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "format", "table", "show as `FORMAT`: table or json")
	cmd.Flags().BoolVar(&f.json, "json", false, "short for --format json")
}

// asJSON checks the flags.
func (f *dataFormat) asJSON(cmd *cobra.Command) (bool, error) {
	switch {
	case f.name != "table" && f.name != "json":
		return false, usage(fmt.Errorf("--format %q: use table or json", f.name))
	case f.json && f.name == "table" && cmd.Flags().Changed("format"):
		return false, usage(fmt.Errorf("--json and --format table contradict each other: give one of them"))
	}
	return f.json || f.name == "json", nil
}

// size writes a number of bytes for people.
func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// shortDigest is what people need of a digest to tell images apart.
func shortDigest(d string) string {
	_, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) < 12 {
		return d
	}
	return hex[:12]
}

// orDash stands in for what is not known.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
