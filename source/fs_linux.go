package source

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openedDir is a directory that is being listed.
type openedDir struct {
	fd   int
	path string
}

// openDir opens a directory for listing; a link to one is not followed.
func openDir(path string) (openedDir, error) {
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return openedDir{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return openedDir{fd, path}, nil
}

// names reads all names, in the order of the file system.
func (d openedDir) names(buf []byte) ([]string, error) {
	var names []string
	for {
		n := 0
		err := ignoringEINTR(func() (err error) {
			n, err = unix.ReadDirent(d.fd, buf)
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.path, Err: err}
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// lstat looks at an entry.
func (d openedDir) lstat(name string) (stat, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return stat{}, &fs.PathError{Op: "lstat", Path: filepath.Join(d.path, name), Err: err}
	}
	return fromStat(&st), nil
}

// xattrs is the digest of the directory's own extended attributes.
func (d openedDir) xattrs() (*sum, error) {
	if !mayHaveXattrs(d.fd) {
		return nil, nil
	}
	return readXattrs(d.path)
}

func (d openedDir) close() { unix.Close(d.fd) }

// mayHaveXattrs is false if there are certainly no extended attributes.
func mayHaveXattrs(fd int) bool {
	n, err := unix.Flistxattr(fd, nil)
	return err == nil && n > 0
}

// otherClock tells whether the times of files in a directory come from the clock
// of another machine, or may.
func otherClock(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return true
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC:
		return true
	}
	return false
}
