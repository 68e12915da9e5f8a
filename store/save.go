package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Format is a kind of image archive.
type Format string

const (
	// FormatOCI is a tar of an OCI image layout: whole indexes with attestations.
	FormatOCI Format = "oci"
	// FormatDocker is what `docker load` and `podman load` read, old and new ones:
	// an OCI layout with a manifest.json beside it, one platform an image.
	FormatDocker Format = "docker"
)

// SaveOptions say how Save writes.
type SaveOptions struct {
	Format Format // FormatOCI if empty
	// Platform picks one image from each index. If nil, FormatOCI writes whole
	// indexes, and FormatDocker takes the host's platform or the only one there is.
	Platform *ocispecs.Platform
}

// Save writes images to w as one tar: the same images in the same order give the
// same bytes. Blobs shared by several images are written once and verified on
// the way; an error leaves w with a cut-off archive. Images go by the names they
// were asked for with; one asked for by digest goes without a name.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, o SaveOptions) error {
	if o.Format == "" {
		o.Format = FormatOCI
	}
	if o.Format != FormatOCI && o.Format != FormatDocker {
		return fmt.Errorf("saving images: format %q is unknown: use %s or %s", o.Format, FormatOCI, FormatDocker)
	}
	if len(refs) == 0 {
		return errors.New("saving images: none named")
	}
	var list []saved
	for _, ref := range refs {
		img, err := s.toSave(ctx, ref, o)
		if err != nil {
			return fmt.Errorf("saving image %s: %w", ref, err)
		}
		list = append(list, img)
	}
	return s.writeArchive(ctx, w, list, o.Format)
}

func (s *Store) writeArchive(ctx context.Context, w io.Writer, list []saved, format Format) error {
	if format != FormatDocker { // which knows images only
		var err error
		if list, err = s.withReferrers(list); err != nil {
			return fmt.Errorf("saving images: %w", err)
		}
	}
	tw := tar.NewWriter(w)
	err := s.save(ctx, tw, list, format)
	if err == nil {
		err = tw.Close()
	}
	if err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	return nil
}

// withReferrers adds to images what refers to them.
func (s *Store) withReferrers(list []saved) ([]saved, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	for i := 0; i < len(list); i++ { // which grows
		d := list[i].desc.Digest
		if seen[d] {
			continue
		}
		seen[d] = true
		for _, r := range s.referrersOf(idx, d) {
			list = append(list, saved{desc: r})
		}
	}
	return list, nil
}

// saved is one image on its way into an archive.
type saved struct {
	name string // normalised, "" if none
	desc ocispecs.Descriptor
}

func (s *Store) toSave(ctx context.Context, ref string, o SaveOptions) (saved, error) {
	desc, err := s.Resolve(ctx, ref)
	if err != nil {
		return saved{}, err
	}
	img := saved{}
	if q, err := parseQuery(ref); err == nil && q.matchesName(entryName(desc)) {
		img.name = entryName(desc)
	}
	switch {
	case o.Platform != nil:
		desc, err = s.selectPlatform(ctx, desc, o.Platform)
	case o.Format == FormatDocker:
		desc, err = s.dockerPlatform(ctx, desc)
	}
	if err != nil {
		return saved{}, err
	}
	img.desc = named(desc, "")
	return img, s.complete(ctx, desc)
}

func (s *Store) dockerPlatform(ctx context.Context, desc ocispecs.Descriptor) (ocispecs.Descriptor, error) {
	if isManifest(desc.MediaType) {
		return desc, nil
	}
	host := platforms.DefaultSpec()
	if d, err := s.selectPlatform(ctx, desc, &host); err == nil {
		return d, nil
	}
	return s.selectPlatform(ctx, desc, nil)
}

func (s *Store) save(ctx context.Context, tw *tar.Writer, list []saved, format Format) error {
	if err := saveJSON(tw, ocispecs.ImageLayoutFile, ocispecs.ImageLayout{Version: ocispecs.ImageLayoutVersion}); err != nil {
		return err
	}
	idx := emptyIndex()
	for _, img := range list {
		d := named(img.desc, "")
		if img.name != "" {
			// As BuildKit and Docker write archives: the tag alone is the OCI name.
			_, tag := splitTag(img.name)
			d.Annotations = withAnnotations(d.Annotations, annotationName, img.name)
			d.Annotations = withAnnotations(d.Annotations, ocispecs.AnnotationRefName, tag)
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	if err := saveJSON(tw, ocispecs.ImageIndexFile, idx); err != nil {
		return err
	}
	if format == FormatDocker {
		m, err := s.dockerManifest(list)
		if err != nil {
			return err
		}
		if err := saveJSON(tw, dockerManifestFile, m); err != nil {
			return err
		}
	}
	return s.saveBlobs(ctx, tw, list)
}

// saveBlobs writes what is below the images, each blob once.
func (s *Store) saveBlobs(ctx context.Context, tw *tar.Writer, list []saved) error {
	done := map[digest.Digest]bool{}
	for _, img := range list {
		err := s.walk(ctx, img.desc, func(d ocispecs.Descriptor, _ []byte) error {
			if done[d.Digest] || isForeign(d) && !s.has(d.Digest) {
				return nil
			}
			done[d.Digest] = true
			return s.saveBlob(ctx, tw, d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func withAnnotations(m map[string]string, key, value string) map[string]string {
	if value == "" {
		return m
	}
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

func archivePath(d digest.Digest) string {
	return ocispecs.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// tarHeader has no time, owner or other trait of this machine.
func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}

func saveJSON(tw *tar.Writer, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(tarHeader(name, int64(len(b)))); err != nil {
		return err
	}
	_, err = tw.Write(b)
	return err
}

func (s *Store) saveBlob(ctx context.Context, tw *tar.Writer, d ocispecs.Descriptor) error {
	r, err := s.openVerified(d)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := tw.WriteHeader(tarHeader(archivePath(d.Digest), d.Size)); err != nil {
		return err
	}
	_, err = io.Copy(tw, contextReader{ctx, r})
	return err
}

const dockerManifestFile = "manifest.json"

// dockerImage is one element of Docker's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerManifest has one element an image; names of one image share it.
func (s *Store) dockerManifest(list []saved) ([]dockerImage, error) {
	var images []dockerImage
	byDigest := map[digest.Digest]int{}
	for _, img := range list {
		i, ok := byDigest[img.desc.Digest]
		if !ok {
			var m ocispecs.Manifest
			if err := s.readJSON(img.desc, maxManifestBytes, &m); err != nil {
				return nil, err
			}
			if !isImageConfig(m.Config.MediaType) {
				return nil, fmt.Errorf("%s is no container image (its config is %s): save it as %s", img.desc.Digest, m.Config.MediaType, FormatOCI)
			}
			e := dockerImage{Config: archivePath(m.Config.Digest), Layers: []string{}}
			for _, l := range m.Layers {
				e.Layers = append(e.Layers, archivePath(l.Digest))
			}
			i = len(images)
			byDigest[img.desc.Digest] = i
			images = append(images, e)
		}
		if img.name != "" && !slices.Contains(images[i].RepoTags, img.name) {
			images[i].RepoTags = append(images[i].RepoTags, img.name)
		}
	}
	return images, nil
}
