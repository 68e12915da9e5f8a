package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fileTime is the modification time of everything in a workspace. It is the same
// for all, which is also the trap of a builder that takes files of equal size and
// time for equal.
var fileTime = time.Date(2024, time.March, 1, 10, 20, 30, 0, time.UTC)

// workspace is a case laid out for a build.
type workspace struct {
	*buildCase
	root string            // copy of the case's directory
	vars map[string]string // {{name}} to value
}

// newWorkspace lays the case out in a directory of its own and starts the
// servers it asks for.
func newWorkspace(t *testing.T, c *buildCase) *workspace {
	t.Helper()
	w := &workspace{buildCase: c, root: filepath.Join(t.TempDir(), "work"), vars: map[string]string{}}
	if err := copyTree(c.dir, w.root); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		if err := f.make(w.root); err != nil {
			t.Fatalf("making %s: %v", f.Path, err)
		}
	}
	if err := settleTimes(w.root); err != nil {
		t.Fatal(err)
	}
	if c.Serve != "" {
		w.vars["http"] = serveFiles(t, filepath.Join(w.root, c.Serve))
	}
	if c.Git != "" {
		url, commit := serveGit(t, filepath.Join(w.root, c.Git))
		w.vars["git"], w.vars["commit"] = url, commit
	}
	return w
}

// expand replaces {{name}} by the workspace's values.
func (w *workspace) expand(s string) string {
	for k, v := range w.vars {
		s = strings.ReplaceAll(s, "{{"+k+"}}", v)
	}
	return s
}

// isRemote reports whether a context is an address, not a directory.
func isRemote(context string) bool {
	return strings.Contains(context, "://") || strings.Contains(context, "{{")
}

// contextDir is the directory of the main context.
func (w *workspace) contextDir() string { return filepath.Join(w.root, w.Context) }

// make makes the file below root.
func (f madeFile) make(root string) error {
	name := filepath.Join(root, f.Path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	mode, err := f.mode()
	if err != nil {
		return err
	}
	switch {
	case f.Dir:
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return os.Chmod(name, mode)
	case f.Symlink != "":
		return os.Symlink(f.Symlink, name)
	case f.Hardlink != "":
		return os.Link(filepath.Join(root, f.Hardlink), name)
	case f.Fifo:
		return unix.Mkfifo(name, uint32(mode.Perm()))
	case f.Tar != nil:
		data, err := f.archive()
		if err != nil {
			return err
		}
		return writeFile(name, data, mode)
	}
	return writeFile(name, f.bytes(), mode)
}

func (f madeFile) bytes() []byte {
	return append([]byte(f.Content), bytes.Repeat([]byte(f.Fill), f.Repeat)...)
}

// mode translates octal with set-id and sticky bits to Go's.
func (f madeFile) mode() (fs.FileMode, error) {
	if f.Mode == "" {
		if f.Dir {
			return 0o755, nil
		}
		return 0o644, nil
	}
	bits, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil {
		return 0, fmt.Errorf("reading mode %q: %w", f.Mode, err)
	}
	mode := fs.FileMode(bits & 0o777)
	for bit, m := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= m
		}
	}
	return mode, nil
}

// archive packs the entries of Tar.
func (f madeFile) archive() ([]byte, error) {
	var buf bytes.Buffer
	if f.Compress == "gzip" {
		zw := gzip.NewWriter(&buf)
		if err := writeTar(tar.NewWriter(zw), f.Tar); err != nil {
			return nil, err
		}
		if err := zw.Close(); err != nil {
			return nil, err
		}
		return buf.Bytes(), nil
	}
	err := writeTar(tar.NewWriter(&buf), f.Tar)
	return buf.Bytes(), err
}

func writeTar(tw *tar.Writer, entries []madeFile) error {
	for _, e := range entries {
		mode, err := strconv.ParseInt("0"+e.Mode, 8, 32)
		if err != nil {
			return err
		}
		if mode == 0 {
			mode = 0o644
		}
		h := &tar.Header{Name: e.Path, Mode: mode, ModTime: fileTime, Typeflag: tar.TypeReg}
		data := e.bytes()
		switch {
		case e.Dir:
			h.Typeflag, data = tar.TypeDir, nil
		case e.Symlink != "":
			h.Typeflag, h.Linkname, data = tar.TypeSymlink, e.Symlink, nil
		case e.Hardlink != "":
			h.Typeflag, h.Linkname, data = tar.TypeLink, e.Hardlink, nil
		}
		h.Size = int64(len(data))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// settleTimes gives everything below root the same modification time, children
// before their directories.
func settleTimes(root string) error {
	var names []string
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		names = append(names, p)
		return err
	})
	if err != nil {
		return err
	}
	ts := unix.NsecToTimespec(fileTime.UnixNano())
	for _, name := range slices.Backward(names) {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("setting the time of %s: %w", name, err)
		}
	}
	return nil
}
