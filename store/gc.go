package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultGrace is how long a blob that no image refers to is left alone: enough
// for a build between its export and its Import that holds no Lease.
const DefaultGrace = time.Hour

// GCPolicy says what may be deleted. The zero value takes away what nothing
// refers to and nobody has relied on for DefaultGrace.
type GCPolicy struct {
	// DryRun reports what would go and deletes nothing.
	DryRun bool
	// Grace keeps unreferenced blobs that were written or relied upon more recently
	// than this; 0 is DefaultGrace, negative is none. Blobs under a live Lease stay
	// in any case.
	Grace time.Duration
	// Untagged also removes images without a name.
	Untagged bool
	// Keep are further manifests to keep with all they refer to, those of a memo for
	// instance. What is not in the store is passed over.
	Keep []digest.Digest
}

// GCReport says what GC did, or with DryRun what it would have done.
type GCReport struct {
	Untagged  int   // images without a name removed
	Blobs     int   // blobs deleted
	Bytes     int64 // in them
	Kept      int   // blobs that images refer to
	KeptBytes int64
	// Young are blobs that nothing refers to but that a grace period or a lease
	// protects.
	Young      int
	YoungBytes int64
	Sessions   int // left-overs of killed processes removed
}

// GC deletes the blobs that no image refers to, see [GCPolicy]. Processes that
// write to the store wait meanwhile; readers do not. An index or manifest that
// cannot be read stops it before anything is deleted, because what that refers to
// is unknown.
func (s *Store) GC(ctx context.Context, p GCPolicy) (GCReport, error) {
	report, err := s.gc(ctx, p)
	if err != nil {
		return report, fmt.Errorf("collecting garbage: %w", err)
	}
	return report, nil
}

func (s *Store) gc(ctx context.Context, p GCPolicy) (GCReport, error) {
	var report GCReport
	unlock, err := s.lockBlobs(ctx, false)
	if err != nil {
		return report, err
	}
	defer unlock()
	removed, oldestLease := s.sweepSessions()
	report.Sessions = removed

	roots, referrers, err := s.roots(ctx, p, &report)
	if err != nil {
		return report, err
	}
	marked := map[digest.Digest]bool{}
	for _, root := range roots {
		if err := s.mark(ctx, root, marked); err != nil {
			return report, err
		}
	}
	lost, err := s.markReferrers(ctx, referrers, marked)
	if err == nil && !p.DryRun {
		err = s.dropReferrers(ctx, lost)
	}
	if err != nil {
		return report, err
	}
	err = s.sweep(ctx, cutoff(p.Grace, oldestLease), marked, p.DryRun, &report)
	if err == nil && !p.DryRun {
		s.sweepSizes()
	}
	return report, err
}

// cutoff is the time of last use from which on a blob is safe.
func cutoff(grace time.Duration, oldestLease time.Time) time.Time {
	if grace == 0 {
		grace = DefaultGrace
	}
	// A moment ahead: file times come from a coarser clock than time.Now.
	t := time.Now().Add(-max(grace, 0))
	if grace < 0 {
		t = t.Add(time.Second)
	}
	if !oldestLease.IsZero() {
		// A blob in use under the lease may bear a time up to recentlyUsed before it.
		if l := oldestLease.Add(-recentlyUsed - time.Second); l.Before(t) {
			t = l
		}
	}
	return t
}

// roots are the index's entries, minus the unnamed if they are to go. Referrers are
// no roots, but what is kept for the sake of their subjects.
func (s *Store) roots(ctx context.Context, p GCPolicy, report *GCReport) ([]ocispecs.Descriptor, []referring, error) {
	var roots []ocispecs.Descriptor
	var referrers []referring
	err := s.updateIndex(ctx, func(idx *ocispecs.Index) (bool, error) {
		var kept []ocispecs.Descriptor
		for _, d := range idx.Manifests {
			if subject, ok := s.subject(d); ok {
				referrers = append(referrers, referring{desc: d, subject: subject})
				kept = append(kept, d)
				continue
			}
			if p.Untagged && entryName(d) == "" {
				report.Untagged++
				continue
			}
			roots = append(roots, d)
			kept = append(kept, d)
		}
		if p.DryRun || report.Untagged == 0 {
			return false, nil
		}
		idx.Manifests = kept
		return true, nil
	})
	for _, d := range p.Keep {
		if d.Validate() == nil && s.has(d) {
			roots = append(roots, ocispecs.Descriptor{Digest: d})
		}
	}
	return roots, referrers, err
}

// mark adds everything below root to marked; true says that the blob was read for
// what it refers to (the same bytes may be a layer here and a manifest there). A manifest that is missing has nothing below
// it; one that is there but unreadable is an error.
func (s *Store) mark(ctx context.Context, root ocispecs.Descriptor, marked map[digest.Digest]bool) error {
	for stack := []ocispecs.Descriptor{root}; len(stack) > 0; {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		leaf := isLeaf(d.MediaType)
		if read, ok := marked[d.Digest]; read || ok && leaf {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		marked[d.Digest] = !leaf
		if leaf {
			continue
		}
		list, err := s.below(d)
		if err != nil {
			return fmt.Errorf("%w: remove the image it belongs to, %s, and collect again", err, rootName(root))
		}
		stack = append(stack, list...)
	}
	return nil
}

func rootName(root ocispecs.Descriptor) string {
	if name := entryName(root); name != "" {
		return familiar(name)
	}
	return root.Digest.String()
}

// isLeaf reports known configs and layers: they refer to nothing.
func isLeaf(mediaType string) bool {
	kind := blobKind(mediaType)
	return kind == "config" || kind == "layer"
}

// below reads what a blob refers to. Whatever is small enough may be a manifest
// of a kind not known here.
func (s *Store) below(d ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	known := isIndex(d.MediaType) || isManifest(d.MediaType)
	if !known {
		fi, err := os.Stat(s.blobPath(d.Digest))
		if err != nil || fi.Size() > maxManifestBytes {
			return nil, nil
		}
		d.Size = fi.Size()
	}
	raw, err := s.readBlob(d, maxManifestBytes)
	switch {
	case errors.Is(err, ErrMissing):
		return nil, nil
	case err != nil && !known && errors.Is(err, ErrDamaged):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return anyChildren(raw), nil
}

// sweep deletes what is neither in marked nor used since the cutoff.
func (s *Store) sweep(ctx context.Context, cutoff time.Time, marked map[digest.Digest]bool, dryRun bool, report *GCReport) error {
	return s.eachBlob(ctx, func(info content.Info) error {
		_, keep := marked[info.Digest]
		switch {
		case keep:
			report.Kept++
			report.KeptBytes += info.Size
			return nil
		case !info.UpdatedAt.Before(cutoff):
			report.Young++
			report.YoungBytes += info.Size
			return nil
		}
		if !dryRun {
			if err := os.Remove(s.blobPath(info.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		report.Blobs++
		report.Bytes += info.Size
		return nil
	})
}

// sweepSizes forgets the sizes of layers that are gone.
func (s *Store) sweepSizes() {
	entries, err := os.ReadDir(s.private(sizesDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.Canonical, e.Name())
		if d.Validate() != nil || !s.has(d) {
			os.Remove(filepath.Join(s.private(sizesDir), e.Name()))
		}
	}
}
