//go:build linux

package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConnectBuilds(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	if err := build(t.Context(), c, runState("echo hello; test $(busybox id -u) = 0 || busybox true")); err != nil {
		t.Fatal(err)
	}
	if c.Info.Snapshotter == "" || c.Info.PID == 0 || c.Info.Version == "" || c.Info.Runc == "" {
		t.Errorf("Info is incomplete: %+v", c.Info)
	}
	again := connect(t, cfg)
	if again.Info.PID != c.Info.PID {
		t.Errorf("second connection got process %d, first %d", again.Info.PID, c.Info.PID)
	}
	if again.Info.Connections != 2 {
		t.Errorf("%d connections, want 2", again.Info.Connections)
	}
}

func TestColdStarts(t *testing.T) {
	cfg := testConfig(t)
	const n = 20
	pids := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { pids[i] = runClientProcess(t, clientOrder{Config: cfg}).PID })
	}
	wg.Wait()
	for _, pid := range pids {
		if pid != pids[0] {
			t.Fatalf("more than one daemon: %v", pids)
		}
	}
}

func TestDaemonFiles(t *testing.T) {
	cfg := testConfig(t)
	connect(t, cfg)
	s := slot{cfg.StateDir, mainSlot}
	for path, want := range map[string]os.FileMode{
		s.dir():    os.ModeDir | 0o700,
		s.socket(): os.ModeSocket | 0o600,
		s.log():    0o600,
		s.lock():   0o600,
	} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode(), want)
		}
	}
}

func TestLongStateDir(t *testing.T) {
	cfg := testConfig(t)
	cfg.StateDir = filepath.Join(cfg.StateDir, strings.Repeat("long/", 30))
	t.Cleanup(func() { stopDaemon(t, cfg) })
	c := connect(t, cfg)
	if err := build(t.Context(), c, runState("echo long")); err != nil {
		t.Fatal(err)
	}
	if again := connect(t, cfg); again.Info.PID != c.Info.PID {
		t.Error("the daemon was not found again")
	}
}

func TestIdleExit(t *testing.T) {
	cfg := testConfig(t)
	cfg.IdleTimeout = 20 * time.Millisecond
	c := connect(t, cfg)
	if err := build(t.Context(), c, runState("echo idle")); err != nil {
		t.Fatal(err)
	}
	s := slot{cfg.StateDir, mainSlot}
	// A connection keeps it alive, however long it is silent.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if f, err := lockFile(ctx, s.lock()); err == nil {
		f.Close()
		t.Fatal("the daemon left while we were connected")
	}
	c.Close()
	if err := awaitUnlock(t.Context(), s, 10*time.Second); err != nil {
		t.Fatalf("the daemon did not leave: %v", err)
	}
	noLeaks(t, cfg.StateDir)
	if _, err := os.Stat(s.socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := Status(t.Context(), cfg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Status: %v, want ErrNotRunning", err)
	}
}

// TestIdleExitRace connects at about the moment the daemon leaves, again and
// again.
func TestIdleExitRace(t *testing.T) {
	cfg := testConfig(t)
	cfg.IdleTimeout = 1 // leaves as soon as it can
	pids := map[int]bool{}
	for i := 0; i < 1000 && len(pids) < 15; i++ {
		c, err := Connect(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		pids[c.Info.PID] = true
		// Once connected, the daemon is there to stay.
		if _, err := c.Client.ListWorkers(t.Context()); err != nil {
			t.Fatalf("connected, but: %v", err)
		}
		c.Close()
		time.Sleep(rand.N(10 * time.Millisecond)) // any moment will do
	}
	if len(pids) < 15 {
		t.Errorf("%d daemons in 1000 connections: the race was hardly tried", len(pids))
	}
}

func TestStaleSocket(t *testing.T) {
	cfg := testConfig(t)
	s := slot{cfg.StateDir, mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(s.socket())
	if err != nil {
		t.Fatal(err)
	}
	l.(*unlinkListener).Listener.Close() // leaves the file, as a killed daemon does
	if _, err := os.Stat(s.socket()); err != nil {
		t.Fatal(err)
	}
	connect(t, cfg)
}

func TestVersionReplacesIdle(t *testing.T) {
	cfg := testConfig(t)
	cfg.BuildID = "old"
	c := connect(t, cfg)
	old := c.Info.PID
	c.Close()
	cfg.BuildID = "new"
	c = connect(t, cfg)
	if c.Info.PID == old || c.Info.BuildID != "new" || c.Info.StateDir != cfg.StateDir {
		t.Errorf("got %+v, want another process than %d", c.Info, old)
	}
	if len(c.Info.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Info.Warnings)
	}
}

func TestVersionBesideBusy(t *testing.T) {
	cfg := testConfig(t)
	cfg.BuildID = "old"
	old := connect(t, cfg)
	cfg.BuildID = "new"
	c := connect(t, cfg)
	if c.Info.PID == old.Info.PID || c.Info.BuildID != "new" {
		t.Fatalf("got %+v, want another process than %d", c.Info, old.Info.PID)
	}
	if len(c.Info.Warnings) != 1 || !strings.Contains(c.Info.Warnings[0], "second daemon") {
		t.Errorf("warnings %q", c.Info.Warnings)
	}
	if err := build(t.Context(), c, runState("echo beside")); err != nil {
		t.Error(err)
	}
	if err := build(t.Context(), old, runState("echo old")); err != nil {
		t.Error(err)
	}
	if second := connect(t, cfg); second.Info.PID != c.Info.PID {
		t.Error("a third daemon was started")
	}
}

func TestConfigReplacesIdle(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	first := c.Info
	c.Close()
	cfg.MaxStorage = 1 << 30
	c = connect(t, cfg)
	if c.Info.PID == first.PID || c.Info.ConfigHash == first.ConfigHash {
		t.Errorf("a changed configuration was ignored: %+v", c.Info)
	}
	workers, err := c.Client.ListWorkers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	policy := workers[0].GCPolicy
	if got := policy[len(policy)-1].MaxUsedSpace; got != 1<<30 {
		t.Errorf("cache may use %d bytes", got)
	}
}

func TestTwoStateDirs(t *testing.T) {
	a, b := testConfig(t), testConfig(t)
	ca, cb := connect(t, a), connect(t, b)
	if ca.Info.PID == cb.Info.PID {
		t.Error("two state directories share a daemon")
	}
	if err := Stop(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := build(t.Context(), cb, runState("echo b")); err != nil {
		t.Errorf("stopping one daemon hurt the other: %v", err)
	}
}

func TestStop(t *testing.T) {
	cfg := testConfig(t)
	if err := Stop(t.Context(), cfg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Stop of nothing: %v", err)
	}
	c := connect(t, cfg)
	info, err := Status(t.Context(), cfg)
	if err != nil || info.PID != c.Info.PID {
		t.Errorf("Status: %+v, %v", info, err)
	}
	if err := Stop(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err = c.Client.ListWorkers(t.Context())
	if !Unavailable(err) {
		t.Errorf("a call after Stop: %v, want one that is Unavailable", err)
	}
	// The client must not silently talk to the next daemon.
	connect(t, cfg)
	if _, err := c.Client.ListWorkers(t.Context()); !Unavailable(err) {
		t.Errorf("a call on an old Conn: %v, want one that is Unavailable", err)
	}
}
