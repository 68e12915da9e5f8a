package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os/exec"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver"
)

// explainEmulation adds to a step that ended with an exit code what the kernel says
// with "exec format error" only: that the daemon has no emulator for its platform.
func (j *job) explainEmulation(ctx context.Context, c *solver.StageError) error {
	if c.ExitCode == 0 || c.Stage == nil || c.Stage.Platform.Architecture == "" {
		return c.Err
	}
	p := c.Stage.Platform
	if !j.unrunnable[c.Vertex] && j.mayEmulate(p) || j.daemonRuns(ctx, p) {
		return c.Err
	}
	return fmt.Errorf("%w: the daemon's machine has no emulator for %s: install one there (docker run --privileged --rm tonistiigi/binfmt --install %s, or the package qemu-user-static), or name a daemon of that platform with --addr",
		c.Err, platforms.Format(p), p.Architecture)
}

// mayEmulate reports whether the daemon may have an emulator that it does not tell of:
// BuildKit takes one that it finds in its PATH, which images of BuildKit have.
func (j *job) mayEmulate(p ocispecs.Platform) bool {
	if j.engine.cfg.Addr != "" {
		return true
	}
	arch := map[string]string{"amd64": "x86_64", "386": "i386", "arm64": "aarch64"}[p.Architecture]
	_, err := exec.LookPath("buildkit-qemu-" + cmp.Or(arch, p.Architecture))
	return err == nil
}

// noteUnrunnable notes steps that say that the kernel does not run their program.
func (j *job) noteUnrunnable(ev solver.Event) {
	if ev.Kind != solver.Output || !bytes.Contains(bytes.ToLower(ev.Log.Data), []byte("exec format error")) {
		return
	}
	if j.unrunnable == nil {
		j.unrunnable = map[digest.Digest]bool{}
	}
	j.unrunnable[ev.Step.Digest] = true
}

// daemonRuns reports whether the daemon says that it can run programs for a platform,
// or does not say.
func (j *job) daemonRuns(ctx context.Context, p ocispecs.Platform) bool {
	conn, err := j.engine.connect(ctx)
	if err != nil {
		return true
	}
	defer j.engine.release(conn)
	workers, err := conn.Client.ListWorkers(ctx)
	if err != nil {
		return true
	}
	for _, w := range workers {
		for _, q := range w.Platforms {
			if q.OS == p.OS && q.Architecture == p.Architecture {
				return true
			}
		}
	}
	return len(workers) == 0
}
