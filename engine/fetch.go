package engine

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source/image"
)

// fetchable finds a name under which a registry has the image of a record: somebody
// else may have built and pushed it. It takes one request for each name.
func (j *job) fetchable(ctx context.Context, rec *memo.Record) (string, bool) {
	res, err := j.resolver()
	if err != nil || rec.Image == nil || res.Mode == image.Known {
		return "", false
	}
	for _, n := range slices.Concat(j.outputs.names, rec.Names) {
		if res.Has(ctx, n, rec.Image.Digest) {
			return n, true
		}
	}
	return "", false
}

// fetch copies an image from a registry into the engine's store, without giving it a
// name. Blobs that the store has are not fetched, and all are verified.
func (j *job) fetch(ctx context.Context, name string, desc ocispecs.Descriptor) error {
	res, err := j.resolver()
	if err != nil {
		return err
	}
	s, err := j.engine.Store()
	if err != nil {
		return err
	}
	fetcher := registryFetcher{resolver: res, name: name}
	cs := s.Content()
	handler := images.Handlers(remotes.FetchHandler(cs, fetcher), images.ChildrenHandler(cs))
	if err := images.Dispatch(ctx, handler, nil, desc); err != nil {
		return fmt.Errorf("fetching %s from %s: %w", desc.Digest, name, err)
	}
	return nil
}

// registryFetcher reads the contents of one repository.
type registryFetcher struct {
	resolver *image.Resolver
	name     string
}

var _ remotes.Fetcher = registryFetcher{}

// Fetch implements remotes.Fetcher.
func (f registryFetcher) Fetch(ctx context.Context, desc ocispecs.Descriptor) (io.ReadCloser, error) {
	return f.resolver.Open(ctx, f.name, desc)
}
