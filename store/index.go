package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// annotationName is what containerd, Docker and BuildKit look at first.
	annotationName = "io.containerd.image.name"

	maxIndexBytes = 64 << 20 // some 150,000 names
)

func emptyIndex() *ocispecs.Index {
	return &ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageIndex,
		Manifests: []ocispecs.Descriptor{},
	}
}

// entryName is the reference an index entry goes by; "" for an unnamed one.
// Other tools write only the second annotation, sometimes a bare tag: such a name
// is shown and found as it stands.
func entryName(d ocispecs.Descriptor) string {
	return cmp.Or(d.Annotations[annotationName], d.Annotations[ocispecs.AnnotationRefName])
}

// named is d as the index entry for a name; "" gives an unnamed entry.
func named(d ocispecs.Descriptor, name string) ocispecs.Descriptor {
	annotations := map[string]string{}
	for k, v := range d.Annotations {
		annotations[k] = v
	}
	delete(annotations, annotationName)
	delete(annotations, ocispecs.AnnotationRefName)
	if name != "" {
		annotations[annotationName] = name
		annotations[ocispecs.AnnotationRefName] = name
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	d.Annotations = annotations
	d.Data, d.URLs = nil, nil
	return d
}

// decodeIndex reads an index.json and accepts nothing that GC or a look-up could
// misread: cut-off files, other JSON, descriptors without a valid digest.
func decodeIndex(b []byte) (*ocispecs.Index, error) {
	idx := &ocispecs.Index{}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(idx); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the file is cut off")
		}
		return nil, plainJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the index")
	}
	if idx.SchemaVersion != 2 {
		return nil, fmt.Errorf("schemaVersion is %d, not 2", idx.SchemaVersion)
	}
	if idx.Manifests == nil && !bytes.Contains(b, []byte(`"manifests"`)) { // null is an empty list
		return nil, errors.New("there is no list of manifests")
	}
	for i, d := range idx.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifests[%d]: %w", i, err)
		}
	}
	return idx, nil
}

func checkDescriptor(d ocispecs.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("size of %s is %d", d.Digest, d.Size)
	}
	if d.MediaType == "" {
		return fmt.Errorf("%s has no media type", d.Digest)
	}
	return nil
}

// readIndex needs no lock: the file is only ever replaced as a whole.
func (s *Store) readIndex() (*ocispecs.Index, error) {
	path := s.path(ocispecs.ImageIndexFile)
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the image store's index: %w", err)
	}
	if fi.Size() > maxIndexBytes {
		return nil, fmt.Errorf("reading %s: the file has %d bytes, more than an index can have", path, fi.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the image store's index: %w", err)
	}
	idx, err := decodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w: restore the file, or remove the store directory and build again", path, err)
	}
	return idx, nil
}

// writeIndex replaces index.json; the caller holds the index lock. Entries are
// sorted so that the same names and images give the same file.
func (s *Store) writeIndex(idx *ocispecs.Index) error {
	slices.SortStableFunc(idx.Manifests, func(a, b ocispecs.Descriptor) int {
		return cmp.Or(cmp.Compare(entryName(a), entryName(b)), cmp.Compare(a.Digest, b.Digest))
	})
	if idx.MediaType == "" {
		idx.MediaType = ocispecs.MediaTypeImageIndex
	}
	b, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	if len(b) > maxIndexBytes {
		return errors.New("the store holds too many names: remove some images")
	}
	return s.replaceFile(ocispecs.ImageIndexFile, b)
}

// updateIndex gives change the current index and writes it back if change says
// so. Updates of all processes queue up on the index lock, so none is lost.
func (s *Store) updateIndex(ctx context.Context, change func(*ocispecs.Index) (bool, error)) error {
	unlock, err := lockFile(ctx, s.private("index.lock"), false)
	if err != nil {
		return err
	}
	defer unlock()
	idx, err := s.readIndex()
	if err != nil {
		return err
	}
	changed, err := change(idx)
	if err != nil || !changed {
		return err
	}
	if err := s.writeIndex(idx); err != nil {
		return fmt.Errorf("writing the image store's index: %w", err)
	}
	return nil
}

// setEntry makes name stand for d and reports whether that changed anything.
// Annotations of an entry that already stands for the same image are left alone:
// BuildKit stamps each export with the time, which is no reason to write.
func setEntry(idx *ocispecs.Index, d ocispecs.Descriptor, name string) bool {
	same := func(e ocispecs.Descriptor) bool { return e.Digest == d.Digest && e.MediaType == d.MediaType }
	kept := idx.Manifests[:0:0]
	found, others := false, false
	for _, e := range idx.Manifests {
		switch {
		case entryName(e) == name && name != "" && same(e) && !found:
			found = true
			kept = append(kept, e)
		case entryName(e) == name && name != "":
			others = true // the image the name stood for before
		case entryName(e) == "" && same(e) && name != "":
			others = true // no longer unnamed
		case same(e) && name == "":
			found = true // named or not, it is kept
			kept = append(kept, e)
		default:
			kept = append(kept, e)
		}
	}
	if !found {
		kept = append(kept, named(d, name))
	}
	idx.Manifests = kept
	return !found || others
}
