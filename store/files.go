package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// ErrVague says of an image that its layers leave open what its files are: what
// unpacks them decides, so nothing can be made of them that is sure to be the same.
var ErrVague = errors.New("its layers leave open what its files are")

// Files is the file system that an image's layers give, in the form in which BuildKit's
// exporters read one. What layers do not keep it does not have: fractions of seconds of
// what BuildKit has packed, and attributes other than capabilities. The contents are in
// a temporary file until Close.
type Files struct {
	root  *fileNode
	spool *os.File
}

var _ fsutil.FS = (*Files)(nil)

// Files lays the layers of a manifest over each other, with room for the contents in
// dir. It verifies them by their digests. The error wraps [ErrVague] where an unpacker
// would have a choice.
func (s *Store) Files(ctx context.Context, manifest ocispecs.Descriptor, dir string) (*Files, error) {
	f, err := s.files(ctx, manifest, dir)
	if err != nil {
		return nil, fmt.Errorf("reading the files of image %s: %w", manifest.Digest, err)
	}
	return f, nil
}

func (s *Store) files(ctx context.Context, manifest ocispecs.Descriptor, dir string) (_ *Files, err error) {
	if !isManifest(manifest.MediaType) {
		return nil, fmt.Errorf("it is no manifest but %s", manifest.MediaType)
	}
	var m ocispecs.Manifest
	if err := s.readJSON(manifest, maxManifestBytes, &m); err != nil {
		return nil, err
	}
	spool, err := os.CreateTemp(dir, "files-*")
	if err != nil {
		return nil, err
	}
	f := &Files{root: newDirNode(), spool: spool}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(spool.Name()); err != nil {
		return nil, err
	}
	l := &layering{root: f.root, spool: spool}
	for _, layer := range m.Layers {
		if err := s.addLayer(ctx, l, layer); err != nil {
			return nil, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
	}
	return f, nil
}

func (s *Store) addLayer(ctx context.Context, l *layering, layer ocispecs.Descriptor) error {
	if blobKind(layer.MediaType) != "layer" {
		return fmt.Errorf("%w: it is %s", ErrVague, layer.MediaType)
	}
	blob, err := s.openVerified(layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	r, _, err := decompressor(contextReader{ctx, blob})
	if err != nil {
		return err
	}
	defer r.Close()
	if err := l.add(r); err != nil {
		return err
	}
	// It is verified where it ends.
	for _, rest := range []io.Reader{r, blob} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the contents.
func (f *Files) Close() error { return f.spool.Close() }

// Open implements fsutil.FS for regular files.
func (f *Files) Open(name string) (io.ReadCloser, error) {
	n := f.find(name)
	switch {
	case n == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case !n.mode.IsRegular():
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return io.NopCloser(io.NewSectionReader(f.spool, n.at, n.size)), nil
}

func (f *Files) find(name string) *fileNode {
	n := f.root
	for part := range strings.SplitSeq(path.Clean("/"+filepath.ToSlash(name)), "/") {
		if part != "" && n != nil {
			n = n.children[part]
		}
	}
	return n
}

// Walk implements fsutil.FS: as filepath.WalkDir, without the root itself. Of several
// names of one file, the first is the file and the others are links to it.
func (f *Files) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	name := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(target)), "/")
	n := f.find(name)
	if n == nil {
		return fn(name, nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist})
	}
	err := (&walker{ctx: ctx, fn: fn, seen: map[*inode]string{}}).walk(name, n)
	if errors.Is(err, fs.SkipDir) || errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

// walker is one call of Walk.
type walker struct {
	ctx  context.Context
	fn   fs.WalkDirFunc
	seen map[*inode]string
}

func (w *walker) walk(name string, n *fileNode) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if name != "" {
		err := w.fn(filepath.FromSlash(name), &fsutil.DirEntryInfo{Stat: w.stat(name, n)}, nil)
		if errors.Is(err, fs.SkipDir) && n.mode.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
	}
	names := make([]string, 0, len(n.children))
	for c := range n.children {
		names = append(names, c)
	}
	slices.Sort(names)
	for _, c := range names {
		err := w.walk(path.Join(name, c), n.children[c])
		if errors.Is(err, fs.SkipDir) {
			return nil // the rest of this directory
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stat is what BuildKit's walk over a mounted file system says of a file.
func (w *walker) stat(name string, n *fileNode) *fstypes.Stat {
	st := &fstypes.Stat{
		Path: filepath.FromSlash(name), Mode: uint32(n.mode), Uid: n.uid, Gid: n.gid, ModTime: n.modTime,
		Size: n.size, Linkname: n.target, Devmajor: n.major, Devminor: n.minor, Xattrs: n.xattrs,
	}
	if n.mode.IsDir() {
		return st
	}
	if first, ok := w.seen[n.inode]; ok {
		st.Linkname = first
	} else {
		w.seen[n.inode] = name
	}
	return st
}
