package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// dockerLoad pipes an archive into "docker load".
func (j *job) dockerLoad() (*dockerPipe, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return nil, inputErrorf("loading into docker needs the docker command: install it, or keep the image in zlayer's own store (no --load)")
	}
	p := &dockerPipe{cmd: exec.Command(path, "load")}
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, &p.stderr
	j.cleanup = append(j.cleanup, p.abort)
	return p, nil
}

// dockerPipe is a running "docker load". It starts with the first byte.
type dockerPipe struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	ended  bool
}

// has reports whether docker's store has an image under all its names. Where docker
// keeps images in containerd it calls them by digests that it makes itself, and this is
// never so.
func (p *dockerPipe) has(ctx context.Context, config digest.Digest, names []string) bool {
	if config == "" || len(names) == 0 {
		return false
	}
	out, err := exec.CommandContext(ctx, p.cmd.Path, append([]string{"image", "inspect", "--format", "{{.Id}}"}, names...)...).Output()
	ids := strings.Fields(string(out))
	return err == nil && len(ids) == len(names) && !slices.ContainsFunc(ids, func(id string) bool { return id != config.String() })
}

// Write implements io.Writer.
func (p *dockerPipe) Write(b []byte) (int, error) {
	if p.stdin == nil {
		var err error
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return 0, err
		}
		if err := p.cmd.Start(); err != nil {
			return 0, fmt.Errorf("starting docker load: %w", err)
		}
	}
	n, err := p.stdin.Write(b)
	if err != nil {
		// It has ended before the end of the archive, and knows why.
		_ = p.stdin.Close()
		if ferr := p.Finish(); ferr != nil {
			err = ferr
		}
	}
	return n, err
}

// Close implements io.Closer; it ends the archive.
func (p *dockerPipe) Close() error {
	if p.stdin == nil {
		return nil
	}
	return p.stdin.Close()
}

// Finish waits for docker to have read the archive.
func (p *dockerPipe) Finish() error {
	if p.stdin == nil {
		return errors.New("loading into docker: nothing was exported")
	}
	if p.ended {
		return nil
	}
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("loading into docker: %w: %s", err, strings.TrimSpace(p.stderr.String()))
	}
	return nil
}

func (p *dockerPipe) abort() error {
	if p.stdin == nil || p.ended {
		return nil
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	return nil
}
