package lab

import (
	"context"
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// noteAnnotation says of a manifest what is special about it.
const noteAnnotation = "dev.zlayer.lab.note"

// imageSpec is what one image is made of.
type imageSpec struct {
	config  v1.Config
	layers  []*layer
	created []string // what history says of each layer, in their order
	meta    []string // what history says after the layers of steps that made none
}

// defaultPath is the PATH of the lab's images, as nearly every real image has it.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// cachedLayer makes a layer or finds it in the cache, and lets the registry serve it.
func (l *Lab) cachedLayer(ctx context.Context, name, key string, fill func(context.Context, *tree) error) (*layer, error) {
	made, err := l.layers.layer(ctx, name, key, fill)
	if err != nil {
		return nil, err
	}
	l.blobs.link(made.layerInfo.Digest, made.path, made.layerInfo.Size)
	return made, nil
}

// hostPlatform is the platform whose programs run here.
func hostPlatform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH, Variant: defaultVariant(runtime.GOARCH)}
}

func defaultVariant(arch string) string {
	if arch == "arm64" {
		return "v8"
	}
	return ""
}

// image makes a single image for a platform.
func (s imageSpec) image(p v1.Platform) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Variant = p.OS, p.Architecture, p.Variant
	cf.Created = v1.Time{Time: epoch}
	cf.Config = s.config
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, err
	}
	adds := make([]mutate.Addendum, 0, len(s.layers)+len(s.meta))
	for i, l := range s.layers {
		adds = append(adds, mutate.Addendum{Layer: l, History: history(s.created[i], false)})
	}
	for _, m := range s.meta {
		adds = append(adds, mutate.Addendum{History: history(m, true)})
	}
	if img, err = mutate.Append(img, adds...); err != nil {
		return nil, fmt.Errorf("assembling an image: %w", err)
	}
	if !sameArch(p, hostPlatform()) {
		note := "for tests of metadata: the programs inside are those of " + runtime.GOARCH
		img = mutate.Annotations(img, map[string]string{noteAnnotation: note}).(v1.Image)
	}
	return img, nil
}

func sameArch(a, b v1.Platform) bool { return a.OS == b.OS && a.Architecture == b.Architecture }

func history(by string, noLayer bool) v1.History {
	return v1.History{Created: v1.Time{Time: epoch}, CreatedBy: by, EmptyLayer: noLayer}
}

// multiPlatform makes an index of the image for the common platforms, the machine's own among them.
func (s imageSpec) multiPlatform() (product, error) {
	platforms := []v1.Platform{
		{OS: "linux", Architecture: "amd64"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
	}
	own := false
	for _, p := range platforms {
		own = own || sameArch(p, hostPlatform())
	}
	if !own {
		platforms = append(platforms, hostPlatform())
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		img, err := s.image(p)
		if err != nil {
			return product{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	return product{index: index}, nil
}

// hostOnly makes a single image for the machine's platform, without an index.
func (s imageSpec) hostOnly() (product, error) {
	img, err := s.image(hostPlatform())
	return product{image: img}, err
}
