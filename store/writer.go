package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
)

// ingest is a blob in the making. Its fields are guarded by contentStore.mu,
// except while a writer holds it, whose user writes from one goroutine.
type ingest struct {
	file     *os.File
	digester digest.Digester
	status   content.Status
	held     bool // by a writer
	// free is closed when the writer that holds it lets go.
	free chan struct{}
}

// Writer begins or resumes the ingest named by the ref, see [Store.Content].
func (c *contentStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if o.Ref == "" {
		return nil, fmt.Errorf("a writer needs a ref: %w", errdefs.ErrInvalidArgument)
	}
	alg := digest.Canonical
	if o.Desc.Digest != "" {
		if err := checkDigest(o.Desc.Digest); err != nil {
			return nil, err
		}
		alg = o.Desc.Digest.Algorithm()
		exists, err := c.store.use(ctx, o.Desc.Digest, o.Desc.Size)
		if err != nil {
			return nil, err
		}
		if exists {
			return nil, fmt.Errorf("blob %s: %w", o.Desc.Digest, errdefs.ErrAlreadyExists)
		}
	}
	in, err := c.hold(o, alg)
	if err != nil {
		return nil, err
	}
	return &writer{content: c, ingest: in, declared: o.Desc.Digest}, nil
}

// hold finds or makes the ingest and takes it for one writer.
func (c *contentStore) hold(o content.WriterOpts, alg digest.Algorithm) (*ingest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.ingests[o.Ref]
	if in != nil && in.held {
		return nil, fmt.Errorf("ref %s is being written: %w", o.Ref, errdefs.ErrUnavailable)
	}
	total := max(o.Desc.Size, 0)
	if in != nil && (in.digester.Digest().Algorithm() != alg || total > 0 && in.status.Total > 0 && total != in.status.Total) {
		in.discard() // what was begun under this ref was another blob
		in = nil
	}
	if in == nil {
		f, err := c.store.newFile()
		if err != nil {
			return nil, err
		}
		now := time.Now()
		in = &ingest{
			file:     f,
			digester: alg.Digester(),
			status:   content.Status{Ref: o.Ref, StartedAt: now, UpdatedAt: now},
		}
		c.ingests[o.Ref] = in
	}
	if total > 0 {
		in.status.Total = total
	}
	if o.Desc.Digest != "" {
		in.status.Expected = o.Desc.Digest
	}
	in.held, in.free = true, make(chan struct{})
	return in, nil
}

func (in *ingest) discard() {
	in.file.Close()
	os.Remove(in.file.Name())
}

// discardAll is for closing the store; writers still held fail from then on.
func (c *contentStore) discardAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, in := range c.ingests {
		in.discard()
		delete(c.ingests, ref)
	}
}

// Status of an ingest of this process, in the hands of a writer or not.
func (c *contentStore) Status(_ context.Context, ref string) (content.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.ingests[ref]
	if in == nil {
		return content.Status{}, fmt.Errorf("ref %s: %w", ref, errdefs.ErrNotFound)
	}
	return in.status, nil
}

// ListStatuses lists this process's ingests, by ref.
func (c *contentStore) ListStatuses(_ context.Context, fs ...string) ([]content.Status, error) {
	filter, err := filters.ParseAll(fs...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []content.Status
	for _, in := range c.ingests {
		adaptor := filters.AdapterFunc(func(field []string) (string, bool) {
			if len(field) == 1 && field[0] == "ref" {
				return in.status.Ref, true
			}
			return "", false
		})
		if filter.Match(adaptor) {
			list = append(list, in.status)
		}
	}
	slices.SortFunc(list, func(a, b content.Status) int { return strings.Compare(a.Ref, b.Ref) })
	return list, nil
}

// Abort drops an ingest; a writer that still holds it fails from then on.
func (c *contentStore) Abort(_ context.Context, ref string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.ingests[ref]
	if in == nil {
		return fmt.Errorf("ref %s: %w", ref, errdefs.ErrNotFound)
	}
	delete(c.ingests, ref)
	in.discard()
	return nil
}

// writer is one caller's hold on an ingest.
type writer struct {
	content  *contentStore
	ingest   *ingest // nil once closed
	declared digest.Digest
	digest   digest.Digest // once committed
}

var errClosedWriter = fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)

func (w *writer) Write(p []byte) (int, error) {
	in := w.ingest
	if in == nil {
		return 0, errClosedWriter
	}
	n, err := in.file.Write(p)
	in.digester.Hash().Write(p[:n])
	w.content.mu.Lock()
	in.status.Offset += int64(n)
	in.status.UpdatedAt = time.Now()
	w.content.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("writing to the image store: %w", err)
	}
	return n, err
}

// Digest of the bytes so far, or of the committed blob.
func (w *writer) Digest() digest.Digest {
	if w.ingest == nil {
		return w.digest
	}
	return w.ingest.digester.Digest()
}

func (w *writer) Status() (content.Status, error) {
	if w.ingest == nil {
		return content.Status{}, errClosedWriter
	}
	w.content.mu.Lock()
	defer w.content.mu.Unlock()
	return w.ingest.status, nil
}

// Truncate knows one size, zero: start again.
func (w *writer) Truncate(size int64) error {
	if w.ingest == nil {
		return errClosedWriter
	}
	if size != 0 {
		return fmt.Errorf("truncating an ingest to %d bytes, only 0 is possible: %w", size, errdefs.ErrInvalidArgument)
	}
	in := w.ingest
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := in.file.Truncate(0); err != nil {
		return err
	}
	in.digester.Hash().Reset()
	w.content.mu.Lock()
	in.status.Offset = 0
	w.content.mu.Unlock()
	return nil
}

// Close lets go of the ingest, which keeps its bytes for the next writer.
func (w *writer) Close() error {
	w.release(false)
	return nil
}

func (w *writer) release(drop bool) {
	in := w.ingest
	if in == nil {
		return
	}
	w.ingest = nil
	w.content.mu.Lock()
	defer w.content.mu.Unlock()
	in.held = false
	close(in.free)
	if drop && w.content.ingests[in.status.Ref] == in {
		delete(w.content.ingests, in.status.Ref)
	}
}

// Commit compares what was written with the size (0: unknown) and digest (empty:
// unknown) and makes it a blob. A difference is errdefs.ErrFailedPrecondition and
// leaves the ingest to be resumed, unless it differs from what the writer was
// opened for: then it can only be wrong and goes away.
func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, _ ...content.Opt) error {
	in := w.ingest
	if in == nil {
		return errClosedWriter
	}
	if err := w.verify(size, expected); err != nil {
		return err
	}
	// It is held until it is there: who waits for it finds the blob.
	defer w.release(true)
	return w.content.store.publish(ctx, in.file, w.digest, in.status.Offset)
}

// verify sets w.digest, or closes the writer and says what differs.
func (w *writer) verify(size int64, expected digest.Digest) (err error) {
	in, drop := w.ingest, false
	defer func() {
		if err == nil {
			return
		}
		w.release(drop)
		if drop {
			in.discard()
		}
	}()
	if expected == "" {
		expected = w.declared
	}
	if size > 0 && size != in.status.Offset {
		return fmt.Errorf("blob %s has %d bytes, expected %d: %w", expected, in.status.Offset, size, errdefs.ErrFailedPrecondition)
	}
	d := in.digester.Digest()
	if expected != "" && expected.Algorithm() != d.Algorithm() {
		if err := checkDigest(expected); err != nil {
			return err
		}
		if d, err = rehash(in.file, expected.Algorithm()); err != nil {
			drop = true
			return err
		}
	}
	if expected != "" && expected != d {
		drop = expected == w.declared
		return fmt.Errorf("blob has digest %s, expected %s: %w", d, expected, errdefs.ErrFailedPrecondition)
	}
	w.digest = d
	return nil
}

// rehash reads what was written again: the digest named at the commit is of
// another kind than the one worked out on the way.
func rehash(f *os.File, alg digest.Algorithm) (digest.Digest, error) {
	digester := alg.Digester()
	fi, err := f.Stat()
	if err == nil {
		_, err = io.Copy(digester.Hash(), io.NewSectionReader(f, 0, fi.Size()))
	}
	if err != nil {
		return "", errors.Join(errors.New("reading a blob back"), err)
	}
	return digester.Digest(), nil
}
