package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// ErrNotFound is what errors.Is finds when no image answers to a reference.
var ErrNotFound = errors.New("no such image in the store")

// NormalName is the full form of an image name as the store keeps it:
// "app" is docker.io/library/app:latest. A name with a digest is refused, a name
// stands for whatever it was last given to.
func NormalName(name string) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", fmt.Errorf("image name %q has a digest: a name to give to an image ends in :tag", name)
	}
	return reference.TagNameOnly(named).String(), nil
}

func normalNames(names []string) ([]string, error) {
	var list []string
	for _, name := range names {
		normal, err := NormalName(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, normal) {
			list = append(list, normal)
		}
	}
	return list, nil
}

// digestPrefix is what can abbreviate a digest, as Docker has it: the hex digits,
// or the algorithm and at least one.
var digestPrefix = lazyregexp.New(`^(?:([a-z0-9]+):)?([0-9a-f]{1,128})$`)

// query is a reference as a user types it, taken apart.
type query struct {
	exact  string        // as typed, for names other tools wrote
	name   string        // normalised, "" if it cannot be a name
	digest digest.Digest // whole; with a name, both must fit
	prefix string        // of a digest's string, or of its hex part
}

func parseQuery(ref string) (query, error) {
	if ref == "" {
		return query{}, errors.New("image reference is empty")
	}
	q := query{exact: ref}
	if d := digest.Digest(ref); d.Validate() == nil {
		q.digest = d
		return q, nil
	}
	if m := digestPrefix().FindStringSubmatch(ref); m != nil && (m[1] != "" && digest.Algorithm(m[1]).Available() || len(m[2]) >= 4 && m[1] == "") {
		q.prefix = ref
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		if q.prefix != "" {
			return q, nil // 64 hex digits are no valid name
		}
		return query{}, fmt.Errorf("image reference %q: %w", ref, err)
	}
	if d, ok := named.(reference.Digested); ok {
		q.digest = d.Digest()
		if tagged, ok := named.(reference.Tagged); ok {
			q.name = reference.TrimNamed(named).String() + ":" + tagged.Tag()
		} else {
			q.name = reference.TrimNamed(named).String() // any tag
		}
		return q, nil
	}
	q.name = reference.TagNameOnly(named).String()
	return q, nil
}

func (q query) matchesDigest(d digest.Digest) bool {
	if q.digest != "" {
		return d == q.digest
	}
	return q.prefix != "" && (strings.HasPrefix(d.String(), q.prefix) || strings.HasPrefix(d.Encoded(), q.prefix))
}

func (q query) matchesName(entry string) bool {
	if entry == "" {
		return false
	}
	if entry == q.exact {
		return true
	}
	if q.digest != "" && q.name != "" {
		return entry == q.name || strings.HasPrefix(entry, q.name+":")
	}
	return q.name != "" && entry == q.name
}

// Resolve finds an image by its name ("app", "app:1.0", "app@sha256:..."), by a
// digest, or by the first digits of one: of the manifest or index a name stands
// for, else of a platform's manifest within an index, or of a config (what Docker
// calls the image ID), which gives the manifest it belongs to. A name goes before
// digits that look like it.
//
// The descriptor of a named image carries the store's annotations. Errors wrap
// ErrNotFound, or list the candidates of an ambiguous prefix.
func (s *Store) Resolve(ctx context.Context, ref string) (ocispecs.Descriptor, error) {
	idx, err := s.readIndex()
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	return s.resolve(ctx, idx, ref)
}

func (s *Store) resolve(ctx context.Context, idx *ocispecs.Index, ref string) (ocispecs.Descriptor, error) {
	q, err := parseQuery(ref)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	var found []ocispecs.Descriptor
	for _, d := range idx.Manifests {
		if q.matchesName(entryName(d)) && (q.digest == "" || d.Digest == q.digest) {
			return d, nil
		}
		if q.name == "" || q.digest == "" { // name@digest must fit as a whole
			if q.matchesDigest(d.Digest) {
				found = appendDigest(found, d)
			}
		}
	}
	if len(found) == 0 && (q.digest != "" && q.name == "" || q.prefix != "") {
		if found, err = s.findBelow(ctx, idx, q); err != nil {
			return ocispecs.Descriptor{}, err
		}
	}
	switch len(found) {
	case 0:
		return ocispecs.Descriptor{}, notInStore(idx, ref, q)
	case 1:
		return found[0], nil
	}
	var list []string
	for _, d := range found {
		list = append(list, d.Digest.String())
	}
	return ocispecs.Descriptor{}, fmt.Errorf("image reference %q is ambiguous: it fits %s", ref, strings.Join(list, ", "))
}

func appendDigest(list []ocispecs.Descriptor, d ocispecs.Descriptor) []ocispecs.Descriptor {
	for _, e := range list {
		if e.Digest == d.Digest {
			return list
		}
	}
	return append(list, d)
}

// findBelow looks at the manifests within indexes and at configs. Damaged images
// are passed over: they are not what is looked for, or Verify tells.
func (s *Store) findBelow(ctx context.Context, idx *ocispecs.Index, q query) ([]ocispecs.Descriptor, error) {
	var found []ocispecs.Descriptor
	for _, root := range idx.Manifests {
		err := s.walk(ctx, root, func(d ocispecs.Descriptor, raw []byte) error {
			if (isManifest(d.MediaType) || isIndex(d.MediaType)) && d.Digest != root.Digest && q.matchesDigest(d.Digest) {
				found = appendDigest(found, d)
			}
			if !isManifest(d.MediaType) {
				return nil
			}
			var m ocispecs.Manifest
			if json.Unmarshal(raw, &m) == nil && q.matchesDigest(m.Config.Digest) {
				found = appendDigest(found, d)
			}
			return nil
		})
		var damaged *BlobError
		if err != nil && !errors.As(err, &damaged) {
			return nil, err
		}
	}
	return found, nil
}

// notInStore names what the user may have meant: other tags of the repository.
func notInStore(idx *ocispecs.Index, ref string, q query) error {
	err := fmt.Errorf("image %s: %w", ref, ErrNotFound)
	repo, _ := splitTag(q.name)
	if repo == "" {
		return err
	}
	var near []string
	for _, d := range idx.Manifests {
		if r, _ := splitTag(entryName(d)); r == repo {
			near = append(near, familiar(entryName(d)))
		}
	}
	if len(near) == 0 {
		return err
	}
	if len(near) > 5 {
		near = append(near[:5], "...")
	}
	return fmt.Errorf("%w; there is %s", err, strings.Join(near, ", "))
}

// splitTag parts a normalised name; the tag is empty if there is none.
func splitTag(name string) (repo, tag string) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.ContainsRune(name[i:], '/') {
		return name, ""
	}
	return name[:i], name[i+1:]
}

// familiar is a name as users write it: without docker.io/library.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}
