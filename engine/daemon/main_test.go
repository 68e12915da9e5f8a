//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/tonistiigi/fsutil"
)

// clientEnv makes the test binary a client of its own: see runClient.
const clientEnv = "ZLAYER_TEST_CLIENT"

func TestMain(m *testing.M) {
	if Reexec() {
		return
	}
	if v, ok := os.LookupEnv(clientEnv); ok {
		if err := runClient(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// clientOrder is what a client process is told.
type clientOrder struct {
	Config Config
	// Do is connect (the default), inprocess, stop, or bridge.
	Do string
	// Build runs a build of Command and not only the handshake.
	Build   bool
	Command string
	// Hold keeps the connection until standard input ends.
	Hold bool
}

// runClient connects, prints the Info as JSON, and perhaps builds.
func runClient(v string) error {
	var o clientOrder
	if err := json.Unmarshal([]byte(v), &o); err != nil {
		return err
	}
	ctx := context.Background()
	if o.Do == "stop" {
		fmt.Println("{}")
		return Stop(ctx, o.Config)
	}
	if o.Do == "bridge" {
		return bridge(slot{o.Config.StateDir, mainSlot}.socket())
	}
	connect := Connect
	if o.Do == "inprocess" {
		connect = InProcess
	}
	c, err := connect(ctx, o.Config)
	if err != nil {
		return err
	}
	if o.Build {
		if err := build(ctx, c, runState(o.Command)); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(c.Info); err != nil {
		return err
	}
	if o.Hold {
		os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // it only ever ends
	}
	return c.Close()
}

// bridge connects standard input and output to a socket.
func bridge(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	go io.Copy(c, os.Stdin) //nolint:errcheck // ends with the process
	_, err = io.Copy(os.Stdout, c)
	return err
}

// clientCommand returns a command that carries out o.
func clientCommand(t *testing.T, o clientOrder) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), clientEnv+"="+string(b))
	cmd.Stderr = &strings.Builder{}
	return cmd
}

// runClientProcess runs a client to its end and returns what it saw.
func runClientProcess(t *testing.T, o clientOrder) Info {
	t.Helper()
	cmd := clientCommand(t, o)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("client: %v: %s", err, cmd.Stderr)
		return Info{}
	}
	var info Info
	if err := json.Unmarshal(out, &info); err != nil {
		t.Errorf("client printed %q: %v", out, err)
	}
	return info
}

// skip skips a test, except in CI, where everything it needs must be there.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// needEngine skips where no BuildKit can run.
func needEngine(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root to run BuildKit")
	}
	if _, err := findRunc("", t.TempDir()); err != nil {
		skip(t, err.Error())
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		skip(t, "needs /bin/busybox: apt-get install busybox-static")
	}
}

// testConfig returns the configuration of a daemon that ends with the test.
func testConfig(t *testing.T) Config {
	t.Helper()
	needEngine(t)
	cfg := Config{StateDir: t.TempDir(), IdleTimeout: time.Minute}
	t.Cleanup(func() { stopDaemon(t, cfg) })
	return cfg
}

func stopDaemon(t *testing.T, cfg Config) {
	t.Helper()
	if err := Stop(context.Background(), cfg); err != nil && !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopping: %v", err)
	}
	noLeaks(t, cfg.StateDir)
	if t.Failed() {
		b, _ := os.ReadFile(slot{cfg.StateDir, mainSlot}.log())
		t.Logf("log of the daemon:\n%s", b)
	}
}

func connect(t *testing.T, cfg Config) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// busybox is a root file system with busybox. The local source is the host's
// /bin, of which only that one file is sent.
func busybox() llb.State {
	src := llb.Local("bin", llb.FollowPaths([]string{"busybox"}), llb.IncludePatterns([]string{"busybox"}), llb.SharedKeyHint("busybox"))
	return llb.Scratch().File(llb.Copy(src, "busybox", "/bin/", &llb.CopyInfo{CreateDestPath: true}))
}

// llbShell is a run option for a shell command.
func llbShell(command string) llb.RunOption {
	return llb.Args([]string{"/bin/busybox", "sh", "-c", command})
}

// runState runs a shell command in busybox.
func runState(command string) llb.State {
	return busybox().Run(llbShell(command)).Root()
}

// build solves st without exporting anything. Its error ends with what the
// steps printed.
func build(ctx context.Context, c *Conn, st llb.State, exports ...client.ExportEntry) error {
	def, err := st.Marshal(ctx)
	if err != nil {
		return err
	}
	bin, err := fsutil.NewFS("/bin")
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	logs := make(chan string)
	go func() {
		var b strings.Builder
		for s := range status {
			for _, l := range s.Logs {
				b.Write(l.Data)
			}
		}
		logs <- b.String()
	}()
	_, err = c.Client.Solve(ctx, def, client.SolveOpt{LocalMounts: map[string]fsutil.FS{"bin": bin}, Exports: exports}, status)
	if out := <-logs; err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
