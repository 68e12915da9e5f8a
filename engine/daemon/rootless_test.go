//go:build linux

package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	subid "github.com/moby/sys/user"
)

// ordinary is an ordinary user with a home and ids of its own.
type ordinary struct {
	name     string
	uid, gid int
	home     string
}

// newUser makes a user for the test. useradd gives it ranges in /etc/subuid
// and /etc/subgid unless noIDs.
func newUser(t *testing.T, noIDs bool) ordinary {
	t.Helper()
	needEngine(t)
	for _, tool := range []string{"useradd", "userdel", "newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "needs "+tool+": apt-get install passwd uidmap")
		}
	}
	home, err := os.MkdirTemp("", "zlayer-home")
	if err != nil {
		t.Fatal(err)
	}
	u := ordinary{name: "zltest" + strconv.Itoa(os.Getpid()), home: home}
	args := []string{"--no-create-home", "--home-dir", home}
	if noIDs {
		u.name += "n"
		args = append(args, "--system")
	}
	if out, err := exec.Command("useradd", append(args, u.name)...).CombinedOutput(); err != nil {
		skip(t, fmt.Sprintf("needs to make a user: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", u.name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
		os.RemoveAll(home)
	})
	entry, err := user.Lookup(u.name)
	if err != nil {
		t.Fatal(err)
	}
	u.uid, _ = strconv.Atoi(entry.Uid)
	u.gid, _ = strconv.Atoi(entry.Gid)
	if err := os.Chown(home, u.uid, u.gid); err != nil {
		t.Fatal(err)
	}
	return u
}

// run runs a client as the user and returns what it printed.
func (u ordinary) run(t *testing.T, o clientOrder) (Info, error) {
	t.Helper()
	cmd := u.command(t, o)
	out, err := cmd.Output()
	if err != nil {
		return Info{}, fmt.Errorf("%w: %s", err, cmd.Stderr)
	}
	var info Info
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatalf("client printed %q: %v", out, err)
	}
	return info, nil
}

func (u ordinary) command(t *testing.T, o clientOrder) *exec.Cmd {
	t.Helper()
	cmd := clientCommand(t, o)
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "HOME="+u.home, "USER="+u.name, "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	return cmd
}

// processes returns what runs as the user or with one of its ids.
func (u ordinary) processes(t *testing.T) []string {
	t.Helper()
	ids, err := subid.ParseSubIDFileFilter("/etc/subuid", func(s subid.SubID) bool { return s.Name == u.name })
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range glob(t, "/proc/[0-9]*") {
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := bytes.Cut(status, []byte("\nUid:\t"))
		uid, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		mine := uid == int64(u.uid)
		for _, r := range ids {
			mine = mine || (uid >= r.SubID && uid < r.SubID+r.Count)
		}
		if mine {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// awaitNone waits until no process of the user is left.
func (u ordinary) awaitNone(t *testing.T) {
	t.Helper()
	found := u.processes(t)
	for deadline := time.Now().Add(20 * time.Second); len(found) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		found = u.processes(t)
	}
	for _, p := range found {
		t.Errorf("left behind: process %s", p)
	}
}

func TestRootless(t *testing.T) {
	u := newUser(t, false)
	cfg := Config{StateDir: filepath.Join(u.home, "state"), IdleTimeout: 30 * time.Second}
	info, err := u.run(t, clientOrder{Config: cfg, Build: true})
	if err != nil {
		t.Fatal(err)
	}
	if !info.Rootless || info.Snapshotter != "overlayfs" || len(info.Warnings) > 0 {
		t.Errorf("got %+v", info)
	}
	again, err := u.run(t, clientOrder{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	if again.PID != info.PID {
		t.Errorf("a second daemon: %d and %d", info.PID, again.PID)
	}
	// Root must not use it.
	connectFails(t, cfg, "belongs to user "+strconv.Itoa(u.uid))

	// Ids other than root's work in build steps.
	if _, err := u.run(t, clientOrder{Config: cfg, Build: true, Command: "echo > /f; busybox chown 33:33 /f; busybox chown 65534:65534 /f"}); err != nil {
		t.Error(err)
	}

	// Killed in a build step, everything dies with the daemon, and the next works.
	sleep := u.command(t, clientOrder{Config: cfg, Build: true, Command: "echo > /started; busybox sleep 4321"})
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	u.awaitProcess(t, "sleep 4321")
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Wait(); err == nil {
		t.Error("the build survived its daemon")
	}
	u.awaitNone(t)
	info, err = u.run(t, clientOrder{Config: cfg, Build: true, Command: "echo after the kill"})
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Warnings) > 0 {
		t.Errorf("warnings: %q", info.Warnings)
	}
	if _, err := u.run(t, clientOrder{Config: cfg, Do: "stop"}); err != nil {
		t.Error(err)
	}
	u.awaitNone(t)

	// For one caller only.
	info, err = u.run(t, clientOrder{Config: cfg, Do: "inprocess", Build: true, Command: "echo in process"})
	if err != nil || !info.Rootless {
		t.Errorf("in process: %+v, %v", info, err)
	}
	u.awaitNone(t)
	noLeaks(t, cfg.StateDir)
}

func (u ordinary) awaitProcess(t *testing.T, cmdline string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for _, p := range u.processes(t) {
			if strings.Contains(p, cmdline) && !strings.Contains(p, "sh -c") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no process %q was started", cmdline)
		}
	}
}

// TestRootlessMaskedProc masks part of /proc, as containers do, so that proc
// cannot be mounted anew.
func TestRootlessMaskedProc(t *testing.T) {
	u := newUser(t, false)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		skip(t, "needs unshare: apt-get install util-linux")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		skip(t, "needs setpriv: apt-get install util-linux")
	}
	cfg := Config{StateDir: filepath.Join(u.home, "state"), IdleTimeout: time.Second}
	cmd := clientCommand(t, clientOrder{Config: cfg, Build: true})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary is where only root gets at; a descriptor is not.
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	script := fmt.Sprintf("mount --bind /dev/null /proc/version && exec %s --reuid %d --regid %d --clear-groups /proc/self/fd/3", setpriv, u.uid, u.gid)
	masked := exec.Command(unshare, "--mount", "sh", "-c", script)
	masked.Env = append(cmd.Env, "HOME="+u.home, "USER="+u.name)
	masked.ExtraFiles = []*os.File{f}
	masked.Stderr = &strings.Builder{}
	out, err := masked.Output()
	if err != nil {
		b, _ := os.ReadFile(slot{cfg.StateDir, mainSlot}.log())
		t.Fatalf("%v: %s\n%s", err, masked.Stderr, b)
	}
	var info Info
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatalf("client printed %q: %v", out, err)
	}
	if w := strings.Join(info.Warnings, "\n"); !strings.Contains(w, "/proc is masked") {
		t.Errorf("warnings: %q", info.Warnings)
	}
	u.awaitNone(t)
}

func TestRootlessWithoutIDs(t *testing.T) {
	u := newUser(t, true)
	cfg := Config{StateDir: filepath.Join(u.home, "state")}
	_, err := u.run(t, clientOrder{Config: cfg})
	if err == nil {
		t.Fatal("connected")
	}
	for _, want := range []string{"/etc/subuid", "/etc/subgid", "echo " + u.name + ":", "--addr"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestRootlessWithoutTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findUserNS()
	if err == nil || !strings.Contains(err.Error(), "newuidmap") || !strings.Contains(err.Error(), "apt-get install uidmap") {
		t.Errorf("error %v does not name the package", err)
	}
}

func TestMapIDs(t *testing.T) {
	m, n := mapIDs(1000, []subid.SubID{{SubID: 100000, Count: 65536}, {SubID: 300000, Count: 0}, {SubID: 400000, Count: 10}})
	want := []idMap{{0, 1000, 1}, {1, 100000, 65536}, {65537, 400000, 10}}
	if n != 65546 || fmt.Sprint(m) != fmt.Sprint(want) {
		t.Errorf("got %v, %d ids, want %v", m, n, want)
	}
}
