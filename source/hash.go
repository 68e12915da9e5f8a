package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// hashBuffer is what one hashing worker reads at once.
const hashBuffer = 256 << 10

var errChanged = errors.New("changed while being read")

// hashFiles makes sure that the files of a listed directory with the given
// indexes have their sums. An error names the file.
func (t *Trees) hashFiles(ctx context.Context, n *dirNode, files []int) error {
	n.hashMu.Lock()
	defer n.hashMu.Unlock()
	var missing []int
	var bytes int64
	for _, i := range files {
		if n.entries[i].flags&flagSum == 0 {
			missing = append(missing, i)
			bytes += n.entries[i].size
		}
	}
	if len(missing) == 0 {
		return ctx.Err()
	}
	dir := n.path()
	if dir != "/" {
		dir += "/"
	}
	workers := 1
	if bytes > hashBuffer {
		workers = min(cap(t.hashers), len(missing))
	}
	errs := make([]error, len(missing))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(missing) || ctx.Err() != nil {
				return
			}
			e := &n.entries[missing[i]]
			errs[i] = t.hashOne(ctx, dir+e.name, e)
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// hashOne hashes one file. A file that changes meanwhile is tried again.
func (t *Trees) hashOne(ctx context.Context, path string, e *entry) error {
	select {
	case t.hashers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.hashers }()
	// the first time it should be the version that was listed
	before := e.stat()
	err := errChanged
	for range 3 {
		if before, err = t.hashFile(ctx, path, e, before); !errors.Is(err, errChanged) {
			break
		}
	}
	if errors.Is(err, errChanged) {
		return fmt.Errorf("reading %s: %w: build again when nothing writes to it", path, err)
	}
	return err
}

// hashFile hashes a file of which before is believed to be the version. If it
// was another one at the end, that is returned with errChanged.
func (t *Trees) hashFile(ctx context.Context, path string, e *entry, before stat) (stat, error) {
	f, err := openRegular(path)
	if isLoop(err) || isGone(err) {
		return before, errChanged
	}
	if err != nil {
		return before, err
	}
	defer f.close()
	var s sum
	read := t.sumContent(ctx, f, before.size, &s)
	if t.reading != nil {
		t.reading(path)
	}
	var attrs *sum
	if read == nil && f.hasXattrs() {
		attrs, read = readXattrs(path)
	}
	after, err := f.stat()
	switch {
	case err != nil:
		return before, err
	case after.kind != kindFile || after.socket || !before.sameVersion(&after):
		return after, errChanged
	case read != nil:
		return after, read
	}
	e.mtime, e.ctime, e.ino, e.size, e.perm = after.mtime, after.ctime, after.ino, after.size, after.perm
	e.setXattrs(attrs)
	e.sum = s
	e.flags |= flagSum | flagFresh
	t.fresh.Add(1)
	return after, nil
}

// sumContent hashes exactly size bytes.
func (t *Trees) sumContent(ctx context.Context, f openFile, size int64, s *sum) error {
	buf := t.buffer()
	defer t.buffers.Put(buf)
	if size <= hashBuffer { // most files: no hash state on the heap
		n := 0
		for n < int(size) {
			m, err := f.read(buf[n:size])
			if err != nil {
				return err
			}
			if m == 0 {
				return errChanged
			}
			n += m
		}
		*s = sha256.Sum256(buf[:n])
		return nil
	}
	h := sha256.New()
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := f.read(buf[:min(left, hashBuffer)])
		if err != nil {
			return err
		}
		if m == 0 {
			return errChanged
		}
		h.Write(buf[:m])
		left -= int64(m)
	}
	h.Sum(s[:0])
	return nil
}

// buffer is what files are read into; there are as many as hashing workers.
func (t *Trees) buffer() *[hashBuffer]byte {
	if buf, ok := t.buffers.Get().(*[hashBuffer]byte); ok {
		return buf
	}
	return new([hashBuffer]byte)
}
