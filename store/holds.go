package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Complete reports whether every blob that an image needs is there: nil, or an
// error that wraps the first [BlobError]. Manifests are verified against their
// digests, other blobs by their size: their bytes were when they were written.
func (s *Store) Complete(ctx context.Context, desc ocispecs.Descriptor) error {
	if err := checkDescriptor(desc); err != nil {
		return fmt.Errorf("looking for image %s: %w", desc.Digest, err)
	}
	if err := s.complete(ctx, desc); err != nil {
		return fmt.Errorf("looking for image %s: %w", desc.Digest, err)
	}
	return nil
}

// Named reports whether all names stand for an image; without names, whether the
// image is kept under any name or none.
func (s *Store) Named(desc ocispecs.Descriptor, names ...string) bool {
	normal, err := normalNames(names)
	if err != nil {
		return false
	}
	entries, err := s.entries()
	if err != nil {
		return false
	}
	for _, n := range normal {
		if entries.byName[n] != desc.Digest {
			return false
		}
	}
	return len(normal) > 0 || entries.digests[desc.Digest]
}

// indexNames is what the index says, for many questions about one state of it.
type indexNames struct {
	byName  map[string]digest.Digest
	digests map[digest.Digest]bool
}

// indexCache keeps the last index that was read: the file is only ever replaced as
// a whole, so a file that is the same one has not changed.
type indexCache struct {
	mu      sync.Mutex
	file    fs.FileInfo
	entries indexNames
}

// entries reads the index unless it is the one that was read last.
func (s *Store) entries() (indexNames, error) {
	c := &s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(s.path(ocispecs.ImageIndexFile))
	if err != nil {
		return indexNames{}, err
	}
	if c.file != nil && os.SameFile(fi, c.file) && fi.ModTime().Equal(c.file.ModTime()) && fi.Size() == c.file.Size() {
		return c.entries, nil
	}
	idx, err := s.readIndex()
	if err != nil {
		return indexNames{}, err
	}
	e := indexNames{byName: make(map[string]digest.Digest, len(idx.Manifests)), digests: make(map[digest.Digest]bool, len(idx.Manifests))}
	for _, m := range idx.Manifests {
		e.digests[m.Digest] = true
		if n := entryName(m); n != "" {
			e.byName[n] = m.Digest
		}
	}
	c.file, c.entries = fi, e
	return e, nil
}
