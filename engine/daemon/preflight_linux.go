package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// minFree is the room without which nothing can be built.
const minFree = 16 << 20

// preflight finds out early, and says plainly, what would otherwise fail in
// the middle of a build. It returns what is merely worth a warning.
func preflight(s slot) ([]string, error) {
	if err := checkWritable(s); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.root(), &st); err != nil {
		return nil, fmt.Errorf("looking at the state directory: %w", err)
	}
	var warnings []string
	if free := st.Bavail * uint64(st.Bsize); free < minFree {
		return nil, fmt.Errorf("%s has %d MB left on its disk: free some space, or set ZLAYER_STATE_DIR to a directory on another one", s.state, free>>20)
	}
	// Layers hold programs that build steps execute, and the mounts made from
	// them inherit the flag.
	if st.Flags&unix.ST_NOEXEC != 0 {
		return nil, fmt.Errorf("%s is on a file system mounted noexec, where no build step can run a program: set ZLAYER_STATE_DIR to a directory elsewhere", s.state)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		warnings = append(warnings, fmt.Sprintf("the state directory %s is on an overlay file system, as in a container without a volume, which makes builds slow: set ZLAYER_STATE_DIR to a directory on a volume", s.state))
	}
	return warnings, checkMount(s)
}

// checkWritable writes a file and syncs it, which finds read-only, full and
// quota-limited file systems.
func checkWritable(s slot) error {
	f, err := os.CreateTemp(s.tmp(), "writable-*")
	if err == nil {
		defer os.Remove(f.Name())
		_, err = f.Write(make([]byte, 4096))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("writing to the state directory: %w: set ZLAYER_STATE_DIR to a directory you can write to, on a disk with free space", err)
	}
	return nil
}

// checkMount makes and removes a bind mount.
func checkMount(s slot) error {
	dir := filepath.Join(s.tmp(), "mount")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("writing to the state directory: %w", err)
	}
	defer os.Remove(dir)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting below %s: %w: builds need the right to mount: run as root with CAP_SYS_ADMIN (in a container: --privileged), as an ordinary user where user namespaces are allowed, or use another BuildKit with --addr", s.state, err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	return nil
}
