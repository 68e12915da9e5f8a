package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspection is all that the store knows about one image. Its JSON form is what
// `zlayer inspect` prints.
type Inspection struct {
	Names      []string              `json:"names"` // all that stand for the digest, normalised
	Descriptor ocispecs.Descriptor   `json:"descriptor"`
	Size       int64                 `json:"size"`     // all different blobs, as stored
	Unpacked   int64                 `json:"unpacked"` // all different layers, unpacked
	Index      *ocispecs.Index       `json:"index,omitempty"`
	Images     []ImageDetails        `json:"images"`                  // one a platform, in the index's order
	Others     []OtherManifest       `json:"others,omitempty"`        // attestations, artifacts, and what refers to the image
	Foreign    []ocispecs.Descriptor `json:"foreignLayers,omitempty"` // by design not in the store
}

// ImageDetails describes one platform's image.
type ImageDetails struct {
	Descriptor ocispecs.Descriptor       `json:"descriptor"`
	Platform   ocispecs.Platform         `json:"platform"`
	Created    *time.Time                `json:"created,omitempty"`
	Manifest   ocispecs.Manifest         `json:"manifest"`
	Config     dockerspec.DockerOCIImage `json:"config"` // OCI's config with Docker's additions (health check, shell, ...)
	History    []HistoryEntry            `json:"history,omitempty"`
	Layers     []LayerDetails            `json:"layers"`
}

// HistoryEntry is one build step of an image, and what it left.
type HistoryEntry struct {
	Created   *time.Time    `json:"created,omitempty"`
	CreatedBy string        `json:"createdBy,omitempty"`
	Comment   string        `json:"comment,omitempty"`
	Layer     digest.Digest `json:"layer,omitempty"` // empty for a step that changed only the config
	Size      int64         `json:"size"`            // of that layer, as stored
}

// LayerDetails describes one layer, lowest first.
type LayerDetails struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Unpacked  int64         `json:"unpacked"`         // -1 for a foreign layer that is not here
	DiffID    digest.Digest `json:"diffID,omitempty"` // digest of the unpacked layer
}

// OtherManifest describes a manifest that is not an image.
type OtherManifest struct {
	Descriptor ocispecs.Descriptor `json:"descriptor"`
	Manifest   ocispecs.Manifest   `json:"manifest"`
	// For is the manifest that an attestation or a referrer tells about.
	For digest.Digest `json:"for,omitempty"`
	// Predicates are the kinds of statement an attestation holds ("https://slsa.dev/...").
	Predicates []string `json:"predicates,omitempty"`
}

// Inspect reads everything about an image but the layers' files; layers are read
// through once in their life for their unpacked size. What is damaged or missing
// is an error that wraps a [BlobError].
func (s *Store) Inspect(ctx context.Context, ref string) (*Inspection, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	root, err := s.resolve(ctx, idx, ref)
	if err != nil {
		return nil, err
	}
	in := &Inspection{Descriptor: named(root, ""), Names: []string{}, Images: []ImageDetails{}}
	for _, e := range idx.Manifests {
		if e.Digest == root.Digest && entryName(e) != "" {
			in.Names = append(in.Names, entryName(e))
		}
	}
	slices.Sort(in.Names)
	err = s.inspect(ctx, root, in)
	for _, d := range s.referrersOf(idx, root.Digest) {
		if err == nil {
			err = s.inspectReferrer(d, in)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("inspecting image %s: %w", ref, err)
	}
	return in, nil
}

func (s *Store) inspect(ctx context.Context, root ocispecs.Descriptor, in *Inspection) error {
	if isIndex(root.MediaType) {
		in.Index = &ocispecs.Index{}
		if err := s.readJSON(root, maxManifestBytes, in.Index); err != nil {
			return err
		}
	}
	return s.walk(ctx, root, func(d ocispecs.Descriptor, raw []byte) error {
		if isForeign(d) && !s.has(d.Digest) {
			in.Foreign = append(in.Foreign, d)
			return nil
		}
		if err := s.present(d, raw); err != nil {
			return err
		}
		in.Size += d.Size
		if images.IsLayerType(d.MediaType) {
			n, err := s.unpackedSize(ctx, d)
			in.Unpacked += n
			return err
		}
		if isManifest(d.MediaType) {
			return s.inspectManifest(ctx, d, raw, in)
		}
		return nil
	})
}

func (s *Store) inspectManifest(ctx context.Context, d ocispecs.Descriptor, raw []byte, in *Inspection) error {
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if isAttestation(d) || !isImageConfig(m.Config.MediaType) {
		in.Others = append(in.Others, otherManifest(d, m))
		return nil
	}
	details := ImageDetails{Descriptor: d, Manifest: m, Layers: []LayerDetails{}}
	if err := s.readJSON(m.Config, maxConfigBytes, &details.Config); err != nil {
		return err
	}
	details.Created, details.Platform = details.Config.Created, details.Config.Platform
	if d.Platform != nil {
		details.Platform = *d.Platform
	}
	for i, l := range m.Layers {
		ld := LayerDetails{Digest: l.Digest, MediaType: l.MediaType, Size: l.Size}
		if i < len(details.Config.RootFS.DiffIDs) {
			ld.DiffID = details.Config.RootFS.DiffIDs[i]
		}
		var err error
		if ld.Unpacked, err = s.unpackedSize(ctx, l); err != nil {
			if !isForeign(l) || !errors.Is(err, ErrMissing) {
				return err
			}
			ld.Unpacked = -1
		}
		details.Layers = append(details.Layers, ld)
	}
	details.History = history(details.Config.History, details.Layers)
	in.Images = append(in.Images, details)
	return nil
}

func (s *Store) inspectReferrer(d ocispecs.Descriptor, in *Inspection) error {
	m, err := s.referrer(d)
	if err != nil {
		return err
	}
	in.Others = append(in.Others, otherManifest(d, m))
	return nil
}

func otherManifest(d ocispecs.Descriptor, m ocispecs.Manifest) OtherManifest {
	other := OtherManifest{Descriptor: d, Manifest: m, For: digest.Digest(d.Annotations["vnd.docker.reference.digest"])}
	if m.Subject != nil {
		other.For = m.Subject.Digest
	}
	for _, l := range m.Layers {
		if p := l.Annotations["in-toto.io/predicate-type"]; p != "" {
			other.Predicates = append(other.Predicates, p)
		}
	}
	return other
}

// history gives each step its layer: the steps that are not marked empty have one
// each, in order. Images with too few or no such steps show what there is.
func history(steps []ocispecs.History, layers []LayerDetails) []HistoryEntry {
	var list []HistoryEntry
	for _, h := range steps {
		e := HistoryEntry{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && len(layers) > 0 {
			e.Layer, e.Size = layers[0].Digest, layers[0].Size
			layers = layers[1:]
		}
		list = append(list, e)
	}
	return list
}
