package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine/daemon"
)

// daemonRow is the daemon's state as --json shows it.
type daemonRow struct {
	Running     bool       `json:"running"`
	PID         int        `json:"pid,omitempty"`
	Address     string     `json:"address,omitempty"`
	BuildKit    string     `json:"buildkit,omitempty"`
	BuildID     string     `json:"buildID,omitempty"`
	Started     *time.Time `json:"started,omitempty"`
	Connections int        `json:"connections"`
	Rootless    bool       `json:"rootless"`
	Snapshotter string     `json:"snapshotter,omitempty"`
	Runc        string     `json:"runc,omitempty"`
	StateDir    string     `json:"stateDir,omitempty"`
	Log         string     `json:"log,omitempty"`
	Warnings    []string   `json:"warnings,omitempty"`
}

func newDaemonStatus(a *app) *cobra.Command {
	var format dataFormat
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show the daemon's state",
		Long:  "Show the daemon's state. The exit code is 1 when no daemon runs.",
		Args:  exactly(),
	}
	format.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		c, err := a.daemonConfig()
		if err != nil {
			return err
		}
		info, err := a.daemon.Status(cmd.Context(), c)
		stopped := errors.Is(err, daemon.ErrNotRunning)
		if err != nil && !stopped {
			return err
		}
		row := statusRow(info, !stopped)
		if asJSON {
			if err := a.printJSON(row); err != nil || !stopped {
				return err
			}
			return &toldError{daemon.ErrNotRunning}
		}
		if stopped {
			return daemon.ErrNotRunning
		}
		return a.printTable(statusTable(row, time.Now()))
	}
	usesGlobals(cmd, stateFlags)
	return cmd
}

func statusRow(i daemon.Info, running bool) daemonRow {
	if !running {
		return daemonRow{}
	}
	return daemonRow{
		Running: true, PID: i.PID, Address: i.Address, BuildKit: i.Version, BuildID: i.BuildID,
		Started: &i.Started, Connections: i.Connections, Rootless: i.Rootless,
		Snapshotter: i.Snapshotter, Runc: i.Runc, StateDir: i.StateDir, Log: i.LogPath, Warnings: i.Warnings,
	}
}

func statusTable(r daemonRow, now time.Time) [][]string {
	mode := "root"
	if r.Rootless {
		mode = "rootless"
	}
	rows := [][]string{
		{"Process:", strconv.Itoa(r.PID)},
		{"Started:", age(*r.Started, now)},
		{"Address:", r.Address},
		// Asking has taken one.
		{"Connections:", strconv.Itoa(max(0, r.Connections-1))},
		{"BuildKit:", fmt.Sprintf("%s, %s, %s", r.BuildKit, mode, r.Snapshotter)},
		{"Runtime:", r.Runc},
		{"State:", r.StateDir},
		{"Log:", r.Log},
	}
	for _, w := range r.Warnings {
		rows = append(rows, []string{"Warning:", w})
	}
	return rows
}
