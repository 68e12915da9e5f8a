package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// reap removes what a killed owner of the slot has left: containers that still
// run, their state in runc, bundles and mounts. BuildKit cleans up none of
// it. The caller must hold the slot's lock.
//
// Order matters: a mount cannot go while a process uses it, and a bundle may
// not be removed through a mount.
func reap(ctx context.Context, s slot, runcPath string) error {
	bundles, err := filepath.Glob(filepath.Join(globQuote(s.root()), "runc-*", "executor", "*", "config.json"))
	if err != nil {
		return fmt.Errorf("looking for leaked containers: %w", err)
	}
	var errs []error
	for _, config := range bundles {
		bundle := filepath.Dir(config)
		errs = append(errs, deleteContainer(ctx, runcPath, filepath.Base(bundle)))
	}
	if err := unmountBelow(s.dir()); err != nil {
		errs = append(errs, err) // nothing may be removed through a mount
	} else {
		for _, config := range bundles {
			errs = append(errs, os.RemoveAll(filepath.Dir(config)))
		}
		errs = append(errs, emptyDir(s.tmp()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleaning up after a killed daemon: %w", err)
	}
	return nil
}

// deleteContainer kills the container's processes and removes runc's state of
// it. A container that runc does not know is none.
func deleteContainer(ctx context.Context, runcPath, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, runcPath, "delete", "--force", id).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "does not exist") {
		return fmt.Errorf("deleting container %s: %w: %s", id, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unmountBelow unmounts everything below dir, and what BuildKit mounted in
// temporary directories elsewhere from files below dir.
func unmountBelow(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("looking for leaked mounts: %w", err)
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !leaked(m, dir), false
	})
	if err != nil {
		return fmt.Errorf("looking for leaked mounts: %w", err)
	}
	var errs []error
	for _, m := range slices.Backward(mounts) { // later mounts may be on top of earlier ones
		err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// leaked reports whether m is a mount that only the owner of dir can have made.
func leaked(m *mountinfo.Info, dir string) bool {
	if below(m.Mountpoint, dir) {
		return true
	}
	base := filepath.Base(m.Mountpoint)
	if !strings.HasPrefix(base, "buildkit-mount") && !strings.HasPrefix(base, "containerd-mount") {
		return false
	}
	for opt := range strings.SplitSeq(m.VFSOptions, ",") {
		if _, v, ok := strings.Cut(opt, "dir="); ok && below(v, dir) {
			return true
		}
	}
	return strings.Contains(m.Root+"/", dir+"/")
}

func below(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// emptyDir removes what is in dir but not dir itself.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// globQuote escapes what filepath.Glob would interpret.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// sweep removes temporary slots whose owners were killed.
func sweep(ctx context.Context, state, runcPath string) error {
	var errs []error
	for _, s := range abandoned(state) {
		lock, err := s.acquire()
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeSlot(ctx, s, runcPath), lock.Close())
	}
	return errors.Join(errs...)
}

// removeSlot removes a temporary slot, whose lock the caller holds.
func removeSlot(ctx context.Context, s slot, runcPath string) error {
	if err := reap(ctx, s, runcPath); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir()); err != nil {
		return fmt.Errorf("removing %s: %w", s.dir(), err)
	}
	return nil
}
