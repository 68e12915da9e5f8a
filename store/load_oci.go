package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxIndexDepth bounds indexes within indexes, of which real ones have one.
const maxIndexDepth = 8

func (a *archive) loadOCI(ctx context.Context) ([]Loaded, error) {
	idx, err := decodeIndex(a.json[ocispecs.ImageIndexFile])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", ocispecs.ImageIndexFile, err)
	}
	if len(idx.Manifests) == 0 {
		return nil, errors.New("the archive's index lists no images")
	}
	var list []Loaded
	byDigest := map[digest.Digest]int{}
	for _, entry := range idx.Manifests {
		names, err := archiveNames(entry)
		if err != nil {
			return nil, err
		}
		if i, ok := byDigest[entry.Digest]; ok {
			list[i].Names = append(list[i].Names, names...)
			continue
		}
		desc, dropped, err := a.whole(entry, 0)
		if err != nil {
			return nil, err
		}
		byDigest[entry.Digest] = len(list)
		list = append(list, Loaded{Names: names, Descriptor: named(desc, ""), Dropped: dropped})
	}
	// All images are known to be whole now; from here on only the disk can fail.
	for _, l := range list {
		if err := a.commitBelow(ctx, l.Descriptor); err != nil {
			return nil, err
		}
	}
	for _, l := range list {
		if err := a.store.Import(ctx, l.Descriptor, l.Names...); err != nil {
			return nil, err
		}
	}
	// Referrers come along with their images and are none.
	return slices.DeleteFunc(list, func(l Loaded) bool {
		_, ok := a.store.subject(l.Descriptor)
		return ok && len(l.Names) == 0
	}), nil
}

// archiveNames: containerd's annotation is a full name; OCI's is one only if it
// says more than a tag.
func archiveNames(d ocispecs.Descriptor) ([]string, error) {
	name := d.Annotations[annotationName]
	if ref := d.Annotations[ocispecs.AnnotationRefName]; name == "" && strings.ContainsAny(ref, "/:") {
		name = ref
	}
	if name == "" {
		return nil, nil
	}
	return normalNames([]string{name})
}

// whole checks that everything below desc is in the archive or the store. An index
// that lists more platforms than there are is cut down to those that are whole.
func (a *archive) whole(desc ocispecs.Descriptor, depth int) (ocispecs.Descriptor, []ocispecs.Descriptor, error) {
	if depth > maxIndexDepth {
		return desc, nil, fmt.Errorf("index %s lies %d indexes deep", desc.Digest, depth)
	}
	if !isIndex(desc.MediaType) && !isManifest(desc.MediaType) {
		if depth == 0 {
			return desc, nil, fmt.Errorf("%s is no image: its media type is %s", desc.Digest, desc.MediaType)
		}
		return desc, nil, a.present(desc)
	}
	raw, err := a.bytes(desc, maxManifestBytes)
	if err != nil {
		return desc, nil, err
	}
	list, err := children(desc.MediaType, raw)
	if err != nil {
		return desc, nil, &BlobError{Digest: desc.Digest, MediaType: desc.MediaType, Err: fmt.Errorf("is not what its media type says: %w", err)}
	}
	if isManifest(desc.MediaType) {
		for _, d := range list {
			if err := a.present(d); err != nil {
				return desc, nil, err
			}
		}
		return desc, nil, nil
	}
	var kept, dropped []ocispecs.Descriptor
	var missing error
	for _, d := range list {
		child, below, err := a.whole(d, depth+1)
		dropped = append(dropped, below...)
		switch {
		case errors.Is(err, ErrMissing):
			dropped, missing = append(dropped, d), err
		case err != nil:
			return desc, nil, err
		default:
			kept = append(kept, child)
		}
	}
	if missing == nil && len(dropped) == 0 {
		return desc, nil, nil
	}
	kept = withoutOrphans(kept)
	if len(kept) == 0 {
		return desc, nil, fmt.Errorf("no platform of index %s is whole: %w", desc.Digest, missing)
	}
	cut, err := a.cutIndex(desc, raw, kept)
	return cut, dropped, err
}

// withoutOrphans drops attestations of images that were dropped.
func withoutOrphans(list []ocispecs.Descriptor) []ocispecs.Descriptor {
	there := map[string]bool{}
	for _, d := range list {
		there[d.Digest.String()] = !isAttestation(d)
	}
	var kept []ocispecs.Descriptor
	for _, d := range list {
		if !isAttestation(d) || there[d.Annotations["vnd.docker.reference.digest"]] {
			kept = append(kept, d)
		}
	}
	return kept
}

// cutIndex is the index with some of its manifests only; one alone needs none.
func (a *archive) cutIndex(desc ocispecs.Descriptor, raw []byte, kept []ocispecs.Descriptor) (ocispecs.Descriptor, error) {
	if len(kept) == 1 {
		return kept[0], nil
	}
	var idx ocispecs.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return desc, err
	}
	idx.Manifests = kept
	b, err := json.Marshal(idx)
	if err != nil {
		return desc, err
	}
	a.count++
	p := filepath.Join(a.dir, strconv.Itoa(a.count))
	if err := os.WriteFile(p, b, 0o644); err != nil {
		return desc, err
	}
	d := digest.FromBytes(b)
	a.blobs[d] = &spooled{path: p, digest: d, size: int64(len(b))}
	desc.Digest, desc.Size = d, int64(len(b))
	return desc, nil
}

// present is Store.present for what is still in the archive.
func (a *archive) present(d ocispecs.Descriptor) error {
	f := a.blobs[d.Digest]
	if f == nil {
		return a.store.present(d, nil)
	}
	if f.size != d.Size {
		return &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, f.size, d.Size)}
	}
	return nil
}

// commitBelow puts everything below desc into the store.
func (a *archive) commitBelow(ctx context.Context, desc ocispecs.Descriptor) error {
	return walk(ctx, desc, a.bytes, func(d ocispecs.Descriptor, _ []byte) error {
		if f := a.blobs[d.Digest]; f != nil {
			return a.commit(ctx, f)
		}
		// Not in the archive, so the store has it: keep it until Import.
		_, err := a.store.use(ctx, d.Digest, d.Size)
		return err
	})
}
