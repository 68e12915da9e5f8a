package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Import makes names stand for an image whose blobs are in the store: what is
// left to do after BuildKit's export, whose response holds the descriptor. Names
// are normalised, and taken from other images that have them. Without any, the
// image is kept under its digest until an unnamed image is removed (see
// GCPolicy.Untagged).
//
// Every blob that the image needs must be there with its size; else the error
// wraps a [BlobError] and nothing changes. On return the names and all blobs are
// durable. An import that changes nothing writes nothing.
func (s *Store) Import(ctx context.Context, desc ocispecs.Descriptor, names ...string) error {
	normal, err := normalNames(names)
	if err != nil {
		return err
	}
	if err := s.importNormal(ctx, desc, normal); err != nil {
		return fmt.Errorf("importing image %s: %w", importName(desc, normal), err)
	}
	return nil
}

func importName(desc ocispecs.Descriptor, names []string) string {
	if len(names) > 0 {
		return familiar(names[0])
	}
	return desc.Digest.String()
}

func (s *Store) importNormal(ctx context.Context, desc ocispecs.Descriptor, names []string) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	if !isIndex(desc.MediaType) && !isManifest(desc.MediaType) {
		return fmt.Errorf("media type %s is neither a manifest's nor an index's", desc.MediaType)
	}
	unlock, err := s.lockBlobs(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	algorithms := map[digest.Algorithm]bool{}
	err = s.walk(ctx, desc, func(d ocispecs.Descriptor, raw []byte) error {
		algorithms[d.Digest.Algorithm()] = true
		return s.present(d, raw)
	})
	if err != nil {
		return err
	}
	return s.updateIndex(ctx, func(idx *ocispecs.Index) (bool, error) {
		changed := false
		if len(names) == 0 {
			changed = setEntry(idx, desc, "")
		}
		for _, name := range names {
			changed = setEntry(idx, desc, name) || changed
		}
		if !changed {
			return false, nil
		}
		// Blobs were renamed into place by several writers, perhaps other processes:
		// their names must be on disk before the index mentions them.
		for alg := range algorithms {
			if err := syncDir(s.path(ocispecs.ImageBlobsDir, alg.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
		}
		return true, nil
	})
}

// Tag gives the image that src resolves to another name, taking it from the image
// that had it.
func (s *Store) Tag(ctx context.Context, src, dst string) error {
	name, err := NormalName(dst)
	if err != nil {
		return err
	}
	// Source and target are looked at under one lock: as long as src is there,
	// GC has no claim on its blobs.
	return s.updateIndex(ctx, func(idx *ocispecs.Index) (bool, error) {
		desc, err := s.resolve(ctx, idx, src)
		if err != nil {
			return false, err
		}
		if err := s.complete(ctx, desc); err != nil {
			return false, fmt.Errorf("tagging image %s: %w", src, err)
		}
		return setEntry(idx, desc, name), nil
	})
}

// Removed tells what Remove took out of the index.
type Removed struct {
	Name   string // "" for an unnamed image
	Digest digest.Digest
	// Last reports that nothing stands for the image any more: GC will take what
	// no other image shares.
	Last bool
}

// Remove takes a name away from its image, or an image out of the store by digest
// or its first digits; the latter is refused while several names stand for it.
// Blobs stay until GC.
func (s *Store) Remove(ctx context.Context, ref string) (Removed, error) {
	var removed Removed
	err := s.updateIndex(ctx, func(idx *ocispecs.Index) (bool, error) {
		i, err := s.findEntry(ctx, idx, ref)
		if err != nil {
			return false, err
		}
		d := idx.Manifests[i]
		idx.Manifests = slices.Delete(idx.Manifests, i, i+1)
		removed = Removed{Name: entryName(d), Digest: d.Digest, Last: true}
		for _, e := range idx.Manifests {
			if e.Digest == d.Digest {
				removed.Last = false
			}
		}
		return true, nil
	})
	if err != nil {
		return Removed{}, fmt.Errorf("removing: %w", err)
	}
	return removed, nil
}

// findEntry finds the one entry that ref means.
func (s *Store) findEntry(ctx context.Context, idx *ocispecs.Index, ref string) (int, error) {
	desc, err := s.resolve(ctx, idx, ref)
	if err != nil {
		return 0, err
	}
	q, err := parseQuery(ref)
	if err != nil {
		return 0, err
	}
	var fits []int
	var names []string
	for i, e := range idx.Manifests {
		if e.Digest != desc.Digest {
			continue
		}
		if q.matchesName(entryName(e)) && (q.digest == "" || q.digest == e.Digest) {
			return i, nil
		}
		fits = append(fits, i)
		names = append(names, familiar(entryName(e)))
	}
	switch len(fits) {
	case 0:
		return 0, fmt.Errorf("image %s is part of another image: remove that one", ref)
	case 1:
		return fits[0], nil
	}
	return 0, fmt.Errorf("image %s has several names: remove %s", ref, strings.Join(names, ", "))
}

// has reports whether a blob file exists; for counting, not for relying on it.
func (s *Store) has(d digest.Digest) bool {
	_, err := os.Stat(s.blobPath(d))
	return err == nil
}
