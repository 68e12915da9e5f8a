package lab

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// dirOptions says how a directory on the host becomes part of a layer.
type dirOptions struct {
	at     string                                 // where in the layer the directory goes; "" is the root
	skip   func(name string, dir bool) bool       // names (relative to the directory) to leave out, directories with all below
	follow bool                                   // pack what a symbolic link that leaves the directory points at
	owner  func(fi fs.FileInfo) (uid, gid int)    // nil: everything belongs to root
	mode   func(name string, m fs.FileMode) int64 // nil: the permission bits as they are
}

// addDir adds everything below root. File contents are read when the tree is written. A device
// or a socket is an error: what skip does not leave out has to be fit for any machine.
func (t *tree) addDir(root string, o dirOptions) error {
	inodes := map[inode]string{}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if name == "." {
			return nil
		}
		if o.skip != nil && o.skip(name, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return t.addPath(root, p, name, o, inodes)
	})
}

// inode names a file that may have several names.
type inode struct{ dev, ino uint64 }

func (t *tree) addPath(root, p, name string, o dirOptions, inodes map[inode]string) error {
	fi, err := os.Lstat(p)
	if err != nil {
		return err
	}
	if o.follow && fi.Mode()&fs.ModeSymlink != 0 {
		if target, ok := leaves(root, p); ok {
			return t.addTarget(target, path.Join(o.at, name), o)
		}
	}
	h, err := fileHeader(p, name, fi, o)
	if err != nil {
		return err
	}
	at := path.Join(o.at, name)
	switch {
	case fi.IsDir(), fi.Mode()&fs.ModeSymlink != 0:
		t.add(at, h, nil)
	case fi.Mode().IsRegular():
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			id := inode{uint64(st.Dev), st.Ino}
			if first, seen := inodes[id]; seen {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
				t.add(at, h, nil)
				return nil
			}
			inodes[id] = at
		}
		t.add(at, h, func() (io.ReadCloser, error) { return os.Open(p) })
	}
	return nil
}

// leaves tells where the symbolic link at p leads if that is outside of root.
func leaves(root, p string) (string, bool) {
	target, err := filepath.EvalSymlinks(p)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(root, target)
	if err != nil || (rel != ".." && !strings.HasPrefix(rel, "../")) {
		return "", false
	}
	return target, true
}

// addTarget adds a file or directory that a symbolic link pointed at, in the place of the link.
func (t *tree) addTarget(target, at string, o dirOptions) error {
	fi, err := os.Stat(target)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		h, err := fileHeader(target, path.Base(at), fi, o)
		if err != nil {
			return err
		}
		t.add(at, h, func() (io.ReadCloser, error) { return os.Open(target) })
		return nil
	}
	t.dir(at, 0o755)
	inner := o
	inner.at, inner.skip = at, nil
	return t.addDir(target, inner)
}

// fileHeader is the header of one file, without what differs from machine to machine.
func fileHeader(p, name string, fi fs.FileInfo, o dirOptions) (tar.Header, error) {
	h := tar.Header{Mode: int64(fi.Mode().Perm())}
	for bit, unix := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if fi.Mode()&bit != 0 {
			h.Mode |= unix
		}
	}
	if o.mode != nil {
		h.Mode = o.mode(name, fi.Mode())
	}
	if o.owner != nil {
		h.Uid, h.Gid = o.owner(fi)
	}
	switch {
	case fi.IsDir():
		h.Typeflag = tar.TypeDir
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(p)
		if err != nil {
			return h, err
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, target, 0o777
	case fi.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	default:
		return h, fmt.Errorf("%s is a %s, which no layer of the lab holds", p, fi.Mode().Type())
	}
	return h, nil
}

// hostOwner keeps the numeric owner that a file has on the host.
func hostOwner(fi fs.FileInfo) (uid, gid int) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return 0, 0
}
