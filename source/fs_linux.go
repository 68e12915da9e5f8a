package source

import "golang.org/x/sys/unix"

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
