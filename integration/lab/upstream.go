package lab

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// copyUpstream copies an image of the machine's platform from the upstream registry. Its layers go
// through the cache, so that the next process does not pull them again.
func (l *Lab) copyUpstream(ctx context.Context, repo string) error {
	if l.config.Upstream == "" {
		return unavailable(nil, "the lab has no recipe for it; name a registry that has it in ZLAYER_TEST_REGISTRY")
	}
	unlock := l.lock(repo)
	defer unlock()
	if l.isDone(repo) {
		return nil
	}
	ref, err := name.ParseReference(l.config.Upstream + "/" + repo)
	if err != nil {
		return fmt.Errorf("copying from %s: %w", l.config.Upstream, err)
	}
	l.config.Logf("copying %s", ref)
	platform := hostPlatform()
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(platform), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return unavailable(err, "%s does not have it", l.config.Upstream)
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("reading %s: %w", ref, err)
	}
	for _, layer := range layers {
		if err := l.cacheUpstream(layer); err != nil {
			return fmt.Errorf("copying %s: %w", ref, err)
		}
	}
	if err := l.push(ctx, upstreamName(repo), product{image: img}); err != nil {
		return fmt.Errorf("copying %s: %w", ref, err)
	}
	l.setDone(repo)
	return nil
}

// upstreamName is a name that repository turns back into repo.
func upstreamName(repo string) string { return "docker.io/" + repo }

// cacheUpstream brings a layer's blob into the cache and serves it from there.
func (l *Lab) cacheUpstream(layer v1.Layer) error {
	h, err := layer.Digest()
	if err != nil {
		return err
	}
	size, err := layer.Size()
	if err != nil {
		return err
	}
	path := l.layers.blobPath(h)
	if !fileHasSize(path, size) {
		if err := l.download(layer, path, h); err != nil {
			return err
		}
	}
	l.blobs.link(h, path, size)
	return nil
}

func (l *Lab) download(layer v1.Layer, path string, h v1.Hash) error {
	rc, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = writeVerified(path, h, rc)
	return err
}
