package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// spawnTimeout is how long a daemon may take until it serves. Loading a big
// cache from a slow disk takes seconds.
const spawnTimeout = 2 * time.Minute

// spawned is a process that serves a slot.
type spawned struct {
	cmd  *exec.Cmd
	life *os.File // closing it tells a bound daemon to leave
	done chan struct{}
}

// spawn starts a process that carries out o, and returns when it serves.
// errLocked means that the slot has another owner.
func spawn(ctx context.Context, o order, executable []string) (*spawned, error) {
	r, p, err := spawnOnce(ctx, o, executable)
	if err == nil && r.NoProc {
		o.NoProcessSandbox = true
		r, p, err = spawnOnce(ctx, o, executable)
	}
	switch {
	case err != nil:
		return nil, err
	case r.Locked:
		return nil, errLocked
	case r.Error != "":
		return nil, errors.New(r.Error)
	}
	return p, nil
}

// spawnOnce returns the report of a spawned process, and the process if the
// report is that it serves.
func spawnOnce(ctx context.Context, o order, executable []string) (report, *spawned, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spawnTimeout, fmt.Errorf("it did not get ready in %v: see %s", spawnTimeout, o.slot().log()))
	defer cancel()
	var ns *userNS
	if needsUserNS() {
		var err error
		if ns, err = findUserNS(); err != nil {
			return report{}, nil, err
		}
		o.Stage, o.Namespaced = stageInit, true
	}
	if err := o.slot().create(); err != nil {
		return report{}, nil, err
	}
	cmd, err := o.command(executable)
	if err != nil {
		return report{}, nil, err
	}
	if ns != nil {
		ns.attributes(cmd.SysProcAttr, !o.NoProcessSandbox)
	}
	pipe, p, err := start(cmd, o, ns)
	if err != nil {
		return report{}, nil, explainClone(fmt.Errorf("starting the daemon: %w", err))
	}
	r, err := await(ctx, pipe, o.slot())
	if err != nil || r != (report{}) {
		p.kill()
		return r, nil, err
	}
	return r, p, nil
}

// command returns the command that becomes the daemon, without its pipes.
func (o order) command(executable []string) (*exec.Cmd, error) {
	if _, ok := os.LookupEnv(orderEnv); ok {
		return nil, errors.New("this program was spawned as a zlayer daemon but went on as usual: call daemon.Reexec first thing in main")
	}
	if len(executable) == 0 {
		if !reexecs.Load() {
			return nil, errors.New("the embedded BuildKit is this program executed again: call daemon.Reexec first thing in main, or set Config.Executable")
		}
		executable = []string{"/proc/self/exe", "daemon", "serve"}
	}
	path, err := exec.LookPath(executable[0])
	if err != nil {
		return nil, fmt.Errorf("finding the daemon's program: %w", err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("daemon: order cannot be encoded: %v", err))
	}
	cmd := exec.Command(path)
	cmd.Args = executable
	if path == "/proc/self/exe" {
		cmd.Args = append([]string{os.Args[0]}, executable[1:]...)
	}
	cmd.Dir = "/"
	cmd.Env = append(o.environment(), orderEnv+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// environment returns the daemon's environment: nothing of the caller's but
// what it needs. Build steps never see it; git, ssh and runc do.
func (o order) environment() []string {
	keep := []string{"PATH", "HOME", "LANG", "TZ", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR"}
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(keep, name) || strings.HasPrefix(name, "LC_") {
			env = append(env, v)
		}
	}
	env = append(env, o.Settings.Env...)
	// runc keeps its state in XDG_RUNTIME_DIR when it is root in a user
	// namespace, and the temporary directory may hold mounts: both must be
	// where the next owner of the slot finds them.
	return append(env, "XDG_RUNTIME_DIR="+o.slot().run(), "TMPDIR="+o.slot().tmp())
}

// start starts the command and returns the pipe on which it reports.
func start(cmd *exec.Cmd, o order, ns *userNS) (*os.File, *spawned, error) {
	log, err := openLog(o.slot().log())
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer reportW.Close()
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		reportR.Close()
		return nil, nil, err
	}
	defer lifeR.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{reportW, lifeR}
	if err := cmd.Start(); err != nil {
		reportR.Close()
		lifeW.Close()
		return nil, nil, err
	}
	p := &spawned{cmd: cmd, life: lifeW, done: make(chan struct{})}
	go func() {
		cmd.Wait() //nolint:errcheck // how it ended is in its log
		close(p.done)
	}()
	if ns != nil {
		err := ns.write(cmd.Process.Pid)
		if err == nil {
			_, err = lifeW.Write([]byte{1}) // ids are mapped, go on
		}
		if err != nil {
			reportR.Close()
			p.kill()
			return nil, nil, err
		}
	}
	if !o.Bound {
		lifeW.Close()
	}
	return reportR, p, nil
}

// await reads the report of a spawned process.
func await(ctx context.Context, pipe *os.File, s slot) (report, error) {
	defer pipe.Close()
	stop := context.AfterFunc(ctx, func() { pipe.Close() })
	defer stop()
	var r report
	switch err := json.NewDecoder(pipe).Decode(&r); {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return report{}, fmt.Errorf("starting the daemon: %w", context.Cause(ctx))
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return report{}, fmt.Errorf("the daemon ended before it was ready: the reason may be at the end of %s", s.log())
	default:
		return report{}, fmt.Errorf("starting the daemon: %w", err)
	}
}

// kill ends a process that has not become a daemon.
func (p *spawned) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.life.Close()
	<-p.done
}
