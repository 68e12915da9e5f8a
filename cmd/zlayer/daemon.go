package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine/daemon"
)

// daemonControl is what can be done to the background daemon.
type daemonControl interface {
	Start(context.Context, daemon.Config) (daemon.Info, error)
	Serve(context.Context, daemon.Config, func(daemon.Info)) error
	Status(context.Context, daemon.Config) (daemon.Info, error)
	Stop(context.Context, daemon.Config) error
	LogPath(daemon.Config) (string, error)
}

// backgroundDaemon is the real one.
type backgroundDaemon struct{}

// Start makes sure that a daemon runs.
func (backgroundDaemon) Start(ctx context.Context, c daemon.Config) (daemon.Info, error) {
	conn, err := daemon.Connect(ctx, c)
	if err != nil {
		return daemon.Info{}, err
	}
	return conn.Info, conn.Close()
}

// Serve runs a daemon in the foreground.
func (backgroundDaemon) Serve(ctx context.Context, c daemon.Config, ready func(daemon.Info)) error {
	return daemon.Serve(ctx, c, ready)
}

// Status describes the daemon that runs.
func (backgroundDaemon) Status(ctx context.Context, c daemon.Config) (daemon.Info, error) {
	return daemon.Status(ctx, c)
}

// Stop ends the daemon.
func (backgroundDaemon) Stop(ctx context.Context, c daemon.Config) error { return daemon.Stop(ctx, c) }

// LogPath is where the daemon writes its log.
func (backgroundDaemon) LogPath(c daemon.Config) (string, error) { return daemon.LogPath(c) }

func newDaemon(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Control the background daemon",
		Long: `Control the embedded BuildKit that runs in the background. Builds start it by
themselves, share it, and it ends when it has not been used for a while.`,
	}
	cmd.AddCommand(newDaemonStart(a), newDaemonStop(a), newDaemonStatus(a), newDaemonLogs(a), newDaemonServe(a))
	return cmd
}

// daemonConfig is the configuration of the daemon that the flags describe.
func (a *app) daemonConfig() (daemon.Config, error) {
	c, err := a.globals.config()
	if err != nil {
		return daemon.Config{}, usage(err)
	}
	c.Debug = a.globals.debug
	return c.Daemon(), nil
}

func newDaemonStart(a *app) *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use:     "start [flags]",
		Short:   "Start the daemon if it does not run",
		Example: "  zlayer daemon start\n  zlayer daemon start --idle-timeout 0",
		Args:    exactly(),
	}
	cmd.Flags().DurationVar(&idle, "idle-timeout", daemon.DefaultIdleTimeout, "end the daemon when it was not used for `DURATION`; 0 is never")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemonConfig()
		if err != nil {
			return err
		}
		if c.IdleTimeout, err = checkIdle(idle); err != nil {
			return err
		}
		info, err := a.daemon.Start(cmd.Context(), c)
		if err != nil {
			return err
		}
		a.warn(info)
		return a.print(fmt.Sprintf("the daemon runs: process %d, %s\n", info.PID, info.Address))
	}
	usesGlobals(cmd, stateFlags, embeddedFlags, debugFlags)
	return cmd
}

func newDaemonServe(a *app) *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use:    "serve [flags]",
		Short:  "Run the daemon in the foreground, for a supervisor",
		Args:   exactly(),
		Hidden: true,
	}
	cmd.Flags().DurationVar(&idle, "idle-timeout", 0, "end when not used for `DURATION`; 0 is never")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemonConfig()
		if err != nil {
			return err
		}
		if c.IdleTimeout, err = checkIdle(idle); err != nil {
			return err
		}
		return a.daemon.Serve(cmd.Context(), c, func(info daemon.Info) {
			a.warn(info)
			a.note("serving " + info.Address)
		})
	}
	usesGlobals(cmd, stateFlags, embeddedFlags, debugFlags)
	return cmd
}

// checkIdle turns the value of --idle-timeout into that of the daemon, where 0 is
// the default and less than 0 never.
func checkIdle(d time.Duration) (time.Duration, error) {
	switch {
	case d < 0:
		return 0, usage(fmt.Errorf("--idle-timeout %s is negative: 0 is never", d))
	case d == 0:
		return -1, nil
	}
	return d, nil
}

// warn tells what the daemon has to say to the user.
func (a *app) warn(info daemon.Info) {
	for _, w := range info.Warnings {
		a.note("zlayer: " + strings.TrimSpace(w))
	}
}

func newDaemonStop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the daemon",
		Long:  "Stop the daemon. Running builds get ten seconds to finish and are cancelled then.",
		Args:  exactly(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemonConfig()
		if err != nil {
			return err
		}
		if err := a.daemon.Stop(cmd.Context(), c); err != nil {
			return err
		}
		return a.print("the daemon has ended\n")
	}
	usesGlobals(cmd, stateFlags)
	return cmd
}
