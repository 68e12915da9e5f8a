package engine

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver"
)

// explainEmulation adds to a step that ended with an exit code what the kernel says
// with "exec format error" only: that the daemon has no emulator for its platform.
func (j *job) explainEmulation(ctx context.Context, c *solver.StageError) error {
	if c.ExitCode == 0 || c.Stage == nil || c.Stage.Platform.Architecture == "" || j.daemonRuns(ctx, c.Stage.Platform) {
		return c.Err
	}
	p := c.Stage.Platform
	return fmt.Errorf("%w: the daemon's machine has no emulator for %s: install one there (docker run --privileged --rm tonistiigi/binfmt --install %s, or the package qemu-user-static), or name a daemon of that platform with --addr",
		c.Err, platforms.Format(p), p.Architecture)
}

// daemonRuns reports whether the daemon says that it can run programs for a platform,
// or does not say.
func (j *job) daemonRuns(ctx context.Context, p ocispecs.Platform) bool {
	conn, err := j.engine.connect(ctx)
	if err != nil {
		return true
	}
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
