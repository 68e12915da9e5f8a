//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
)

// connectFails expects an error that contains all of want.
func connectFails(t *testing.T, cfg Config, want ...string) {
	t.Helper()
	c, err := Connect(t.Context(), cfg)
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestRuncMissing(t *testing.T) {
	cfg := testConfig(t)
	cfg.Runc = "/nonexistent/runc"
	connectFails(t, cfg, "/nonexistent/runc", "apt-get install runc", "ZLAYER_RUNC")
}

func TestRuncNowhere(t *testing.T) {
	if embeddedRunc() != nil {
		t.Skip("this build has its own runc")
	}
	t.Setenv("PATH", t.TempDir())
	_, err := findRunc("", t.TempDir())
	if _, lookErr := os.Stat("/usr/sbin/runc"); lookErr == nil {
		if err != nil {
			t.Errorf("runc in /usr/sbin is not found: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "apt-get install runc") {
		t.Errorf("error %v does not name the package", err)
	}
}

// TestRuncBroken has a runc that starts but cannot run anything.
func TestRuncBroken(t *testing.T) {
	cfg := testConfig(t)
	cfg.Runc = filepath.Join(t.TempDir(), "runc")
	script := "#!/bin/sh\necho 'this runc is too old' >&2\nexit 64\n"
	if err := os.WriteFile(cfg.Runc, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	connectFails(t, cfg, cfg.Runc, "this runc is too old", "apt-get install runc")
	// The failure is not remembered, nor is the success of another one.
	cfg.Runc = ""
	connect(t, cfg)
}

func TestSelftestOnce(t *testing.T) {
	cfg := testConfig(t)
	counter := filepath.Join(t.TempDir(), "count")
	real, err := findRunc("", cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Runc = filepath.Join(t.TempDir(), "runc")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *' run '*) echo x >> %s;; esac\nexec %s \"$@\"\n", counter, real)
	if err := os.WriteFile(cfg.Runc, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		connect(t, cfg).Close()
		if err := Stop(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(counter)
	if err != nil || len(b) != 2 {
		t.Errorf("the self test ran %d times, want once (%v)", len(b)/2, err)
	}
}

func TestStateDirIsFile(t *testing.T) {
	cfg := testConfig(t)
	file := filepath.Join(cfg.StateDir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.StateDir = file
	connectFails(t, cfg, file, "ZLAYER_STATE_DIR")
}

func TestStateDirOfOther(t *testing.T) {
	cfg := testConfig(t)
	s := slot{cfg.StateDir, mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.dir(), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	connectFails(t, cfg, "belongs to user 12345", "ZLAYER_STATE_DIR")
}

// mountState mounts a tmpfs for the state directory.
func mountState(t *testing.T, cfg Config, flags uintptr, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", cfg.StateDir, "tmpfs", flags, "size="+size); err != nil {
		skip(t, "needs to mount a tmpfs: "+err.Error())
	}
}

func TestStateDirReadOnly(t *testing.T) {
	cfg := Config{StateDir: t.TempDir()}
	needEngine(t)
	mountState(t, cfg, unix.MS_RDONLY, "64m")
	defer unix.Unmount(cfg.StateDir, unix.MNT_DETACH) //nolint:errcheck // best effort
	connectFails(t, cfg, "read-only file system", "ZLAYER_STATE_DIR")
}

func TestStateDirNoexec(t *testing.T) {
	cfg := Config{StateDir: t.TempDir()}
	needEngine(t)
	mountState(t, cfg, unix.MS_NOEXEC, "64m")
	defer unix.Unmount(cfg.StateDir, unix.MNT_DETACH) //nolint:errcheck // best effort
	connectFails(t, cfg, "noexec", "ZLAYER_STATE_DIR")
}

func TestStateDirFull(t *testing.T) {
	cfg := Config{StateDir: t.TempDir()}
	needEngine(t)
	mountState(t, cfg, 0, "1m")
	defer unix.Unmount(cfg.StateDir, unix.MNT_DETACH) //nolint:errcheck // best effort
	connectFails(t, cfg, "free some space", "ZLAYER_STATE_DIR")
	fill(t, filepath.Join(cfg.StateDir, "ballast"))
	connectFails(t, cfg, "ZLAYER_STATE_DIR")
}

// fill writes until the file system is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestDiskFullInBuild fills the disk in a build step; the daemon must survive
// it and work again when there is room.
func TestDiskFullInBuild(t *testing.T) {
	cfg := Config{StateDir: t.TempDir()}
	needEngine(t)
	mountState(t, cfg, 0, "96m")
	defer unix.Unmount(cfg.StateDir, unix.MNT_DETACH) //nolint:errcheck // best effort
	defer stopDaemon(t, cfg)
	c := connect(t, cfg)
	err := build(t.Context(), c, runState("busybox dd if=/dev/zero of=/big bs=1M count=200"))
	if err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("build on a full disk: %v", err)
	}
	if err := c.Client.Prune(t.Context(), nil, client.PruneAll); err != nil {
		t.Errorf("pruning: %v", err)
	}
	if err := build(t.Context(), c, runState("echo there is room again")); err != nil {
		t.Errorf("the next build: %v", err)
	}
	c.Close()
}

// TestOverlayState has its state on an overlay, as in a container.
func TestOverlayState(t *testing.T) {
	needEngine(t)
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{StateDir: filepath.Join(dir, "state")}
	opts := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	if err := unix.Mount("overlay", cfg.StateDir, "overlay", 0, opts); err != nil {
		skip(t, "needs to mount an overlay: "+err.Error())
	}
	defer unix.Unmount(cfg.StateDir, unix.MNT_DETACH) //nolint:errcheck // best effort
	defer func() {
		if err := Stop(t.Context(), cfg); err != nil && !errors.Is(err, ErrNotRunning) {
			t.Error(err)
		}
	}()
	c := connect(t, cfg)
	defer c.Close()
	if c.Info.Snapshotter != "native" {
		t.Errorf("snapshotter %s", c.Info.Snapshotter)
	}
	if w := strings.Join(c.Info.Warnings, "\n"); !strings.Contains(w, "overlay file system") || !strings.Contains(w, "full copy") {
		t.Errorf("warnings: %q", c.Info.Warnings)
	}
	if err := build(t.Context(), c, runState("echo native")); err != nil {
		t.Error(err)
	}
}

// TestNoMountPrivilege runs a client without CAP_SYS_ADMIN.
func TestNoMountPrivilege(t *testing.T) {
	cfg := testConfig(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		skip(t, "needs setpriv: apt-get install util-linux")
	}
	cmd := clientCommand(t, clientOrder{Config: cfg})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	limited := exec.Command(setpriv, "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--", exe)
	limited.Env = cmd.Env
	out, err := limited.CombinedOutput()
	if err == nil {
		t.Fatalf("connected: %s", out)
	}
	for _, want := range []string{"operation not permitted", "CAP_SYS_ADMIN", "--addr"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q does not say %q", out, want)
		}
	}
}
