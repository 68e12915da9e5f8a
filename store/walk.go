package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// What can be wrong with a blob, for errors.Is. The error itself is a *BlobError.
var (
	ErrMissing = errors.New("is missing")
	ErrDamaged = errors.New("is damaged")
)

// BlobError says which blob of an image is not what the image says it is.
type BlobError struct {
	Digest    digest.Digest
	MediaType string
	Err       error // wraps ErrMissing or ErrDamaged, or is what reading gave
}

func (e *BlobError) Error() string {
	return fmt.Sprintf("%s %s %v", blobKind(e.MediaType), e.Digest, e.Err)
}

func (e *BlobError) Unwrap() error { return e.Err }

func blobKind(mediaType string) string {
	switch {
	case isIndex(mediaType):
		return "index"
	case isManifest(mediaType):
		return "manifest"
	case images.IsKnownConfig(mediaType):
		return "config"
	case images.IsLayerType(mediaType):
		return "layer"
	}
	return "blob"
}

func isIndex(mediaType string) bool {
	return mediaType == ocispecs.MediaTypeImageIndex || mediaType == images.MediaTypeDockerSchema2ManifestList
}

func isManifest(mediaType string) bool {
	return mediaType == ocispecs.MediaTypeImageManifest || mediaType == images.MediaTypeDockerSchema2Manifest
}

// isForeign reports a layer that is fetched from somewhere else by design: it may
// be absent from a store, an archive and a registry.
func isForeign(d ocispecs.Descriptor) bool {
	return images.IsNonDistributable(d.MediaType) || strings.Contains(d.MediaType, ".foreign.") || len(d.URLs) > 0
}

// isAttestation reports a manifest that BuildKit added to tell about another one.
func isAttestation(d ocispecs.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

// maxManifestBytes is what registries accept for a manifest.
const maxManifestBytes = 4 << 20

// maxConfigBytes bounds configs, which no registry does.
const maxConfigBytes = 32 << 20

// children are the blobs that a manifest or index names; nothing else names any.
func children(mediaType string, raw []byte) ([]ocispecs.Descriptor, error) {
	var list []ocispecs.Descriptor
	switch {
	case isIndex(mediaType):
		var idx ocispecs.Index
		if err := json.Unmarshal(raw, &idx); err != nil {
			return nil, plainJSON(err)
		}
		list = idx.Manifests
	case isManifest(mediaType):
		var m ocispecs.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, plainJSON(err)
		}
		list = append([]ocispecs.Descriptor{m.Config}, m.Layers...)
	default:
		return nil, nil
	}
	for _, d := range list {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// anyChildren is children for media types this package does not know: whatever
// has the fields of a manifest keeps its blobs from GC.
func anyChildren(raw []byte) []ocispecs.Descriptor {
	var m struct {
		Manifests, Layers, Blobs []ocispecs.Descriptor
		Config                   ocispecs.Descriptor
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	var list []ocispecs.Descriptor
	for _, d := range append(append(append(m.Manifests, m.Config), m.Layers...), m.Blobs...) {
		if d.Digest.Validate() == nil {
			list = append(list, d)
		}
	}
	return list
}

// readBlob reads a small blob whole and compares it with its descriptor.
func (s *Store) readBlob(d ocispecs.Descriptor, limit int64) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: err}
	}
	if err := checkDigest(d.Digest); err != nil {
		return fail(err)
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return fail(ErrMissing)
	}
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	var buf bytes.Buffer
	if d.Size > 0 && d.Size <= limit {
		buf.Grow(int(d.Size) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return fail(err)
	}
	b := buf.Bytes()
	switch {
	case int64(len(b)) > limit:
		return fail(fmt.Errorf("%w: it is larger than %d bytes", ErrDamaged, limit))
	case d.Size > 0 && d.Size != int64(len(b)):
		return fail(fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, len(b), d.Size))
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return fail(fmt.Errorf("%w: its bytes have digest %s", ErrDamaged, got))
	}
	return b, nil
}

func (s *Store) readJSON(d ocispecs.Descriptor, limit int64, into any) error {
	b, err := s.readBlob(d, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: fmt.Errorf("is not what its media type says: %w", plainJSON(err))}
	}
	return nil
}

// plainJSON says in JSON's words what encoding/json says in Go's.
func plainJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	if wrong.Field == "" {
		return fmt.Errorf("it is a JSON %s", wrong.Value)
	}
	return fmt.Errorf("%q is a JSON %s", wrong.Field, wrong.Value)
}

// visitor is called with a blob, and its bytes if it is a manifest or index.
type visitor func(d ocispecs.Descriptor, raw []byte) error

// walk visits everything below and including root once, parents first. Manifests
// and indexes are read, and so verified; other blobs are the visitor's to check.
func (s *Store) walk(ctx context.Context, root ocispecs.Descriptor, visit visitor) error {
	return walk(ctx, root, s.readBlob, visit)
}

func walk(ctx context.Context, root ocispecs.Descriptor, read func(ocispecs.Descriptor, int64) ([]byte, error), visit visitor) error {
	seen := map[digest.Digest]bool{root.Digest: true}
	for stack := []ocispecs.Descriptor{root}; len(stack) > 0; {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !isIndex(d.MediaType) && !isManifest(d.MediaType) {
			if err := visit(d, nil); err != nil {
				return err
			}
			continue
		}
		raw, err := read(d, maxManifestBytes)
		if err != nil {
			return err
		}
		if err := visit(d, raw); err != nil {
			return err
		}
		list, err := children(d.MediaType, raw)
		if err != nil {
			return &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: fmt.Errorf("%w: %w", ErrDamaged, err)}
		}
		for i := len(list) - 1; i >= 0; i-- {
			if !seen[list[i].Digest] {
				seen[list[i].Digest] = true
				stack = append(stack, list[i])
			}
		}
	}
	return nil
}

// present checks that a blob's file is there with its size. It is a visitor: what
// was read already is there.
func (s *Store) present(d ocispecs.Descriptor, raw []byte) error {
	if raw != nil {
		return nil
	}
	fi, err := os.Stat(s.blobPath(d.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist) && isForeign(d):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = ErrMissing
	case err == nil && fi.Size() != d.Size:
		err = fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, fi.Size(), d.Size)
	case err == nil && !fi.Mode().IsRegular():
		err = fmt.Errorf("%w: it is no regular file", ErrDamaged)
	}
	if err != nil {
		return &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: err}
	}
	return nil
}

// complete checks that everything below root is there. The bytes of manifests are
// verified; those of configs and layers were when they were written.
func (s *Store) complete(ctx context.Context, root ocispecs.Descriptor) error {
	return s.walk(ctx, root, s.present)
}

// Verify reads every blob of an image and compares it with its digest. The error
// is the first [BlobError]. A damaged blob is mended by deleting it through
// [Store.Content] and building, loading or pulling the image again.
func (s *Store) Verify(ctx context.Context, ref string) error {
	root, err := s.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	err = s.walk(ctx, root, func(d ocispecs.Descriptor, raw []byte) error {
		if err := s.present(d, raw); err != nil || raw != nil {
			return err
		}
		r, err := s.openVerified(d)
		if errors.Is(err, ErrMissing) && isForeign(d) {
			return nil
		}
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, contextReader{ctx, r})
		return err
	})
	if err != nil {
		return fmt.Errorf("verifying image %s: %w", ref, err)
	}
	return nil
}

// contextReader stops a long copy when its caller gives up.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
