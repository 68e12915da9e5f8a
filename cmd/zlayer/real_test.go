package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zlayer-dev/zlayer/engine/daemon"
)

// machine is the condition "builds": that the machine can build, as CI has to.
func machine(cond string) (bool, error) {
	if cond != "builds" {
		return false, errors.New("unknown condition " + cond)
	}
	_, runc := exec.LookPath("runc")
	_, busybox := os.Stat("/bin/busybox")
	if os.Getuid() == 0 && runc == nil && busybox == nil {
		return true, nil
	}
	if os.Getenv("CI") != "" {
		return false, errors.New("needs root, runc and busybox-static: run scripts/install-deps")
	}
	return false, nil
}

// stopDaemon ends the daemon that a script has left running.
func stopDaemon(env *testscript.Env) {
	ctx, c := context.Background(), daemon.Config{StateDir: env.WorkDir + "/state"}
	if _, err := os.Stat(c.StateDir); err != nil {
		return
	}
	if err := daemon.Stop(ctx, c); err != nil && !errors.Is(err, daemon.ErrNotRunning) {
		env.T().Log(err)
	}
}

// upon runs a command, and when it says a text on standard error sends it SIGINT, or kills the
// daemon that it uses: upon TEXT interrupt|kill CODE COMMAND [ARG...]. What it prints on
// standard error goes to the file err.
func upon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: upon TEXT interrupt|kill CODE COMMAND [ARG...]")
	}
	cmd := exec.Command(args[3], args[4:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, name := range []string{"ENGINE", "HOME", "ZLAYER_STORE_DIR", "ZLAYER_STATE_DIR", "ZLAYER_PROGRESS"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	said, done := []byte{}, false
	for buf := make([]byte, 4096); ; {
		n, err := out.Read(buf)
		if said = append(said, buf[:n]...); !done && bytes.Contains(said, []byte(args[0])) {
			done = true
			ts.Check(act(ts, args[1], cmd.Process))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
	}
	_ = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("err"), said, 0o600))
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[2] || !done {
		ts.Fatalf("exit code %s, want %s after %q:\n%s", got, args[2], args[0], said)
	}
}

func act(ts *testscript.TestScript, what string, p *os.Process) error {
	if what == "interrupt" {
		return p.Signal(os.Interrupt)
	}
	info, err := daemon.Status(context.Background(), daemon.Config{StateDir: ts.Getenv("ZLAYER_STATE_DIR")})
	if err != nil {
		return err
	}
	return syscall.Kill(info.PID, syscall.SIGKILL)
}
