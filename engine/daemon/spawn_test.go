//go:build linux

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// TestInheritance looks at what a daemon has from its caller.
func TestInheritance(t *testing.T) {
	cfg := testConfig(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := clientCommand(t, clientOrder{Config: cfg})
	cmd.Dir = t.TempDir()
	cmd.Env = append(cmd.Env, "SECRET_TOKEN=hunter2", "HTTPS_PROXY=http://127.0.0.1:1", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt")
	cmd.ExtraFiles = []*os.File{w}
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s%s", err, out, cmd.Stderr)
	}
	w.Close()
	info, err := Status(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", info.PID)
	env, err := os.ReadFile(proc + "environ")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(env, []byte("hunter2")) {
		t.Error("the daemon has the caller's secrets")
	}
	for _, want := range []string{"HTTPS_PROXY=http://127.0.0.1:1\x00", "SSL_CERT_FILE=", "XDG_RUNTIME_DIR=" + cfg.StateDir, "PATH="} {
		if !bytes.Contains(env, []byte(want)) {
			t.Errorf("the daemon's environment lacks %s", want)
		}
	}
	for name, want := range map[string]string{"cwd": "/", "fd/0": "/dev/null", "fd/1": info.LogPath, "fd/2": info.LogPath} {
		if got, err := os.Readlink(proc + name); got != want {
			t.Errorf("%s is %s, want %s (%v)", name, got, want, err)
		}
	}
	// If the daemon had the pipe, this would wait until it leaves.
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); os.IsTimeout(err) {
		t.Error("the daemon holds a descriptor of its caller's caller")
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		t.Fatal(err)
	}
	after := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if session := after[3]; session != fmt.Sprint(info.PID) {
		t.Errorf("the daemon is in session %s, not its own", session)
	}
}

// TestUmask checks that file modes in images do not depend on the caller's.
func TestUmask(t *testing.T) {
	cfg := testConfig(t)
	cmd := clientCommand(t, clientOrder{Config: cfg})
	cmd.Args = append([]string{"sh", "-c", `umask 077; exec "$0"`}, cmd.Path)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[3], cmd.Path = exe, "/bin/sh"
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s%s", err, out, cmd.Stderr)
	}
	info, err := Status(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", info.PID))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(status, []byte("\nUmask:\t0000\n")) {
		t.Errorf("the daemon's umask is not 0: %s", status)
	}
}

// TestNoReexec refuses to run a program again that would not become a daemon.
func TestNoReexec(t *testing.T) {
	was := reexecs.Swap(false)
	defer reexecs.Store(was)
	_, err := order{}.command(nil)
	if err == nil || !strings.Contains(err.Error(), "daemon.Reexec") {
		t.Errorf("got %v", err)
	}
	reexecs.Store(true)
	t.Setenv(orderEnv, "{}")
	if _, err = (order{}).command(nil); err == nil || !strings.Contains(err.Error(), "daemon.Reexec") {
		t.Errorf("in a spawned process: %v", err)
	}
}

// TestNoDaemonProgram has an Executable that does something else.
func TestNoDaemonProgram(t *testing.T) {
	cfg := testConfig(t)
	cfg.Executable = []string{"true"}
	connectFails(t, cfg, "ended before it was ready", "daemon.log")
	cfg.Executable = []string{"/nonexistent/zlayer"}
	connectFails(t, cfg, "/nonexistent/zlayer")
}

// TestStranger has a server on the socket that is none of ours.
func TestStranger(t *testing.T) {
	cfg := testConfig(t)
	s := slot{cfg.StateDir, mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(s.socket())
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	go server.Serve(l) //nolint:errcheck // ends with Stop
	defer server.Stop()
	connectFails(t, cfg, "Unimplemented")
}

// TestSilentDaemon has a daemon that accepts connections and says nothing.
func TestSilentDaemon(t *testing.T) {
	cfg := testConfig(t)
	s := slot{cfg.StateDir, mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, cfg); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledStart(t *testing.T) {
	cfg := testConfig(t)
	cfg.Executable = []string{"sleep", "1000"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, cfg); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("got %v", err)
	}
}

func TestRotatingLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := newRotatingLog(path, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 29) + "\n")
	for range 20 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".1"} {
		fi, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Size() > 100 || fi.Size()%30 != 0 || fi.Mode() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v", p, fi.Size(), fi.Mode())
		}
	}
	if files := glob(t, path+"*"); len(files) != 2 {
		t.Errorf("files: %s", files)
	}
}

func TestSocketPaths(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("d", 100), "socket")
	if err := os.Mkdir(filepath.Dir(long), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "short"), long} {
		l, err := listenSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		c, pid, err := dialSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		if pid != os.Getpid() {
			t.Errorf("process %d at the other end", pid)
		}
		c.Close()
		l.Close()
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
		if _, _, err := dialSocket(path); !gone(err) {
			t.Errorf("dialling a closed socket: %v", err)
		}
	}
	var _ net.Listener = (*unlinkListener)(nil)
}
