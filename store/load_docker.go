package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// loadDocker makes OCI manifests of an archive that has none: config and layers
// are taken as they are, so the image ID stays what it was.
func (a *archive) loadDocker(ctx context.Context) ([]Loaded, error) {
	var images []dockerImage
	if err := decodeJSON(dockerManifestFile, a.json[dockerManifestFile], &images); err != nil {
		return nil, err
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("the archive's %s lists no images", dockerManifestFile)
	}
	var list []Loaded
	for _, img := range images {
		names, err := normalNames(img.RepoTags)
		if err != nil {
			return nil, err
		}
		desc, err := a.dockerManifest(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", img.title(), err)
		}
		list = append(list, Loaded{Names: names, Descriptor: desc})
	}
	for _, l := range list {
		if err := a.commitBelow(ctx, l.Descriptor); err != nil {
			return nil, err
		}
	}
	for _, l := range list {
		if err := a.store.Import(ctx, l.Descriptor, l.Names...); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d dockerImage) title() string {
	if len(d.RepoTags) > 0 {
		return d.RepoTags[0]
	}
	return d.Config
}

// dockerManifest checks one image and spools the manifest it gets.
func (a *archive) dockerManifest(ctx context.Context, img dockerImage) (ocispecs.Descriptor, error) {
	config, err := a.file(img.Config)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	a.blobs[config.digest] = config
	m := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Config:    ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageConfig, Digest: config.digest, Size: config.size},
		Layers:    []ocispecs.Descriptor{},
	}
	raw, err := a.bytes(m.Config, maxConfigBytes)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	var parsed ocispecs.Image
	if err := decodeJSON(img.Config, raw, &parsed); err != nil {
		return ocispecs.Descriptor{}, err
	}
	if n := len(parsed.RootFS.DiffIDs); n != len(img.Layers) {
		return ocispecs.Descriptor{}, fmt.Errorf("it has %d layers, its config lists %d", len(img.Layers), n)
	}
	for i, name := range img.Layers {
		d, err := a.dockerLayer(ctx, name, parsed.RootFS.DiffIDs[i])
		if err != nil {
			return ocispecs.Descriptor{}, err
		}
		m.Layers = append(m.Layers, d)
	}
	return a.spoolManifest(m)
}

func (a *archive) spoolManifest(m ocispecs.Manifest) (ocispecs.Descriptor, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	if len(b) > maxManifestBytes {
		return ocispecs.Descriptor{}, errors.New("it has more layers than a manifest can hold")
	}
	a.count++
	p := filepath.Join(a.dir, strconv.Itoa(a.count))
	if err := os.WriteFile(p, b, 0o644); err != nil {
		return ocispecs.Descriptor{}, err
	}
	d := digest.FromBytes(b)
	if a.blobs[d] == nil {
		a.blobs[d] = &spooled{path: p, digest: d, size: int64(len(b))}
	}
	return ocispecs.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(b))}, nil
}

// file follows links, which Docker writes for layers that occur twice.
func (a *archive) file(name string) (*spooled, error) {
	clean := path.Clean(name)
	for range 16 {
		if f := a.files[clean]; f != nil {
			return f, nil
		}
		target, ok := a.links[clean]
		if !ok {
			return nil, fmt.Errorf("%s is not in the archive", name)
		}
		clean = target
	}
	return nil, fmt.Errorf("%s is a link without end", name)
}

// dockerLayer compares a layer with the digest of its unpacked form and finds out
// how it is packed: Docker writes plain tars, other tools compressed ones.
func (a *archive) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (ocispecs.Descriptor, error) {
	if err := checkDigest(diffID); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("diff ID of %s: %w", name, err)
	}
	f, err := a.file(name)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	d := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: f.digest, Size: f.size}
	if f.digest != diffID {
		compression, unpacked, err := a.unpackedDigest(ctx, f, diffID.Algorithm())
		if err != nil {
			return d, fmt.Errorf("unpacking %s: %w", name, err)
		}
		if unpacked != diffID {
			return d, fmt.Errorf("%s is damaged: its layer has diff ID %s, the config says %s", name, unpacked, diffID)
		}
		switch compression {
		case "gzip":
			d.MediaType = ocispecs.MediaTypeImageLayerGzip
		case "zstd":
			d.MediaType = ocispecs.MediaTypeImageLayerZstd
		}
	}
	a.blobs[f.digest] = f
	return d, nil
}

func (a *archive) unpackedDigest(ctx context.Context, f *spooled, alg digest.Algorithm) (string, digest.Digest, error) {
	p := f.path
	if p == "" {
		p = a.store.blobPath(f.digest)
	}
	file, err := os.Open(p)
	if err != nil {
		return "", "", err
	}
	defer file.Close()
	r, compression, err := decompressor(contextReader{ctx, file})
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	digester := alg.Digester()
	if _, err := io.Copy(digester.Hash(), &boundedReader{r: r, left: a.max, max: a.max}); err != nil {
		return "", "", err
	}
	return compression, digester.Digest(), nil
}
