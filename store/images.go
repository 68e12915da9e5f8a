package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Summary is one line of a list of images.
type Summary struct {
	Name      string        // normalised reference; "" for an unnamed image
	Digest    digest.Digest // of the manifest or index
	MediaType string
	// Platforms of the images, in the index's order ("linux/amd64"); attestations
	// and artifacts have none.
	Platforms []string
	Manifests int // images in the index; 1 for a single image
	// Size is the sum of all different blobs, as stored and as pushed.
	Size int64
	// Unpacked is the sum of all layers without compression, each counted once;
	// -1 unless it was asked for.
	Unpacked int64
	// Created is when the newest of the configs says so; zero if none does.
	Created time.Time
	// Err says what is wrong with the image; the fields above are then incomplete.
	Err error
}

// ListOptions say what Images works out.
type ListOptions struct {
	// Unpacked asks for the unpacked sizes. Each layer is read through once in its
	// life for it; then its size is remembered.
	Unpacked bool
}

// Images lists the images by name, unnamed ones first; referrers are left out. An
// image that cannot be read is listed with its error.
func (s *Store) Images(ctx context.Context, o ListOptions) ([]Summary, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, len(idx.Manifests))
	byDigest := map[digest.Digest]Summary{} // several names, one image
	for _, d := range idx.Manifests {
		if _, ok := s.subject(d); ok {
			continue
		}
		sum, ok := byDigest[d.Digest]
		if !ok {
			sum = s.summary(ctx, d, o)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("listing images: %w", context.Cause(ctx))
			}
			byDigest[d.Digest] = sum
		}
		sum.Name = entryName(d)
		list = append(list, sum)
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Store) summary(ctx context.Context, root ocispecs.Descriptor, o ListOptions) Summary {
	sum := Summary{Digest: root.Digest, MediaType: root.MediaType, Unpacked: -1}
	if o.Unpacked {
		sum.Unpacked = 0
	}
	sum.Err = s.walk(ctx, root, func(d ocispecs.Descriptor, raw []byte) error {
		sum.Size += d.Size
		if isManifest(d.MediaType) && !isAttestation(d) {
			return s.summarise(d, raw, &sum)
		}
		if err := s.present(d, raw); err != nil {
			return err
		}
		if o.Unpacked && images.IsLayerType(d.MediaType) {
			n, err := s.unpackedSize(ctx, d)
			if errors.Is(err, ErrMissing) && isForeign(d) {
				return nil
			}
			sum.Unpacked += n
			return err
		}
		return nil
	})
	return sum
}

// summarise adds what one image's config says.
func (s *Store) summarise(d ocispecs.Descriptor, raw []byte, sum *Summary) error {
	sum.Manifests++
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if !isImageConfig(m.Config.MediaType) {
		return nil
	}
	var config ocispecs.Image
	if err := s.readJSON(m.Config, maxConfigBytes, &config); err != nil {
		return err
	}
	if config.Created != nil && config.Created.After(sum.Created) {
		sum.Created = *config.Created
	}
	p := d.Platform
	if p == nil && config.OS != "" {
		p = &config.Platform
	}
	if p != nil {
		sum.Platforms = append(sum.Platforms, platforms.FormatAll(platforms.Normalize(*p)))
	}
	return nil
}

func formatPlatforms(list []ocispecs.Descriptor) string {
	var names []string
	for _, d := range list {
		if d.Platform != nil {
			names = append(names, platforms.FormatAll(platforms.Normalize(*d.Platform)))
		} else {
			names = append(names, "unknown")
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
