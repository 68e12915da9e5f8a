package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = whiteoutPrefix + whiteoutPrefix
	whiteoutOpaque = whiteoutMeta + ".opq"

	paxXattr = "SCHILY.xattr."
)

// inode is a file, whatever names it has.
type inode struct {
	mode         fs.FileMode
	uid, gid     uint32
	modTime      int64 // nanoseconds
	size         int64
	at           int64  // where the content is in the spool
	target       string // of a symbolic link
	major, minor int64
	xattrs       map[string][]byte
}

// fileNode is a name of a file.
type fileNode struct {
	*inode
	layer    int // that has put it there
	children map[string]*fileNode
}

func newDirNode() *fileNode {
	return &fileNode{inode: &inode{mode: fs.ModeDir | 0o755}, children: map[string]*fileNode{}}
}

// layering lays layers over each other in memory, as containerd does on disk: there
// owners, devices and attributes are for root alone. What depends on how containerd's
// snapshots are kept is refused with [ErrVague].
type layering struct {
	root  *fileNode
	spool *os.File
	size  int64
	layer int
}

// add applies a layer, a tar stream.
func (l *layering) add(r io.Reader) error {
	l.layer++
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = l.entry(hdr, tr)
		}
		if err != nil {
			return err
		}
	}
}

func (l *layering) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean("/" + hdr.Name)
	if name == "/" {
		return nil // exporters do not tell of the root
	}
	dir, base := path.Split(name)
	parent, err := l.parent(dir, hdr.ModTime)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return l.whiteOut(parent, name, base)
	}
	if hdr.Typeflag == tar.TypeLink {
		return l.link(parent, base, hdr)
	}
	n := &fileNode{inode: &inode{}, layer: l.layer}
	switch hdr.Typeflag {
	case tar.TypeDir:
		n.children = map[string]*fileNode{}
		if old := parent.children[base]; old != nil && old.mode.IsDir() {
			n.children = old.children
		}
	case tar.TypeReg:
		if isSparse(hdr) {
			return vague("%s has holes, which may be of any size", name)
		}
		n.at, n.size = l.size, hdr.Size
		written, err := io.Copy(l.spool, r)
		l.size += written
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	case tar.TypeSymlink:
		n.target, n.size = hdr.Linkname, int64(len(hdr.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		n.major, n.minor = hdr.Devmajor, hdr.Devminor
		if hdr.Typeflag == tar.TypeChar && n.major == 0 && n.minor == 0 {
			return vague("%s is what an overlay takes for a file that was deleted", name)
		}
	case tar.TypeFifo:
	default:
		return vague("%s is of type %q", name, hdr.Typeflag)
	}
	n.take(hdr)
	parent.children[base] = n
	return nil
}

// parent gives a directory. One that no layer tells of is made, of the time given: an
// unpacker's would be that of the unpacking.
func (l *layering) parent(name string, t time.Time) (*fileNode, error) {
	n := l.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		c := n.children[part]
		if c == nil {
			c = newDirNode()
			c.layer, c.modTime = l.layer, boundTime(t)
			n.children[part] = c
		}
		if n = c; !n.mode.IsDir() {
			return nil, vague("%s is below what is no directory", name)
		}
	}
	return n, nil
}

// find gives what is at a path.
func (l *layering) find(name string) (*fileNode, error) {
	n := l.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		if n = n.children[part]; n == nil {
			return nil, vague("nothing is at %s", name)
		}
	}
	return n, nil
}

// link gives a file of the same layer another name.
func (l *layering) link(parent *fileNode, base string, hdr *tar.Header) error {
	to, err := l.find(path.Clean("/" + hdr.Linkname))
	if err != nil {
		return err
	}
	if to.mode.IsDir() || to.layer != l.layer {
		return vague("%s is a link to %s, which is no file of the same layer", hdr.Name, hdr.Linkname)
	}
	to.take(hdr)
	parent.children[base] = &fileNode{inode: to.inode, layer: l.layer}
	return nil
}

// whiteOut hides what lower layers have.
func (l *layering) whiteOut(parent *fileNode, name, base string) error {
	if base == whiteoutOpaque {
		parent.drop(l.layer)
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	old := parent.children[hidden]
	if strings.HasPrefix(base, whiteoutMeta) || hidden == "" || old != nil && old.has(l.layer) {
		return vague("%s hides nothing of a lower layer", name)
	}
	delete(parent.children, hidden)
	return nil
}

// has reports whether a layer has put n or something below it there.
func (n *fileNode) has(layer int) bool {
	if n.layer == layer {
		return true
	}
	for _, c := range n.children {
		if c.has(layer) {
			return true
		}
	}
	return false
}

// drop removes everything below n that the layer has not put there.
func (n *fileNode) drop(layer int) {
	for name, c := range n.children {
		if !c.has(layer) {
			delete(n.children, name)
			continue
		}
		c.drop(layer)
	}
}

// take takes over what a header says beside the content.
func (n *fileNode) take(hdr *tar.Header) {
	mode := hdr.FileInfo().Mode()
	if hdr.Typeflag == tar.TypeLink { // which says nothing of the kind of file
		mode = n.mode.Type() | mode&^fs.ModeType
	}
	n.mode = mode
	if n.mode&fs.ModeSymlink != 0 {
		n.mode = fs.ModeSymlink | 0o777 // as the kernel has them all
	}
	n.uid, n.gid, n.modTime = uint32(hdr.Uid), uint32(hdr.Gid), boundTime(hdr.ModTime)
	for k, v := range hdr.PAXRecords {
		key, ok := strings.CutPrefix(k, paxXattr)
		user := strings.HasPrefix(key, "user.") && !n.mode.IsRegular() && !n.mode.IsDir()
		if !ok || user || strings.HasPrefix(key, "com.apple.") { // which do not come through
			continue
		}
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[key] = []byte(v)
	}
}

// isSparse reports files of which only a part is in the archive.
func isSparse(hdr *tar.Header) bool {
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// boundTime gives files outside of what the kernel keeps the time zero, as containerd
// does.
func boundTime(t time.Time) int64 {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, 1<<63-1)) {
		return 0
	}
	return t.UnixNano()
}

func vague(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrVague}, args...)...)
}
