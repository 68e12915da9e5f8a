package frontend

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// RefFS is the directory dir of a build result as a file system to read.
func RefFS(ctx context.Context, ref gwclient.Reference, dir string) fs.FS {
	return &refFS{ctx: ctx, ref: ref, dir: dir}
}

// refFS lives no longer than the call that it is made for, whose context it keeps:
// fs.FS has no other way to hand one in.
type refFS struct {
	ctx context.Context
	ref gwclient.Reference
	dir string
}

var (
	_ fs.StatFS     = (*refFS)(nil)
	_ fs.ReadDirFS  = (*refFS)(nil)
	_ fs.ReadFileFS = (*refFS)(nil)
)

func (f *refFS) path(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return path.Join("/", f.dir, name), nil
}

// refError gives errors, which come as text, their meaning back.
func refError(op, name string, err error) error {
	if strings.Contains(err.Error(), "no such file or directory") || strings.Contains(err.Error(), "file does not exist") {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Stat implements fs.StatFS.
func (f *refFS) Stat(name string) (fs.FileInfo, error) {
	p, err := f.path("stat", name)
	if err != nil {
		return nil, err
	}
	st, err := f.ref.StatFile(f.ctx, gwclient.StatRequest{Path: p})
	if err != nil {
		return nil, refError("stat", name, err)
	}
	return refInfo{st, path.Base(name)}, nil
}

// ReadDir implements fs.ReadDirFS.
func (f *refFS) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := f.path("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := f.ref.ReadDir(f.ctx, gwclient.ReadDirRequest{Path: p})
	if err != nil {
		return nil, refError("readdir", name, err)
	}
	out := make([]fs.DirEntry, len(list))
	for i, st := range list {
		out[i] = fs.FileInfoToDirEntry(refInfo{st, path.Base(st.Path)})
	}
	return out, nil
}

// ReadFile implements fs.ReadFileFS.
func (f *refFS) ReadFile(name string) ([]byte, error) {
	p, err := f.path("open", name)
	if err != nil {
		return nil, err
	}
	data, err := f.ref.ReadFile(f.ctx, gwclient.ReadRequest{Filename: p})
	if err != nil {
		return nil, refError("open", name, err)
	}
	return data, nil
}

// Open implements fs.FS.
func (f *refFS) Open(name string) (fs.File, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &refFile{info: info, Reader: bytes.NewReader(nil), list: func() ([]fs.DirEntry, error) { return f.ReadDir(name) }}, nil
	}
	data, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return &refFile{info: info, Reader: bytes.NewReader(data)}, nil
}

// refFile is an open file or directory.
type refFile struct {
	*bytes.Reader
	info fs.FileInfo
	// list lists a directory; entries is what is left of it.
	list    func() ([]fs.DirEntry, error)
	entries []fs.DirEntry
	listed  bool
}

// Stat implements fs.File.
func (f *refFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (f *refFile) Close() error { return nil }

// ReadDir implements fs.ReadDirFile.
func (f *refFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.list == nil {
		return nil, &fs.PathError{Op: "readdir", Path: f.info.Name(), Err: fs.ErrInvalid}
	}
	if !f.listed {
		var err error
		if f.entries, err = f.list(); err != nil {
			return nil, err
		}
		f.listed = true
	}
	if n <= 0 || n > len(f.entries) {
		if n > 0 && len(f.entries) == 0 {
			return nil, io.EOF
		}
		n = len(f.entries)
	}
	out := f.entries[:n]
	f.entries = f.entries[n:]
	return out, nil
}

// refInfo is a file's description as the daemon gives it; its mode is that of Go.
type refInfo struct {
	*fstypes.Stat
	name string
}

// Name implements fs.FileInfo.
func (i refInfo) Name() string { return i.name }

// Size implements fs.FileInfo.
func (i refInfo) Size() int64 { return i.Stat.Size }

// Mode implements fs.FileInfo.
func (i refInfo) Mode() fs.FileMode { return fs.FileMode(i.Stat.Mode) }

// ModTime implements fs.FileInfo.
func (i refInfo) ModTime() time.Time { return time.Unix(0, i.Stat.ModTime) }

// IsDir implements fs.FileInfo.
func (i refInfo) IsDir() bool { return i.Mode().IsDir() }

// Sys implements fs.FileInfo.
func (i refInfo) Sys() any { return i.Stat }
