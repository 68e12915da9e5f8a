package engine

import (
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

var annotationPrefix = lazyregexp.New(`^([a-z,-]+(?:\[[A-Za-z0-9_/,-]+\])?(?:,[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?)*):(.+)$`)

// annotate adds the request's annotations as exporter attributes. A key may begin
// with the kinds of objects it is for: index,manifest[linux/amd64]:key.
func (j *job) annotate(t OutputType, attrs map[string]string) error {
	if t == OutputTar || t == OutputLocal {
		return nil
	}
	j.outputs.image = true
	for _, k := range slices.Sorted(maps.Keys(j.req.Annotations)) {
		kinds, key := []string{""}, k
		if m := annotationPrefix().FindStringSubmatch(k); m != nil {
			kinds, key = strings.Split(m[1], ","), m[2]
		}
		for _, kind := range kinds {
			ak := exptypes.AnnotationKey{Key: key}
			if name, p, ok := strings.Cut(kind, "["); ok {
				parsed, err := platforms.Parse(strings.TrimSuffix(p, "]"))
				if err != nil {
					return inputErrorf("annotation %q: %w", k, err)
				}
				kind, ak.Platform = name, &parsed
			}
			switch kind {
			case "", exptypes.AnnotationIndex, exptypes.AnnotationIndexDescriptor, exptypes.AnnotationManifest, exptypes.AnnotationManifestDescriptor:
			default:
				return inputErrorf("annotation %q: %q is none of index, index-descriptor, manifest and manifest-descriptor", k, kind)
			}
			if ak.Platform != nil && kind != exptypes.AnnotationManifest && kind != exptypes.AnnotationManifestDescriptor {
				return inputErrorf("annotation %q: only manifests have a platform", k)
			}
			p, err := j.annotated(k, ak.Platform)
			if err != nil {
				return err
			}
			ak.Type, ak.Platform = kind, p
			attrs[ak.String()] = j.req.Annotations[k]
		}
	}
	return nil
}

// annotated is the platform of the annotation k in the form that BuildKit's
// exporters compare, nil where it is the only one: for that they know no platform.
func (j *job) annotated(k string, p *ocispecs.Platform) (*ocispecs.Platform, error) {
	if p == nil {
		return nil, nil
	}
	list, n := strings.Split(j.attrs["platform"], ","), platforms.Normalize(*p)
	if !slices.Contains(list, platforms.FormatAll(n)) {
		return nil, inputErrorf("annotation %q is for %s, which is not asked for: add it to the platforms", k, platforms.FormatAll(n))
	}
	if len(list) == 1 {
		return nil, nil
	}
	return &n, nil
}
