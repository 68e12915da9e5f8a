package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// go-containerregistry's own reader of layouts (pkg/v1/layout) looks an image up
// in index.json again when it is opened, by when another process may have moved
// the tag, and it takes blobs as they lie on disk. These types start from a
// descriptor and verify what they read.

// Image is the image that ref resolves to. Of an index it is the image for the
// platform, which may be nil if the index has only one image. All its readers
// verify: damaged bytes give a [BlobError], at the latest where they end.
func (s *Store) Image(ctx context.Context, ref string, platform *ocispecs.Platform) (v1.Image, error) {
	desc, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if desc, err = s.selectPlatform(ctx, desc, platform); err != nil {
		return nil, fmt.Errorf("opening image %s: %w", ref, err)
	}
	img, err := s.image(desc, nil)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", ref, err)
	}
	return img, nil
}

// Index is the index that ref resolves to; an image without one is an error.
func (s *Store) Index(ctx context.Context, ref string) (v1.ImageIndex, error) {
	desc, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !isIndex(desc.MediaType) {
		return nil, fmt.Errorf("opening index %s: it is a single image (%s)", ref, desc.MediaType)
	}
	idx, err := s.index(desc, nil)
	if err != nil {
		return nil, fmt.Errorf("opening index %s: %w", ref, err)
	}
	return idx, nil
}

// mounts says from which repository of the target registry a layer can be had.
type mounts map[v1.Hash]name.Reference

func (s *Store) image(desc ocispecs.Descriptor, m mounts) (v1.Image, error) {
	if !isManifest(desc.MediaType) {
		return nil, fmt.Errorf("%s is no image: its media type is %s", desc.Digest, desc.MediaType)
	}
	raw, err := s.readBlob(desc, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	core := &imageCore{store: s, mediaType: desc.MediaType, raw: raw}
	if err := json.Unmarshal(raw, &core.manifest); err != nil {
		return nil, &BlobError{Digest: desc.Digest, MediaType: desc.MediaType, Err: fmt.Errorf("%w: %w", ErrDamaged, err)}
	}
	img, err := partial.CompressedToImage(core)
	if err != nil || len(m) == 0 {
		return img, err
	}
	return mountable{Image: img, mounts: m}, nil
}

// imageCore is what partial.CompressedToImage makes a v1.Image of.
type imageCore struct {
	store     *Store
	mediaType string
	raw       []byte
	manifest  ocispecs.Manifest
}

var _ partial.CompressedImageCore = (*imageCore)(nil)

func (c *imageCore) MediaType() (types.MediaType, error) { return types.MediaType(c.mediaType), nil }
func (c *imageCore) RawManifest() ([]byte, error)        { return c.raw, nil }

func (c *imageCore) RawConfigFile() ([]byte, error) {
	return c.store.readBlob(c.manifest.Config, maxConfigBytes)
}

func (c *imageCore) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]ocispecs.Descriptor{c.manifest.Config}, c.manifest.Layers...) {
		if d.Digest.String() == h.String() {
			return layer{store: c.store, desc: d}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

type layer struct {
	store *Store
	desc  ocispecs.Descriptor
}

func (l layer) Digest() (v1.Hash, error)            { return v1.NewHash(l.desc.Digest.String()) }
func (l layer) Size() (int64, error)                { return l.desc.Size, nil }
func (l layer) MediaType() (types.MediaType, error) { return types.MediaType(l.desc.MediaType), nil }
func (l layer) Compressed() (io.ReadCloser, error)  { return l.store.openVerified(l.desc) }
func (l layer) Descriptor() (*v1.Descriptor, error) { return v1Descriptor(l.desc) }
func (l layer) Exists() (bool, error)               { return l.store.has(l.desc.Digest), nil }

func v1Descriptor(d ocispecs.Descriptor) (*v1.Descriptor, error) {
	h, err := v1.NewHash(d.Digest.String())
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{
		MediaType: types.MediaType(d.MediaType), Size: d.Size, Digest: h,
		URLs: d.URLs, Annotations: d.Annotations, ArtifactType: d.ArtifactType,
	}, nil
}

// mountable lets a push ask the registry for layers it has in other repositories.
type mountable struct {
	v1.Image
	mounts mounts
}

func (m mountable) Layers() ([]v1.Layer, error) {
	layers, err := m.Image.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if ref, ok := m.mounts[h]; ok {
			layers[i] = &remote.MountableLayer{Layer: l, Reference: ref}
		}
	}
	return layers, nil
}

func (s *Store) index(desc ocispecs.Descriptor, m mounts) (v1.ImageIndex, error) {
	raw, err := s.readBlob(desc, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	idx := &index{store: s, desc: desc, raw: raw, mounts: m}
	if err := json.Unmarshal(raw, &idx.oci); err != nil {
		return nil, &BlobError{Digest: desc.Digest, MediaType: desc.MediaType, Err: fmt.Errorf("%w: %w", ErrDamaged, err)}
	}
	return idx, nil
}

type index struct {
	store  *Store
	desc   ocispecs.Descriptor
	raw    []byte
	oci    ocispecs.Index
	mounts mounts
}

var _ v1.ImageIndex = (*index)(nil)

func (x *index) MediaType() (types.MediaType, error) { return types.MediaType(x.desc.MediaType), nil }
func (x *index) Digest() (v1.Hash, error)            { return v1.NewHash(x.desc.Digest.String()) }
func (x *index) Size() (int64, error)                { return int64(len(x.raw)), nil }
func (x *index) RawManifest() ([]byte, error)        { return x.raw, nil }

func (x *index) IndexManifest() (*v1.IndexManifest, error) {
	m := &v1.IndexManifest{}
	return m, json.Unmarshal(x.raw, m)
}

func (x *index) child(h v1.Hash) (ocispecs.Descriptor, error) {
	for _, d := range x.oci.Manifests {
		if d.Digest.String() == h.String() {
			return d, checkDescriptor(d)
		}
	}
	return ocispecs.Descriptor{}, fmt.Errorf("the index has no manifest %s", h)
}

func (x *index) Image(h v1.Hash) (v1.Image, error) {
	d, err := x.child(h)
	if err != nil {
		return nil, err
	}
	return x.store.image(d, x.mounts)
}

func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	d, err := x.child(h)
	if err != nil {
		return nil, err
	}
	return x.store.index(d, x.mounts)
}

// Layer serves members that are neither image nor index: pushed as they are.
func (x *index) Layer(h v1.Hash) (v1.Layer, error) {
	d, err := x.child(h)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToLayer(layer{store: x.store, desc: d})
}

// openVerified opens a blob for reading from the beginning; where it ends, its
// size and digest have been compared.
func (s *Store) openVerified(d ocispecs.Descriptor) (io.ReadCloser, error) {
	if err := checkDigest(d.Digest); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrMissing
	}
	if err != nil {
		return nil, &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: err}
	}
	return &verifier{file: f, desc: d, hash: d.Digest.Algorithm().Hash()}, nil
}

type verifier struct {
	file *os.File
	desc ocispecs.Descriptor
	hash hash.Hash
	n    int64
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if v.n > v.desc.Size {
		return n, v.damaged(fmt.Errorf("%w: it is longer than %d bytes", ErrDamaged, v.desc.Size))
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.n != v.desc.Size {
		return n, v.damaged(fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, v.n, v.desc.Size))
	}
	if got := fmt.Sprintf("%x", v.hash.Sum(nil)); got != v.desc.Digest.Encoded() {
		return n, v.damaged(fmt.Errorf("%w: its bytes have digest %s:%s", ErrDamaged, v.desc.Digest.Algorithm(), got))
	}
	return n, io.EOF
}

func (v *verifier) damaged(err error) error {
	return &BlobError{Digest: v.desc.Digest, MediaType: v.desc.MediaType, Err: err}
}

func (v *verifier) Close() error { return v.file.Close() }

// selectPlatform goes down from an index to the manifest for a platform.
func (s *Store) selectPlatform(ctx context.Context, desc ocispecs.Descriptor, platform *ocispecs.Platform) (ocispecs.Descriptor, error) {
	if isManifest(desc.MediaType) && platform == nil {
		return desc, nil
	}
	list, err := s.platformManifests(ctx, desc)
	if err != nil {
		return desc, err
	}
	if platform == nil {
		if len(list) == 1 {
			return list[0], nil
		}
		return desc, fmt.Errorf("it has %d platforms (%s): choose one", len(list), formatPlatforms(list))
	}
	matcher := platforms.Only(*platform)
	var best *ocispecs.Descriptor
	for i, d := range list {
		if d.Platform == nil || !matcher.Match(*d.Platform) {
			continue
		}
		if best == nil || matcher.Less(*d.Platform, *best.Platform) {
			best = &list[i]
		}
	}
	if best == nil {
		return desc, fmt.Errorf("it has no image for %s, only for %s", platforms.FormatAll(*platform), formatPlatforms(list))
	}
	return *best, nil
}

// platformManifests are the images below desc, with their platform filled in
// from the config where the index does not say it; attestations left out.
func (s *Store) platformManifests(ctx context.Context, desc ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	var list []ocispecs.Descriptor
	err := s.walk(ctx, desc, func(d ocispecs.Descriptor, raw []byte) error {
		if !isManifest(d.MediaType) || isAttestation(d) {
			return nil
		}
		if d.Platform == nil {
			p, err := s.configPlatform(raw)
			if err != nil {
				return err
			}
			d.Platform = p
		}
		list = append(list, d)
		return nil
	})
	return list, err
}

// configPlatform is nil for an artifact, whose config is no image's.
func (s *Store) configPlatform(manifest []byte) (*ocispecs.Platform, error) {
	var m ocispecs.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	if !isImageConfig(m.Config.MediaType) {
		return nil, nil
	}
	var config ocispecs.Image
	if err := s.readJSON(m.Config, maxConfigBytes, &config); err != nil {
		return nil, err
	}
	if config.OS == "" {
		return nil, nil
	}
	p := platforms.Normalize(config.Platform)
	return &p, nil
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispecs.MediaTypeImageConfig || mediaType == string(types.DockerConfigJSON)
}
