package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"path"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/local"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/staticfs"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// deliverFiles makes the archive or directory of files out of the image of the same
// build, if there is one: what BuildKit's exporters would make of it.
func (j *job) deliverFiles(ctx context.Context, k *keys, w *wanted, rec *memo.Record) (func(context.Context) error, error) {
	if rec.Files == nil {
		return nil, errMissed
	}
	o, err := j.filesOptions(w, rec.Files)
	if err != nil {
		return nil, errMissed
	}
	img, err := j.imageOf(ctx, k, rec)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		s, err := img.get(ctx)
		if err != nil {
			return err
		}
		t, err := j.openFiles(ctx, s, img.desc, rec.Files, o)
		if err != nil {
			return errors.Join(errMissed, err) // the daemon can
		}
		defer t.close()
		l := newListing(w.Type)
		if err := l.addFS(ctx, t, nil); err != nil {
			return errors.Join(errMissed, err)
		}
		if l.digest() != rec.Files.Listing {
			return errMissed // the image has kept less than the output had
		}
		if w.Type == OutputTar {
			err = w.write(func(f io.Writer) error { return fsutil.WriteTar(ctx, t, f) })
		} else {
			err = copyFiles(ctx, t, w)
		}
		if err != nil {
			return err
		}
		return j.rememberRestored(ctx, w, rec.Key)
	}, nil
}

// filesOptions are what an exporter of files is told.
type filesOptions struct {
	local.CreateFSOpts
	// split: each platform has a directory.
	split bool
}

// filesOptions reads the options of an output of files. Those that are about more than
// the files of an image as they are give an error.
func (j *job) filesOptions(w *wanted, rec *memo.Files) (filesOptions, error) {
	var o filesOptions
	rest, err := o.Load(maps.Clone(w.attrs))
	if err != nil {
		return o, err
	}
	delete(rest, "name")
	_, forced := j.attrs["build-arg:BUILDKIT_MULTI_PLATFORM"]
	several := len(rec.Platforms) > 1
	o.split = several
	if w.Type == OutputLocal {
		o.split = o.UsePlatformSplit(several)
	}
	switch {
	case len(rest) > 0, o.Source != "", forced, len(rec.Platforms) == 0, several && !o.split:
		return o, fmt.Errorf("an output of files with options %v is made by the daemon", w.attrs)
	}
	return o, nil
}

// restoredFiles are the files of an output.
type restoredFiles struct {
	fsutil.FS
	images []*store.Files
}

func (t *restoredFiles) close() {
	for _, f := range t.images {
		_ = f.Close()
	}
}

// openFiles puts the files of an output together as BuildKit's exporters do.
func (j *job) openFiles(ctx context.Context, s *store.Store, desc ocispecs.Descriptor, rec *memo.Files, o filesOptions) (_ *restoredFiles, err error) {
	t := &restoredFiles{}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	tmp, err := j.tempDir()
	if err != nil {
		return nil, err
	}
	var dirs []fsutil.Dir
	for _, p := range rec.Platforms {
		m, ok := manifestFor(ctx, s, desc, p.ID)
		if !ok || len(rec.Platforms) > 1 && m.Digest == desc.Digest {
			return nil, fmt.Errorf("image %s has no platform %s", desc.Digest, p.ID)
		}
		f, err := s.Files(ctx, m, tmp)
		if err != nil {
			return nil, err
		}
		t.images = append(t.images, f)
		epoch := epochOf(p, o)
		whole, err := withEpoch(f, epoch)
		if err != nil {
			return nil, err
		}
		st := &fstypes.Stat{Mode: uint32(fs.ModeDir | 0o755), Path: local.PlatformIDToPath(p.ID)}
		if epoch != nil {
			st.ModTime = epoch.UnixNano()
		}
		prefix := ""
		if o.split {
			prefix = st.Path
		}
		if added := addedFiles(rec.Added, prefix); added != nil {
			whole = staticfs.NewMergeFS(whole, added)
		}
		dirs = append(dirs, fsutil.Dir{FS: whole, Stat: st})
	}
	t.FS = dirs[0].FS
	if o.split {
		t.FS, err = fsutil.SubDirFS(dirs)
	}
	return t, err
}

// epochOf is the time that the files of a platform get, nil for their own.
func epochOf(p memo.FilesPlatform, o filesOptions) *time.Time {
	if o.Epoch != nil {
		return o.Epoch.Value
	}
	if p.Epoch == nil {
		return nil
	}
	t := time.Unix(*p.Epoch, 0)
	return &t
}

// withEpoch gives all files a time.
func withEpoch(f fsutil.FS, t *time.Time) (fsutil.FS, error) {
	if t == nil {
		return f, nil
	}
	return fsutil.NewFilterFS(f, &fsutil.FilterOpt{Map: func(_ string, st *fstypes.Stat) fsutil.MapResult {
		st.ModTime = t.UnixNano()
		return fsutil.MapResultKeep
	}})
}

// addedFiles are the attestations in a directory of the output, nil if there are none.
func addedFiles(list []memo.AddedFile, dir string) fsutil.FS {
	f := staticfs.NewFS()
	n := 0
	for _, a := range list {
		base := path.Base(a.Path)
		if path.Join(dir, base) != a.Path || base == "." || base == ".." || !fs.ValidPath(base) {
			continue
		}
		n++
		f.Add(base, &fstypes.Stat{Mode: 0o600, ModTime: a.Time}, a.Data)
	}
	if n == 0 {
		return nil
	}
	return f
}

// copyFiles writes files into the directory of an output. It is both ends of what a
// daemon and its client do.
func copyFiles(ctx context.Context, f fsutil.FS, w *wanted) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m, err := session.NewManager()
	if err != nil {
		return fmt.Errorf("writing %s: %w", w.Dest, err)
	}
	sess, err := session.NewSession(ctx, "")
	if err != nil {
		return fmt.Errorf("writing %s: %w", w.Dest, err)
	}
	target := filesync.WithFSSyncDir(0, w.Dest)
	if mode, err := client.ParseLocalExporterMode(w.attrs["mode"]); err != nil {
		return err
	} else if mode == client.LocalExporterModeDelete {
		target = filesync.WithFSSyncDirDelete(0, w.Dest)
	}
	sess.Allow(filesync.NewFSSyncTarget(target))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sess.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _ = m.HandleConn(ctx, theirs, meta) }()
			return ours, nil
		})
	}()
	defer func() {
		_ = sess.Close()
		<-ended
	}()
	caller, err := m.Get(ctx, sess.ID(), false)
	if err == nil {
		err = filesync.CopyToCaller(ctx, f, 0, caller, nil, filesync.WithExporterMultiPlatformTransfer())
	}
	if err != nil {
		return fmt.Errorf("writing to %s: %w", w.Dest, err)
	}
	return nil
}
