//go:build unix

package source

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/containerd/continuity/sysx"
	"golang.org/x/sys/unix"
)

// openFlags open a file that lstat has seen as a regular one: if it has become a
// link or a pipe meanwhile, opening fails or returns instead of following or
// waiting.
const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

func fromStat(st *unix.Stat_t) stat {
	mode := uint32(st.Mode) //nolint:unconvert // it is smaller on other systems
	s := stat{
		size:   st.Size,
		mtime:  st.Mtim.Nano(),
		ctime:  st.Ctim.Nano(),
		ino:    st.Ino,
		dev:    uint64(st.Dev), //nolint:unconvert // it is smaller on other systems
		linked: st.Nlink > 1,
		perm:   uint16(mode & 0o7777),
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		s.kind, s.linked = kindDir, false
	case unix.S_IFLNK:
		s.kind, s.linked = kindLink, false
	case unix.S_IFIFO:
		s.kind = kindFifo
	case unix.S_IFCHR:
		s.kind, s.rdev = kindChar, uint64(st.Rdev) //nolint:unconvert // it is smaller on other systems
	case unix.S_IFBLK:
		s.kind, s.rdev = kindBlock, uint64(st.Rdev) //nolint:unconvert // it is smaller on other systems
	case unix.S_IFSOCK:
		s.kind, s.socket, s.size = kindFile, true, 0
	default:
		s.kind = kindFile
	}
	return s
}

// lstat looks at one path.
func lstat(path string) (stat, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Lstat(path, &st) })
	if err != nil {
		return stat{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fromStat(&st), nil
}

// openFile is a regular file open for hashing, without what os.File does for
// files that have to be waited for.
type openFile struct {
	fd   int
	path string
}

func openRegular(path string) (openFile, error) {
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, openFlags, 0)
		return err
	})
	if err != nil {
		return openFile{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return openFile{fd, path}, nil
}

func (f openFile) stat() (stat, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return stat{}, &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	return fromStat(&st), nil
}

func (f openFile) read(p []byte) (n int, err error) {
	err = ignoringEINTR(func() (err error) {
		n, err = unix.Read(f.fd, p)
		return err
	})
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: err}
	}
	return n, nil
}

func (f openFile) close() { unix.Close(f.fd) }

// hasXattrs tells cheaply whether there may be extended attributes to look at.
func (f openFile) hasXattrs() bool { return mayHaveXattrs(f.fd) }

// readXattrs returns the digest of the extended attributes of a path that count:
// those that BuildKit sends and that its content hash looks at.
func readXattrs(path string) (*sum, error) {
	names, err := sysx.LListxattr(path)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, syscall.ENOSYS) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	attrs := map[string][]byte{}
	for _, name := range names {
		if !xattrCounts(name) {
			continue
		}
		if v, err := sysx.LGetxattr(path, name); err == nil { // BuildKit leaves out what it may not read
			attrs[name] = v
		}
	}
	return xattrSum(attrs), nil
}

func xattrCounts(name string) bool {
	if name == "security.capability" {
		return true
	}
	for _, prefix := range []string{"security.", "system.", "com.apple."} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isLoop tells that a path that was opened without following links is one.
func isLoop(err error) bool { return errors.Is(err, unix.ELOOP) }

// reliableStat says that stat has change times and inodes, so that an index can be believed.
const reliableStat = true

// isNotDir tells that something above a path is not a directory.
func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }
