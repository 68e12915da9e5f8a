package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/ociindex"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

// setNamedContexts turns named contexts into what the frontend takes: directories
// become local sources, OCI layouts content stores of the session; images, git
// and http sources are the daemon's to fetch.
func (j *job) setNamedContexts() error {
	for _, k := range slices.Sorted(maps.Keys(j.req.BuildContexts)) {
		v := j.req.BuildContexts[k]
		if _, err := reference.ParseNormalizedNamed(k); err != nil {
			return inputErrorf("build context name %q: %w", k, err)
		}
		name := normalName(k)
		value, err := j.namedContext(name, v)
		if err != nil {
			return err
		}
		j.attrs["context:"+name] = value
	}
	return nil
}

// normalName is the form of a context's name that the frontend looks for.
func normalName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// normalName is the function of that name, asked once in a call for each name.
func (r *run) normalName(name string) string {
	if n, ok := r.names.Load(name); ok {
		return n.(string)
	}
	n := normalName(name)
	r.names.Store(name, n)
	return n
}

func (j *job) namedContext(name, value string) (string, error) {
	if ref, ok := strings.CutPrefix(value, "docker-image://"); ok {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			return "", inputErrorf("build context %s: image %q: %w", name, ref, err)
		}
		return value, nil
	}
	if value == "" {
		return "", inputErrorf("build context %s: no source is given: name a directory, a URL, docker-image://REF or oci-layout://DIR", name)
	}
	if layout, ok := strings.CutPrefix(value, "oci-layout://"); ok {
		return j.ociLayout(name, layout)
	}
	if isRemote(value) {
		return value, nil
	}
	dir, err := j.run.paths.existingDir("build context "+name+":", value)
	if err != nil {
		return "", err
	}
	var several *zimage.SeveralError
	if _, err := findBuildFile(dir); err == nil || errors.As(err, &several) {
		j.buildDirs[name] = dir // where that is to be built, it is told that one cannot choose
	}
	if err := checkIgnoreFile(filepath.Join(dir, ".dockerignore")); err != nil {
		return "", err
	}
	local := name
	if local == "context" || local == "dockerfile" {
		local = "_" + local
	}
	j.mount(local, dir)
	return "local:" + local, nil
}

// ociLayout gives the session an OCI layout directory to serve to the daemon.
// spec is dir[:tag][@digest].
func (j *job) ociLayout(name, spec string) (string, error) {
	path, dgst, pinned := strings.Cut(spec, "@")
	tag := ""
	if i := strings.LastIndex(path, ":"); i > strings.LastIndex(path, "/") {
		path, tag = path[:i], path[i+1:]
	}
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if !isFile(filepath.Join(dir, "index.json")) {
		return "", inputErrorf("build context %s: %s is not an OCI layout: it has no index.json", name, path)
	}
	if pinned {
		if _, err := digest.Parse(dgst); err != nil {
			return "", inputErrorf("build context %s: digest %q: %w", name, dgst, err)
		}
	} else {
		desc, err := layoutImage(dir, tag)
		if err != nil {
			return "", inputErrorf("build context %s: reading %s: %w", name, path, err)
		}
		if desc == nil {
			return "", inputErrorf("build context %s: no image is tagged %q in %s: add :tag or @digest", name, cmp.Or(tag, defaultTag), path)
		}
		dgst = desc.Digest.String()
	}
	cs, err := contentlocal.NewStore(dir)
	if err != nil {
		return "", inputErrorf("build context %s: opening %s: %w", name, path, err)
	}
	if _, err := cs.Info(context.Background(), digest.Digest(dgst)); err != nil {
		return "", inputErrorf("build context %s: %s does not have %s", name, path, dgst)
	}
	sum := sha256.Sum256([]byte(dir))
	id := "layout-" + hex.EncodeToString(sum[:8])
	j.layouts[id] = cs
	return fmt.Sprintf("oci-layout://%s:%s@%s", id, cmp.Or(tag, defaultTag), dgst), nil
}

// defaultTag is the tag of a reference without one.
const defaultTag = "latest"

// layoutImage finds an image in an OCI layout, nil if there is none of that tag.
// Without a tag it is the default one or, tagged or not, the only image there is.
func layoutImage(dir, tag string) (*ocispecs.Descriptor, error) {
	index := ociindex.NewStoreIndex(dir)
	desc, err := index.Get(cmp.Or(tag, defaultTag))
	if desc != nil || err != nil || tag != "" {
		return desc, err
	}
	all, err := index.Read()
	if err != nil || len(all.Manifests) != 1 {
		return nil, err
	}
	return &all.Manifests[0], nil
}
