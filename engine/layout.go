package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/util/imageutil"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// readLayoutConfig reads the config of an image in a content store; ref has its
// digest.
func readLayoutConfig(ctx context.Context, cs content.Store, ref string, p ocispecs.Platform) (string, digest.Digest, []byte, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", nil, err
	}
	d, ok := named.(reference.Digested)
	if !ok {
		return "", "", nil, fmt.Errorf("image %s has no digest", ref)
	}
	info, err := cs.Info(ctx, d.Digest())
	if err != nil {
		return "", "", nil, err
	}
	root := ocispecs.Descriptor{Digest: d.Digest(), Size: info.Size}
	raw, err := content.ReadBlob(ctx, cs, root)
	if err != nil {
		return "", "", nil, err
	}
	if root.MediaType, err = imageutil.DetectManifestBlobMediaType(raw); err != nil {
		return "", "", nil, err
	}
	desc, err := images.Config(ctx, cs, root, platforms.Only(p))
	if err != nil {
		return "", "", nil, err
	}
	config, err := content.ReadBlob(ctx, cs, desc)
	return ref, d.Digest(), config, err
}
