// Command pipeline times zlayer pipeline and docker buildx bake on the same generated
// monorepo: each on a daemon of its own that has built nothing, in turn, and prints
// medians of wall time, peak memory of the two commands and of the daemon, and of the
// paired ratios.
// Images are pushed to a registry in this process, unless -push=false.
//
//	go build -C bench/buildx -o /tmp/buildx github.com/docker/buildx/cmd/buildx
//	go build -o /tmp/zlayer ./cmd/zlayer
//	go run ./bench/pipeline -zlayer /tmp/zlayer -buildx /tmp/buildx -images 100 -runs 3
//
// The monorepo is a git repository, as monorepos are. Without -attestations=false bake
// adds provenance to each image, as it does unless told otherwise.
//
// With -buildkitd PROGRAM the daemon is that one instead of the embedded one, which does
// not wait for the disk as often:
//
//	go build -C "$(go list -m -f '{{.Dir}}' github.com/moby/buildkit)" -o /tmp/buildkitd ./cmd/buildkitd
//
// With -jobs 4,8,16 it is zlayer alone, from nothing, with each number of jobs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zlayer-dev/zlayer/integration/fleet"
	"github.com/zlayer-dev/zlayer/integration/lab"
)

func main() {
	var b bench
	flag.StringVar(&b.zlayer, "zlayer", "zlayer", "program")
	flag.StringVar(&b.buildx, "buildx", "", "program; empty measures zlayer alone")
	flag.IntVar(&b.images, "images", 100, "how many")
	runs := flag.Int("runs", 3, "pairs")
	flag.IntVar(&b.steps, "steps", len(steps), "how many of the steps: from nothing, nothing changed, leaf changed, base changed")
	flag.BoolVar(&b.attestations, "attestations", true, "let bake add what it adds by default")
	flag.StringVar(&b.buildkitd, "buildkitd", "", "program of a BuildKit to measure on instead of the embedded one; it finds its runc in PATH")
	flag.BoolVar(&b.push, "push", true, "push the images; without it they stay in the cache of the daemon")
	jobs := flag.String("jobs", "", "numbers of jobs to try, with commas")
	flag.Parse()
	if err := b.run(context.Background(), *runs, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "pipeline:", err)
		os.Exit(1)
	}
}

type bench struct {
	zlayer, buildx string
	buildkitd      string
	images, steps  int
	attestations   bool
	push           bool
	lab            *lab.Lab
}

// sample is one run of a command.
type sample struct {
	wall time.Duration
	peak int64 // KiB
	// daemon is the most that the daemon has had so far, KiB
	daemon int64
	// cpu is the time that the command, the daemon and the build steps were at work.
	cpu time.Duration
}

var steps = []string{"from nothing", "nothing changed", "one leaf changed", "shared base changed"}

func (b *bench) run(ctx context.Context, runs int, jobs string) error {
	var err error
	if b.lab, err = lab.Start(ctx, lab.Config{}); err != nil {
		return err
	}
	defer b.lab.Close()
	if jobs != "" {
		for j := range strings.SplitSeq(jobs, ",") {
			s, err := b.course(ctx, true, fmt.Sprint("jobs", j), 1, "--jobs", j)
			if err != nil {
				return fmt.Errorf("jobs %s: %w", j, err)
			}
			fmt.Printf("%d images, %s jobs: %.1fs, %d MB, daemon %d MB\n", b.images, j, s[0].wall.Seconds(), s[0].peak/1024, s[0].daemon/1024)
		}
		return nil
	}
	ours, theirs := make([][]sample, len(steps)), make([][]sample, len(steps))
	for r := range runs {
		for _, mine := range []bool{r%2 == 0, r%2 != 0} {
			if !mine && b.buildx == "" {
				continue
			}
			got, err := b.course(ctx, mine, fmt.Sprintf("run%d-%v", r, mine), b.steps)
			if err != nil {
				return err
			}
			for n, s := range got {
				if mine {
					ours[n] = append(ours[n], s)
				} else {
					theirs[n] = append(theirs[n], s)
				}
			}
		}
	}
	report(b.images, ours, theirs)
	return nil
}

// report prints medians.
func report(images int, ours, theirs [][]sample) {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("%d images, load %s", images, load)
	for n, step := range steps {
		if len(ours[n]) == 0 {
			continue
		}
		fmt.Printf("%-20s zlayer %s", step, medians(ours[n]))
		if len(theirs[n]) > 0 {
			var walls, cpus []float64
			for i := range theirs[n] {
				walls = append(walls, ours[n][i].wall.Seconds()/theirs[n][i].wall.Seconds())
				cpus = append(cpus, ours[n][i].cpu.Seconds()/theirs[n][i].cpu.Seconds())
			}
			fmt.Printf("   bake %s   ratio %.3f of %.3f, of cpu %.3f", medians(theirs[n]), median(walls), walls, median(cpus))
		}
		fmt.Println()
	}
}

// medians are those of wall time, processor time and memory.
func medians(list []sample) string {
	var walls, cpus, peaks, daemons []float64
	for _, s := range list {
		walls, cpus = append(walls, s.wall.Seconds()), append(cpus, s.cpu.Seconds())
		peaks, daemons = append(peaks, float64(s.peak)/1024), append(daemons, float64(s.daemon)/1024)
	}
	return fmt.Sprintf("%7.3fs cpu %6.2fs %4.0f MB, daemon %4.0f MB", median(walls), median(cpus), median(peaks), median(daemons))
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// course is the first n steps with one of the two, from an empty state.
func (b *bench) course(ctx context.Context, mine bool, repo string, n int, args ...string) (_ []sample, err error) {
	dir, err := os.MkdirTemp("", "zlayer-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config := fleet.Config{Images: b.images, Registry: b.lab.Addr() + "/" + repo, Push: b.push}
	if b.buildkitd != "" {
		config.Base = b.lab.Addr() + "/library/busybox" // whose mirrors the client of a foreign daemon does not know
	}
	f, err := fleet.Write(filepath.Join(dir, "repo"), config)
	if err != nil {
		return nil, err
	}
	env, err := b.environment(dir)
	if err != nil {
		return nil, err
	}
	do := func(name string, args ...string) (sample, []byte, error) {
		return command(ctx, f.Dir, env, name, args...)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "all"}} {
		if _, _, err := do("git", args...); err != nil {
			return nil, err
		}
	}
	start := b.embedded
	if b.buildkitd != "" {
		start = b.foreign
	}
	status, stop, err := start(dir, do)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	cmd := append([]string{b.zlayer, "pipeline", "--progress", "quiet"}, args...)
	if b.buildkitd != "" {
		cmd = append(cmd, "--addr", status.Address)
	}
	if !mine {
		if _, _, err := do(b.buildx, "create", "--name", "bench", "--driver", "remote", status.Address); err != nil {
			return nil, err
		}
		cmd = []string{b.buildx, "bake", "--progress", "quiet", "-f", "docker-bake.hcl"}
	}
	changes := []func() error{
		func() error { return nil }, func() error { return nil },
		func() error { return f.Touch(f.Leaves[0], "changed") },
		func() error { return f.Touch(f.Root, "changed") },
	}
	var out []sample
	for _, change := range changes[:n] {
		if err := change(); err != nil {
			return nil, err
		}
		before, err := worked(status.PID)
		if err != nil {
			return nil, err
		}
		s, _, err := do(cmd[0], cmd[1:]...)
		if err != nil {
			return nil, err
		}
		after, err := worked(status.PID)
		if err != nil {
			return nil, err
		}
		s.cpu += after - before
		if s.daemon, err = highWater(status.PID); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// environment is that of all commands of a course in dir.
func (b *bench) environment(dir string) ([]string, error) {
	toml := filepath.Join(dir, "buildkitd.toml")
	if err := os.WriteFile(toml, []byte(b.lab.BuildkitdTOML()), 0o600); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "ZLAYER_STATE_DIR="+filepath.Join(dir, "state"), "ZLAYER_STORE_DIR="+filepath.Join(dir, "store"),
		"ZLAYER_DAEMON_CONFIG="+toml, "BUILDX_CONFIG="+filepath.Join(dir, "buildx"), "BUILDX_BUILDER=bench", "BUILDX_BAKE_ENTITLEMENTS_FS=0")
	if !b.attestations {
		env = append(env, "BUILDX_NO_DEFAULT_ATTESTATIONS=1")
	}
	return env, nil
}

// daemonStatus is what is needed of "zlayer daemon status".
type daemonStatus struct {
	Address string `json:"address"`
	PID     int    `json:"pid"`
}

// embedded starts the embedded daemon of a course.
func (b *bench) embedded(_ string, do func(name string, args ...string) (sample, []byte, error)) (status daemonStatus, stop func() error, err error) {
	stop = func() error {
		_, _, err := do(b.zlayer, "daemon", "stop")
		return err
	}
	if _, _, err := do(b.zlayer, "daemon", "start"); err != nil {
		return status, nil, err
	}
	_, text, err := do(b.zlayer, "daemon", "status", "--json")
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err != nil {
		return status, nil, errors.Join(err, stop())
	}
	return status, stop, nil
}

// foreign starts a BuildKit of its own for a course in dir.
func (b *bench) foreign(dir string, _ func(name string, args ...string) (sample, []byte, error)) (status daemonStatus, stop func() error, err error) {
	status.Address = "unix://" + filepath.Join(dir, "buildkitd.sock")
	cmd := exec.Command(b.buildkitd, "--addr", status.Address, "--root", filepath.Join(dir, "buildkit"),
		"--config", filepath.Join(dir, "buildkitd.toml"), "--containerd-worker=false")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return status, nil, err
	}
	status.PID = cmd.Process.Pid
	stop = func() error {
		err := cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it exits with 1 when told to end
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("unix", strings.TrimPrefix(status.Address, "unix://"))
		if err == nil {
			return status, stop, conn.Close()
		}
		if time.Now().After(deadline) {
			serr := stop() // and nothing more is logged
			return status, nil, errors.Join(fmt.Errorf("starting %s: %w\n%s", b.buildkitd, err, log.Bytes()), serr)
		}
	}
}

// worked is the processor time that a process and its children have had.
func worked(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond
	return time.Duration(ticks) * tick, nil
}

// highWater is the most memory that a process has had, in KiB.
func highWater(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}

// command runs a command and measures it.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (sample, []byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, env, &errs
	start := time.Now()
	out, err := cmd.Output()
	s := sample{wall: time.Since(start)}
	if err != nil {
		return s, nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak, s.cpu = ru.Maxrss, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	}
	return s, out, nil
}
