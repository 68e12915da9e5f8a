package image

import (
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
