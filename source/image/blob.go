package image

import (
	"bytes"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// readVerified reads a blob of the size and digest that its descriptor says.
func readVerified(blob v1.Layer, desc ocispecs.Descriptor) ([]byte, error) {
	rc, err := blob.Compressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, desc.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != desc.Size || digest.FromBytes(b) != desc.Digest {
		return nil, fmt.Errorf("the registry gave other bytes for %s than it names", desc.Digest)
	}
	return b, nil
}

// Open reads a manifest or a blob of the repository that a name is in. What comes is
// verified against the digest where it ends.
func (r *Resolver) Open(ctx context.Context, ref string, desc ocispecs.Descriptor) (io.ReadCloser, error) {
	e, err := r.home(ref)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, err)
	}
	at := e.repo.Digest(desc.Digest.String())
	if t := types.MediaType(desc.MediaType); t.IsIndex() || t.IsImage() {
		m, err := remote.Get(at, r.options(ctx, e)...)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", ref, classify(err))
		}
		return io.NopCloser(bytes.NewReader(m.Manifest)), nil
	}
	layer, err := remote.Layer(at, r.options(ctx, e)...)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, classify(err))
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, classify(err))
	}
	return rc, nil
}
