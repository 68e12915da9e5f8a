//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKill kills the daemon at random moments of a build, ZLAYER_KILL_ROUNDS
// times (15 by default). After each, the next build must succeed, and in the
// end nothing may be left.
func TestKill(t *testing.T) {
	cfg := testConfig(t)
	rounds := 15
	if v := os.Getenv("ZLAYER_KILL_ROUNDS"); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := build(t.Context(), connect(t, cfg), runState("echo first")); err != nil {
		t.Fatal(err)
	}
	running := 0 // rounds in which a build step was killed
	for i := range rounds {
		c, err := Connect(t.Context(), cfg)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		done := make(chan error, 1)
		go func() {
			// Short steps, so that the moment may be before, in, between or after them.
			st := runState(fmt.Sprintf("echo round %d; busybox sleep 0.05", i))
			for j := range 3 {
				st = st.Run(llbShell(fmt.Sprintf("echo round %d.%d; echo > /file%d; busybox sleep 0.05", i, j, j))).Root()
			}
			done <- build(t.Context(), c, st.Run(llbShell("busybox sleep 1000")).Root())
		}()
		moment := rand.N(600 * time.Millisecond)
		select {
		case err := <-done:
			t.Fatalf("round %d: the build ended by itself: %v", i, err)
		case <-time.After(moment):
		}
		if containers(t, cfg.StateDir) > 0 {
			running++
		}
		if err := syscall.Kill(c.Info.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := <-done; !Unavailable(err) {
			t.Errorf("round %d: the killed build ended with %v, want an error that is Unavailable", i, err)
		}
		c.Close()

		c, err = Connect(t.Context(), cfg)
		if err != nil {
			t.Fatalf("round %d, killed after %v: %v", i, moment, err)
		}
		if len(c.Info.Warnings) > 0 {
			t.Errorf("round %d, killed after %v: warnings %q", i, moment, c.Info.Warnings)
		}
		if err := build(t.Context(), c, runState(fmt.Sprintf("echo after round %d", i))); err != nil {
			t.Fatalf("round %d, killed after %v: the next build failed: %v", i, moment, err)
		}
		c.Close()
		// The daemon that runs now has its own process and environment; nothing
		// else may be there.
		for _, l := range leaks(t, cfg.StateDir) {
			if !strings.HasPrefix(l, "process "+strconv.Itoa(c.Info.PID)+" ") {
				t.Errorf("round %d, killed after %v: left behind: %s", i, moment, l)
			}
		}
	}
	t.Logf("%d of %d kills hit a running container", running, rounds)
	if running == 0 {
		t.Error("no kill hit a running container: the test shows nothing")
	}
}

// containers counts the bundles of running containers.
func containers(t *testing.T, state string) int {
	t.Helper()
	return len(glob(t, state+"/*/buildkit/runc-*/executor/*/config.json"))
}

// TestTerm ends the daemon in an orderly way during a build.
func TestTerm(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	done := make(chan error, 1)
	go func() { done <- build(t.Context(), c, runState("busybox sleep 1000")) }()
	awaitContainer(t, cfg)
	for range 2 { // the second one ends the grace
		if err := syscall.Kill(c.Info.PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // two equal signals that are pending are one
	}
	if err := <-done; !Unavailable(err) {
		t.Errorf("build: %v, want an error that is Unavailable", err)
	}
	if err := awaitUnlock(t.Context(), slot{cfg.StateDir, mainSlot}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	noLeaks(t, cfg.StateDir)
}

// TestTermLetsFinish ends the daemon during a short build.
func TestTermLetsFinish(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	done := make(chan error, 1)
	go func() { done <- build(t.Context(), c, runState("busybox sleep 1")) }()
	awaitContainer(t, cfg)
	if err := syscall.Kill(c.Info.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a build that was nearly done was cancelled: %v", err)
	}
}

// TestCancel cancels a build's context.
func TestCancel(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- build(ctx, c, runState("busybox sleep 1000")) }()
	awaitContainer(t, cfg)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "canceled") {
		t.Errorf("build: %v", err)
	}
	if err := build(t.Context(), c, runState("echo after cancel")); err != nil {
		t.Error(err)
	}
}

// awaitContainer polls until a build step runs: there is nothing to wait for.
func awaitContainer(t *testing.T, cfg Config) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for _, path := range glob(t, "/run/runc/*/state.json") {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), cfg.StateDir) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no build step was started")
		}
	}
}
