package engine

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

// listing digests what an output of files has, but for contents and times. It proves
// that what is made of an image is what the daemon has made: an image keeps less than
// the daemon's snapshots have.
type listing struct {
	h *graph.Hasher
	// local leaves out what a directory of the user's cannot keep: owners, and all
	// attributes but the user's.
	local bool
	n     int
}

func newListing(t OutputType) *listing {
	return &listing{h: graph.NewHasher("zlayer.files.listing.v1"), local: t == OutputLocal}
}

func (l *listing) digest() digest.Digest {
	l.h.Int(l.n)
	return l.h.Digest()
}

func (l *listing) add(st *fstypes.Stat) {
	l.n++
	mode := fs.FileMode(st.Mode)
	l.h.String(filepath.ToSlash(st.Path))
	l.h.Int(int(mode))
	l.h.String(st.Linkname)
	if mode.IsRegular() && st.Linkname == "" {
		l.h.Int(int(st.Size))
	}
	l.h.Int(int(st.Devmajor))
	l.h.Int(int(st.Devminor))
	attrs := map[string]string{}
	for k, v := range st.Xattrs {
		if !l.local || strings.HasPrefix(k, "user.") {
			attrs[k] = string(v)
		}
	}
	l.h.Map(attrs)
	if !l.local {
		l.h.Int(int(st.Uid))
		l.h.Int(int(st.Gid))
	}
}

// addFS adds all files of a file system, and calls each with their stats.
func (l *listing) addFS(ctx context.Context, f fsutil.FS, each func(*fstypes.Stat)) error {
	return f.Walk(ctx, "", func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*fstypes.Stat)
		if !ok {
			return errors.New("a file system without stats")
		}
		l.add(st)
		if each != nil {
			each(st)
		}
		return nil
	})
}

// headerStat is the inverse of fsutil.WriteTar.
func headerStat(h *tar.Header) *fstypes.Stat {
	st := &fstypes.Stat{
		Path: strings.TrimSuffix(h.Name, "/"), Mode: uint32(h.FileInfo().Mode()), Uid: uint32(h.Uid), Gid: uint32(h.Gid),
		Size: h.Size, Linkname: h.Linkname, Devmajor: h.Devmajor, Devminor: h.Devminor, ModTime: h.ModTime.UnixNano(),
	}
	for k, v := range h.PAXRecords {
		if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if st.Xattrs == nil {
				st.Xattrs = map[string][]byte{}
			}
			st.Xattrs[k] = []byte(v)
		}
	}
	return st
}

// maxAdded bounds the files that a record holds: some stores look up no more than 64 KiB.
const maxAdded = 24 << 10

// adder gathers the attestations of an output of files: each beside the files of its
// platform.
type adder struct {
	depth int
	list  []memo.AddedFile
	size  int
	full  bool // something did not fit
}

// add takes a file in if it is an attestation. open gives its content.
func (a *adder) add(st *fstypes.Stat, open func() ([]byte, error)) error {
	name := filepath.ToSlash(st.Path)
	if strings.Count(name, "/") != a.depth || fs.FileMode(st.Mode) != 0o600 || st.Linkname != "" || !strings.HasSuffix(name, ".json") {
		return nil
	}
	if st.Size > maxAdded {
		a.full = true
		return nil
	}
	data, err := open()
	if err != nil {
		return err
	}
	var statement struct {
		Type string `json:"_type"`
	}
	if json.Unmarshal(data, &statement) != nil || !strings.HasPrefix(statement.Type, "https://in-toto.io/") {
		return nil
	}
	if a.size += len(data); a.size > maxAdded {
		a.full = true
		return nil
	}
	a.list = append(a.list, memo.AddedFile{Path: name, Data: data, Time: st.ModTime})
	return nil
}

// filesRecord tells of the files that an output has left how they can be made of the
// image again; nil where they cannot. k has the graph that was built.
func (j *job) filesRecord(ctx context.Context, w *wanted, k *keys) *memo.Files {
	rec := &memo.Files{}
	for _, s := range k.graph.Outputs() {
		p := memo.FilesPlatform{ID: platforms.FormatAll(platforms.Normalize(s.Platform))}
		if s.Epoch != nil {
			seconds := s.Epoch.Unix()
			p.Epoch = &seconds
		}
		rec.Platforms = append(rec.Platforms, p)
	}
	o, err := j.filesOptions(w, rec)
	if err != nil || w.Writer != nil {
		return nil
	}
	l, a := newListing(w.Type), &adder{}
	if o.split {
		a.depth = 1
	}
	if w.Type == OutputTar {
		err = listTar(w.Dest, l, a)
	} else {
		err = listDir(ctx, w.Dest, l, a)
	}
	if err != nil || a.full {
		return nil
	}
	rec.Listing, rec.Added = l.digest(), a.list
	return rec
}

// listTar lists a tar archive without reading the contents.
func listTar(name string, l *listing, a *adder) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, fs.ErrInvalid)
	}
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		st := headerStat(h)
		l.add(st)
		if err := a.add(st, func() ([]byte, error) { return io.ReadAll(tr) }); err != nil {
			return err
		}
	}
}

// listDir lists a directory.
func listDir(ctx context.Context, dir string, l *listing, a *adder) error {
	f, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	var aerr error
	err = l.addFS(ctx, f, func(st *fstypes.Stat) {
		if err := a.add(st, func() ([]byte, error) { return os.ReadFile(filepath.Join(dir, st.Path)) }); err != nil {
			aerr = err
		}
	})
	return errors.Join(err, aerr)
}
