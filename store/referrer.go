package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// A referrer is a manifest that names another one as its subject, to say something
// about it: provenance, a list of contents. The index has it as an unnamed entry
// with its artifact type, as layouts of other tools do. It goes where its subject
// goes: Push and Save take it along, and GC drops it once nothing stands for the
// subject any more. Images does not list it.

// Referrers are the manifests of the store that have the manifest or index with the
// digest as their subject, sorted by digest. Artifact types and annotations are
// those that a registry tells.
func (s *Store) Referrers(_ context.Context, subject digest.Digest) ([]ocispecs.Descriptor, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return s.referrersOf(idx, subject), nil
}

func (s *Store) referrersOf(idx *ocispecs.Index, subject digest.Digest) []ocispecs.Descriptor {
	var list []ocispecs.Descriptor
	for _, d := range idx.Manifests {
		if of, ok := s.subject(d); ok && of == subject {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b ocispecs.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return list
}

// subject tells what an entry of the index is a referrer of. A named entry is none:
// somebody wants it for itself. Images have no artifact type, which saves reading
// their manifests.
func (s *Store) subject(d ocispecs.Descriptor) (digest.Digest, bool) {
	if entryName(d) != "" || d.ArtifactType == "" || !isManifest(d.MediaType) {
		return "", false
	}
	m, err := s.referrer(d)
	if err != nil {
		return "", false
	}
	return m.Subject.Digest, true
}

// referrer reads the manifest of a referrer.
func (s *Store) referrer(d ocispecs.Descriptor) (ocispecs.Manifest, error) {
	var m ocispecs.Manifest
	raw, err := s.readBlob(d, maxManifestBytes)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: fmt.Errorf("%w: %w", ErrDamaged, plainJSON(err))}
	}
	if m.Subject == nil {
		return m, errors.New("it has no subject")
	}
	return m, checkDescriptor(*m.Subject)
}

// Attach makes a manifest whose blobs are in the store a referrer of the subject that
// it names, and reports whether it was none before. The subject has to be in the
// store; otherwise what is said of Import holds.
func (s *Store) Attach(ctx context.Context, desc ocispecs.Descriptor) (bool, error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("attaching manifest %s: %w", desc.Digest, err)
	}
	m, err := s.referrer(desc)
	if err != nil {
		return fail(err)
	}
	if !s.has(m.Subject.Digest) {
		return fail(&BlobError{Digest: m.Subject.Digest, MediaType: m.Subject.MediaType, Err: ErrMissing})
	}
	there, err := s.Referrers(ctx, m.Subject.Digest)
	if err != nil {
		return fail(err)
	}
	if slices.ContainsFunc(there, func(d ocispecs.Descriptor) bool { return d.Digest == desc.Digest }) {
		return false, nil
	}
	desc.ArtifactType, desc.Annotations = cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations
	return true, s.Import(ctx, desc)
}

// markReferrers marks the referrers of what is marked, those of referrers included,
// and gives the others.
func (s *Store) markReferrers(ctx context.Context, list []referring, marked map[digest.Digest]bool) ([]ocispecs.Descriptor, error) {
	for more := true; more; {
		more = false
		for i, r := range list {
			if _, live := marked[r.subject]; !live || r.kept {
				continue
			}
			list[i].kept, more = true, true
			if err := s.mark(ctx, r.desc, marked); err != nil {
				return nil, err
			}
		}
	}
	var lost []ocispecs.Descriptor
	for _, r := range list {
		if !r.kept {
			lost = append(lost, r.desc)
		}
	}
	return lost, nil
}

// referring is an entry of the index that is a referrer.
type referring struct {
	desc    ocispecs.Descriptor
	subject digest.Digest
	kept    bool
}

// dropReferrers takes referrers out of the index.
func (s *Store) dropReferrers(ctx context.Context, lost []ocispecs.Descriptor) error {
	if len(lost) == 0 {
		return nil
	}
	return s.updateIndex(ctx, func(idx *ocispecs.Index) (bool, error) {
		before := len(idx.Manifests)
		idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ocispecs.Descriptor) bool {
			return entryName(d) == "" && slices.ContainsFunc(lost, func(l ocispecs.Descriptor) bool { return l.Digest == d.Digest })
		})
		return len(idx.Manifests) < before, nil
	})
}
