package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// recentlyUsed is how old a blob's time may be before relying on the blob renews
// it. A cached rebuild then writes nothing at all. GC makes up for it by moving
// the beginning of every lease this much earlier.
const recentlyUsed = 10 * time.Minute

// contentStore is the store's blobs as containerd's interface, which is what
// BuildKit reads from and exports to. containerd's own implementation keeps
// writers apart within one process only: two processes that write the same ref
// share a data file there.
type contentStore struct {
	store *Store

	mu      sync.Mutex
	ingests map[string]*ingest // by ref; of this process
}

var _ content.Store = (*contentStore)(nil)

// Content is the store's blobs for BuildKit: the OutputStore of an export, or a
// source of SolveOpt.OCIStores. A writer for a blob that is there already gives
// errdefs.ErrAlreadyExists, and BuildKit sends nothing. Two writers with one ref
// in this process wait for each other (errdefs.ErrUnavailable, which callers
// retry); in two processes both write and the second finds the blob there. A
// writer closed before its commit can be resumed under its ref until the Store is
// closed. Labels are not kept.
//
// A committed blob is whole and durable under its digest once Import has named
// an image that contains it; before that a power cut may take it away, but never
// leave anything else in its place.
func (s *Store) Content() content.Store { return s.content }

// Output is Content for exporters, several at once: a writer for a ref that is being
// written waits until that is over, or ctx is, where Content gives
// errdefs.ErrUnavailable at once. containerd's server writes an error to the log for
// each of those, and its client asks again after a pause that doubles.
func (s *Store) Output() content.Store { return waitingStore{s.content} }

type waitingStore struct{ *contentStore }

// Writer implements content.Ingester.
func (c waitingStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	for {
		w, err := c.contentStore.Writer(ctx, opts...)
		if !errdefs.IsUnavailable(err) {
			return w, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.free(o.Ref):
		}
	}
}

// free is closed when nobody writes a ref, if only for a moment.
func (c *contentStore) free(ref string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.ingests[ref]; in != nil && in.held {
		return in.free
	}
	done := make(chan struct{})
	close(done)
	return done
}

func notFound(d digest.Digest) error {
	return fmt.Errorf("blob %s: %w", d, errdefs.ErrNotFound)
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Info says what is known of a blob: its size, and when it was last relied upon.
func (c *contentStore) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	if err := checkDigest(d); err != nil {
		return content.Info{}, err
	}
	fi, err := os.Stat(c.store.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return content.Info{}, notFound(d)
	}
	if err != nil {
		return content.Info{}, err
	}
	return blobInfo(d, fi), nil
}

func blobInfo(d digest.Digest, fi fs.FileInfo) content.Info {
	return content.Info{Digest: d, Size: fi.Size(), CreatedAt: fi.ModTime(), UpdatedAt: fi.ModTime()}
}

// Update is refused: the store keeps no labels.
func (c *contentStore) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fmt.Errorf("the image store keeps no labels: %w", errdefs.ErrFailedPrecondition)
}

// Walk calls fn for each blob, in no particular order.
func (c *contentStore) Walk(ctx context.Context, fn content.WalkFunc, fs ...string) error {
	filter, err := filters.ParseAll(fs...)
	if err != nil {
		return err
	}
	return c.store.eachBlob(ctx, func(info content.Info) error {
		if !filter.Match(content.AdaptInfo(info)) {
			return nil
		}
		return fn(info)
	})
}

// eachBlob passes over files that are no blobs, and blobs deleted meanwhile.
func (s *Store) eachBlob(ctx context.Context, fn content.WalkFunc) error {
	algorithms, err := os.ReadDir(s.path(ocispecs.ImageBlobsDir))
	if err != nil {
		return err
	}
	for _, alg := range algorithms {
		blobs, err := os.ReadDir(s.path(ocispecs.ImageBlobsDir, alg.Name()))
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			d := digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), b.Name())
			if d.Validate() != nil {
				continue
			}
			fi, err := b.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := fn(blobInfo(d, fi)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete removes a blob, whatever refers to it; GC is the careful way.
func (c *contentStore) Delete(ctx context.Context, d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	unlock, err := c.store.lockBlobs(ctx, false)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(c.store.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return notFound(d)
	}
	return err
}

// ReaderAt opens a blob. The bytes are as they lie on disk: who must not take
// damaged ones compares digests (BuildKit does, and so do Image and Index).
func (c *contentStore) ReaderAt(_ context.Context, desc ocispecs.Descriptor) (content.ReaderAt, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return nil, err
	}
	f, err := os.Open(c.store.blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return blobReader{File: f, size: fi.Size()}, nil
}

type blobReader struct {
	*os.File
	size int64
}

func (r blobReader) Size() int64 { return r.size }

// use reports whether the blob is there with the given size (0: any) and marks it
// as used now, so that GC leaves it alone. A blob of another size is damaged; it
// counts as absent and the next commit replaces it.
func (s *Store) use(ctx context.Context, d digest.Digest, size int64) (bool, error) {
	// Look first: without a blob there is nothing to lock for.
	fi, err := os.Stat(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	unlock, err := s.lockBlobs(ctx, true)
	if err != nil {
		if readOnly(err) {
			return usable(fi, size), nil
		}
		return false, err
	}
	defer unlock()
	return s.useLocked(d, size)
}

func usable(fi fs.FileInfo, size int64) bool {
	return fi.Mode().IsRegular() && (size <= 0 || fi.Size() == size)
}

func (s *Store) useLocked(d digest.Digest, size int64) (bool, error) {
	path := s.blobPath(d)
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !usable(fi, size) {
		return false, err
	}
	now := time.Now()
	if age := now.Sub(fi.ModTime()); age >= 0 && age < recentlyUsed {
		return true, nil
	}
	if err := os.Chtimes(path, now, now); err != nil && !readOnly(err) {
		return false, err
	}
	return true, nil
}

// newFile makes an empty file for a blob in the making.
func (s *Store) newFile() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("the image store is closed: %w", errdefs.ErrFailedPrecondition)
	}
	if s.ingest == nil {
		ses, err := s.newSession(ingestKind)
		if err != nil {
			return nil, fmt.Errorf("writing to the image store: %w", err)
		}
		s.ingest = ses
	}
	s.counter++
	path := filepath.Join(s.ingest.dir, strconv.Itoa(s.counter))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("writing to the image store: %w", err)
	}
	return f, nil
}

// publish gives a finished, verified file its blob name and takes the file away
// if the blob is there already (errdefs.ErrAlreadyExists). f is closed in any case.
func (s *Store) publish(ctx context.Context, f *os.File, d digest.Digest, size int64) (err error) {
	path := f.Name()
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	exists, err := s.use(ctx, d, size)
	if err != nil || exists {
		f.Close()
		if err == nil {
			err = fmt.Errorf("blob %s: %w", d, errdefs.ErrAlreadyExists)
		}
		return err
	}
	// The time is the beginning of the blob's grace, whenever its bytes came.
	now := time.Now()
	err = errors.Join(os.Chtimes(path, now, now), f.Chmod(0o444))
	if err == nil {
		err = f.Sync() // before the rename: a digest must never name half a blob
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing blob %s: %w", d, err)
	}
	unlock, err := s.lockBlobs(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	if exists, err := s.useLocked(d, size); err != nil {
		return err
	} else if exists {
		return fmt.Errorf("blob %s: %w", d, errdefs.ErrAlreadyExists)
	}
	target := s.blobPath(d)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("writing blob %s: %w", d, err)
	}
	if err := os.Rename(path, target); err != nil {
		return fmt.Errorf("writing blob %s: %w", d, err)
	}
	return nil
}
