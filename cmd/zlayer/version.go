package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// versionRow says what this binary is, as --json shows it.
type versionRow struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	BuildKit string `json:"buildkit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(a *app) *cobra.Command {
	var format dataFormat
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Args:  exactly(),
	}
	format.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		info, _ := debug.ReadBuildInfo()
		v := describe(version, info)
		if asJSON {
			return a.printJSON(v)
		}
		return a.print(v.String() + "\n")
	}
	usesGlobals(cmd)
	return cmd
}

// describe tells the version from the stamp and from what the Go toolchain put
// into the binary, which may be nothing.
func describe(stamp string, info *debug.BuildInfo) versionRow {
	v := versionRow{Version: stamp, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		v.Version = orDash(v.Version)
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/moby/buildkit" {
			v.BuildKit = d.Version
		}
	}
	return v
}

// String is the form for people.
func (v versionRow) String() string {
	var more []string
	if v.Commit != "" {
		c := "commit " + v.Commit[:min(12, len(v.Commit))]
		if v.Modified {
			c += ", modified"
		}
		more = append(more, c)
	}
	if v.BuildKit != "" {
		more = append(more, "BuildKit "+v.BuildKit)
	}
	more = append(more, v.Go, v.Platform)
	return fmt.Sprintf("zlayer %s (%s)", v.Version, strings.Join(more, ", "))
}
