//go:build linux

package daemon

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInProcess(t *testing.T) {
	cfg := testConfig(t)
	c, err := InProcess(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := build(t.Context(), c, runState("echo in process")); err != nil {
		t.Error(err)
	}
	if _, err := Status(t.Context(), cfg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Status: %v: the private engine looks like a shared daemon", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	noLeaks(t, cfg.StateDir)
}

// TestInProcessTakesOver asks an idle daemon to leave, whose cache it uses.
func TestInProcessTakesOver(t *testing.T) {
	cfg := testConfig(t)
	connect(t, cfg).Close()
	c, err := InProcess(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(c.Info.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Info.Warnings)
	}
}

func TestInProcessBesideBusy(t *testing.T) {
	cfg := testConfig(t)
	connect(t, cfg) // and stays connected
	c, err := InProcess(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Info.Warnings) != 1 || !strings.Contains(c.Info.Warnings[0], "--no-daemon") {
		t.Errorf("warnings: %q", c.Info.Warnings)
	}
	if err := build(t.Context(), c, runState("echo private")); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if left := glob(t, filepath.Join(cfg.StateDir, privatePrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// TestDaemonBesideInProcess starts the shared daemon while its slot is taken.
func TestDaemonBesideInProcess(t *testing.T) {
	cfg := testConfig(t)
	private, err := InProcess(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	c := connect(t, cfg)
	if len(c.Info.Warnings) != 1 || !strings.Contains(c.Info.Warnings[0], "in use by a build with --no-daemon") {
		t.Errorf("warnings: %q", c.Info.Warnings)
	}
	if err := build(t.Context(), c, runState("echo beside")); err != nil {
		t.Error(err)
	}
}

// TestInProcessCallerKilled kills the caller of InProcess during a build.
func TestInProcessCallerKilled(t *testing.T) {
	cfg := testConfig(t)
	cmd := clientCommand(t, clientOrder{Config: cfg, Do: "inprocess", Hold: true})
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, cmd.Stderr)
	}
	var info Info
	if err := json.Unmarshal(line, &info); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if err := awaitUnlock(t.Context(), slot{cfg.StateDir, mainSlot}, 10*time.Second); err != nil {
		t.Errorf("the engine outlived its caller: %v", err)
	}
	noLeaks(t, cfg.StateDir)
}

// TestSweep removes the slot of a killed private engine when the main slot
// gets a new owner.
func TestSweep(t *testing.T) {
	cfg := testConfig(t)
	left := slot{cfg.StateDir, privatePrefix + "killed"}
	if err := left.create(); err != nil {
		t.Fatal(err)
	}
	owned := slot{cfg.StateDir, besidePrefix + "owned"}
	lock, err := owned.acquire()
	if err != nil {
		t.Fatal(err)
	}
	connect(t, cfg).Close()
	if _, err := os.Stat(left.dir()); err == nil {
		t.Error("the slot without an owner is still there")
	}
	if _, err := os.Stat(owned.dir()); err != nil {
		t.Errorf("the slot with an owner is gone: %v", err)
	}
	if err := os.RemoveAll(owned.dir()); err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestServe(t *testing.T) {
	cfg := testConfig(t)
	done := make(chan error, 1)
	ready := make(chan Info, 1)
	go func() { done <- Serve(t.Context(), cfg, func(i Info) { ready <- i }) }()
	var info Info
	select {
	case info = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	if c := connect(t, cfg); c.Info.PID != info.PID {
		t.Errorf("connected to process %d, served by %d", c.Info.PID, info.PID)
	}
	if err := Serve(t.Context(), cfg, func(Info) {}); err == nil || !strings.Contains(err.Error(), "zlayer daemon stop") {
		t.Errorf("a second daemon: %v", err)
	}
	if err := Stop(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
