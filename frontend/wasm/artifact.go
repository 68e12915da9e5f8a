package wasm

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of the artifact: the layout of CNCF's TAG Runtime, and artifact types that tell
// modules from components.
const (
	ConfigMediaType       = "application/vnd.wasm.config.v0+json"
	LayerMediaType        = "application/wasm"
	ModuleArtifactType    = "application/vnd.wasm.module.v1+wasm"
	ComponentArtifactType = "application/vnd.wasm.component.v1+wasm"
)

// Config is the config of an artifact.
type Config struct {
	// Created is always there: readers in use ask for it.
	Created      time.Time        `json:"created"`
	Architecture string           `json:"architecture"` // wasm
	OS           string           `json:"os"`           // wasip1 or wasip2
	LayerDigests []digest.Digest  `json:"layerDigests"`
	Component    *ComponentConfig `json:"component,omitempty"`
}

// ComponentConfig says what a component of an artifact needs and gives.
type ComponentConfig struct {
	Exports []string `json:"exports"`
	Imports []string `json:"imports"`
	// Target is the world that it was built for.
	Target string `json:"target,omitempty"`
}

// PackOptions are what an artifact says beside its content.
type PackOptions struct {
	// Name is the title of the artifact; its layer is called NAME.wasm.
	Name string
	// World is the world that a component was built for, "" if there is none.
	World string
	// Created is the time of creation; the zero value is 1970, so that equal content is equal.
	Created time.Time
	// Annotations are those of the manifest.
	Annotations map[string]string
}

// Artifact is an OCI artifact of one manifest, one config and one layer.
type Artifact struct {
	// Descriptor is that of the manifest.
	Descriptor ocispecs.Descriptor
	Manifest   []byte
	Config     []byte
	Layer      []byte
	// Content are the descriptors of config and layer.
	Content ocispecs.Manifest
}

// Pack makes an artifact of a binary. Equal binaries and options give equal bytes.
func Pack(data []byte, info *Info, o PackOptions) (*Artifact, error) {
	a := &Artifact{Layer: data}
	layer := ocispecs.Descriptor{MediaType: LayerMediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if o.Created.IsZero() {
		o.Created = time.Unix(0, 0)
	}
	c := Config{Created: o.Created.UTC(), Architecture: "wasm", OS: "wasip1", LayerDigests: []digest.Digest{layer.Digest}}
	artifactType := ModuleArtifactType
	if info.Kind == Component {
		artifactType = ComponentArtifactType
		c.OS = "wasip2"
		c.Component = &ComponentConfig{Exports: names(info.Exports), Imports: names(info.Imports), Target: o.World}
	}
	var err error
	if a.Config, err = json.Marshal(c); err != nil {
		return nil, fmt.Errorf("encoding the config of the artifact: %w", err)
	}
	annotations := maps.Clone(o.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	if o.Name != "" {
		layer.Annotations = map[string]string{ocispecs.AnnotationTitle: strings.TrimSuffix(o.Name, ".wasm") + ".wasm"}
		if _, ok := annotations[ocispecs.AnnotationTitle]; !ok {
			annotations[ocispecs.AnnotationTitle] = o.Name
		}
	}
	a.Content = ocispecs.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispecs.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       ocispecs.Descriptor{MediaType: ConfigMediaType, Digest: digest.FromBytes(a.Config), Size: int64(len(a.Config))},
		Layers:       []ocispecs.Descriptor{layer},
		Annotations:  annotations,
	}
	if a.Manifest, err = json.MarshalIndent(a.Content, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding the manifest of the artifact: %w", err)
	}
	a.Descriptor = ocispecs.Descriptor{
		MediaType: ocispecs.MediaTypeImageManifest, Digest: digest.FromBytes(a.Manifest), Size: int64(len(a.Manifest)),
		ArtifactType: artifactType,
	}
	return a, nil
}

func names(list []Extern) []string {
	out := make([]string, 0, len(list))
	for _, e := range list {
		out = append(out, e.Name)
	}
	return out
}

// Layer finds the WebAssembly layer of a manifest, as our artifacts and those of other tools have
// it. An error says why it is none.
func Layer(m ocispecs.Manifest) (ocispecs.Descriptor, error) {
	var found []ocispecs.Descriptor
	for _, l := range m.Layers {
		if l.MediaType == LayerMediaType || strings.HasPrefix(l.MediaType, "application/vnd.wasm.content.layer.") ||
			strings.HasSuffix(l.MediaType, "+wasm") {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		return ocispecs.Descriptor{}, fmt.Errorf("it has %d layers of WebAssembly, and one is needed", len(found))
	}
	return found[0], nil
}
