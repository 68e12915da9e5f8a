package memo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"
)

// RegistryConfig says which registry a [Registry] keeps records in, and how.
type RegistryConfig struct {
	// Repository is the name of the repository that records are tags of, such as
	// registry.example.com/team/app. It may be that of images.
	Repository string
	// Insecure allows plain HTTP and certificates nobody vouches for.
	Insecure bool
	// Timeout bounds each Get; writing and parts may take six times as long. 0 is
	// DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout is how long a Get may ask another machine.
const DefaultTimeout = 5 * time.Second

// Types and names in a registry.
const (
	recordType = "application/vnd.zlayer.memo.record.v1"
	partsType  = "application/vnd.zlayer.memo.parts.v1"
	recordNote = "dev.zlayer.memo.record"
	tagPrefix  = "zlayer-memo-"
)

// inlineParts is up to which size parts are written into the manifest: a blob of
// their own costs three requests.
const inlineParts = 32 << 10

// Registry is a Store in a repository of a registry, beside images or alone. A record
// is an artifact of the OCI image spec: a manifest with the tag zlayer-memo-<key> and
// the record in an annotation, so that one request reads it. Only parts that are
// larger than 32 KiB are a blob.
//
// Before the first request of a process there is one to find out how to log in, and
// one for a token where the registry wants those; both again for the first Put, which
// needs more rights. It must not be copied.
type Registry struct {
	// Repo is the repository. Make it with name.Insecure where HTTP is allowed.
	Repo name.Repository
	// Keychain has the credentials; nil is Docker's config and its helpers.
	Keychain authn.Keychain
	// Insecure accepts certificates nobody vouches for.
	Insecure bool
	// Timeout is that of RegistryConfig.
	Timeout time.Duration
	// Transport makes the requests; nil is one with proxies from the environment.
	Transport http.RoundTripper

	logins    singleflight.Group
	mu        sync.Mutex
	clients   map[string]http.RoundTripper // logged in, by scope
	transport http.RoundTripper
	hasEmpty  bool // the empty blob has been seen there
}

var (
	_ Store       = (*Registry)(nil)
	_ PartsReader = (*Registry)(nil)
	_ Deleter     = (*Registry)(nil)
)

// NewRegistry gives the Registry that c describes. It asks nobody for anything yet;
// a nil keychain is Docker's.
func NewRegistry(c RegistryConfig, keychain authn.Keychain) (*Registry, error) {
	repo, err := c.repository()
	if err != nil {
		return nil, err
	}
	return &Registry{Repo: repo, Keychain: keychain, Insecure: c.Insecure, Timeout: c.Timeout}, nil
}

// Get implements [Store].
func (s *Registry) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	data, err := s.fetch(ctx, key)
	if err != nil {
		return nil, err
	}
	r, _, err := decodeHead(bufio.NewReaderSize(bytes.NewReader(data), maxLine), int64(len(data)))
	return believe(key, r, err)
}

// ReadParts implements [PartsReader].
func (s *Registry) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	if r.PartsSize > inlineParts {
		return s.fetchParts(ctx, r)
	}
	data, err := s.fetch(ctx, r.Key)
	if errors.Is(err, ErrNotFound) {
		return nil, lostParts(r)
	}
	if err != nil {
		return nil, err
	}
	have, err := Decode(data)
	if err != nil || have.Parts == nil || have.PartsDigest != r.PartsDigest {
		return nil, lostParts(r)
	}
	return have.Parts, nil
}

// fetch gives the bytes in the manifest of the key's tag.
func (s *Registry) fetch(ctx context.Context, key digest.Digest) ([]byte, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	opts, err := s.options(ctx, transport.PullScope)
	if err != nil {
		return nil, err
	}
	d, err := remote.Get(s.tag(key), opts...)
	if status(err) == http.StatusNotFound {
		return nil, absent(key)
	}
	if err != nil {
		return nil, s.trouble("reading", err)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil || m.Annotations[recordNote] == "" {
		return nil, fmt.Errorf("%w of %s: %s is something else", ErrNotFound, key, s.tag(key))
	}
	data, err := base64.StdEncoding.DecodeString(m.Annotations[recordNote])
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %s: %w", ErrNotFound, key, s.tag(key), err)
	}
	return data, nil
}

func (s *Registry) fetchParts(ctx context.Context, r *Record) ([]byte, error) {
	if err := ready(ctx, r.Key); err != nil {
		return nil, err
	}
	if r.checkParts() != nil {
		return nil, lostParts(r)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	opts, err := s.options(ctx, transport.PullScope)
	if err != nil {
		return nil, err
	}
	layer, err := remote.Layer(s.Repo.Digest(r.PartsDigest.String()), opts...)
	if err != nil {
		return nil, s.trouble("reading", err)
	}
	body, err := layer.Compressed()
	if status(err) == http.StatusNotFound {
		return nil, lostParts(r)
	}
	if err != nil {
		return nil, s.trouble("reading", err)
	}
	defer body.Close()
	parts, err := io.ReadAll(io.LimitReader(body, r.PartsSize+1))
	if err != nil {
		return nil, s.trouble("reading", err)
	}
	if checkPartsOf(r, parts) != nil {
		return nil, lostParts(r)
	}
	return parts, nil
}

// Put implements [Store].
func (s *Registry) Put(ctx context.Context, r *Record) error {
	if err := ready(ctx, r.Key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	inline, layer := *r, ocispecs.DescriptorEmptyJSON
	if len(r.Parts) > inlineParts {
		layer = ocispecs.Descriptor{MediaType: partsType, Digest: digest.FromBytes(r.Parts), Size: int64(len(r.Parts))}
		inline.Parts, inline.PartsDigest, inline.PartsSize = nil, layer.Digest, layer.Size
	}
	data, err := Encode(&inline)
	if err != nil {
		return err
	}
	opts, err := s.options(ctx, transport.PushScope)
	if err != nil {
		return err
	}
	if err := s.putEmpty(opts); err != nil {
		return s.trouble("writing", err)
	}
	if inline.Parts == nil && len(r.Parts) > 0 {
		if err := remote.WriteLayer(s.Repo, static.NewLayer(r.Parts, partsType), opts...); err != nil {
			return s.trouble("writing", err)
		}
	}
	raw, err := json.Marshal(manifestOf(data, layer))
	if err != nil {
		return fmt.Errorf("encoding record: %w", err)
	}
	if err := remote.Put(s.tag(r.Key), rawManifest(raw), opts...); err != nil {
		return s.trouble("writing", err)
	}
	return nil
}

// manifestOf gives the manifest that a record is kept as.
func manifestOf(data []byte, layer ocispecs.Descriptor) *ocispecs.Manifest {
	m := &ocispecs.Manifest{
		MediaType:    ocispecs.MediaTypeImageManifest,
		ArtifactType: recordType,
		Config:       ocispecs.DescriptorEmptyJSON,
		Layers:       []ocispecs.Descriptor{layer},
		Annotations:  map[string]string{recordNote: base64.StdEncoding.EncodeToString(data)},
	}
	m.SchemaVersion = 2
	return m
}

// rawManifest is a manifest to be put as it is.
type rawManifest []byte

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType tells remote.Put the type.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// putEmpty sees to it, once, that the repository has the blob that stands for no
// config: registries refuse manifests of blobs that they have not.
func (s *Registry) putEmpty(opts []remote.Option) error {
	s.mu.Lock()
	has := s.hasEmpty
	s.mu.Unlock()
	if has {
		return nil
	}
	err := remote.WriteLayer(s.Repo, static.NewLayer(ocispecs.DescriptorEmptyJSON.Data, types.MediaType(ocispecs.MediaTypeEmptyJSON)), opts...)
	s.mu.Lock()
	s.hasEmpty = s.hasEmpty || err == nil
	s.mu.Unlock()
	return err
}

// Delete implements [Deleter]. Many registries allow nobody to delete.
func (s *Registry) Delete(ctx context.Context, key digest.Digest) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	opts, err := s.options(ctx, transport.DeleteScope)
	if err != nil {
		return err
	}
	d, err := remote.Get(s.tag(key), opts...)
	if err == nil {
		err = remote.Delete(s.Repo.Digest(d.Digest.String()), opts...)
	}
	if err == nil {
		// Most registries have removed the tag by now, and some cannot remove one.
		_ = remote.Delete(s.tag(key), opts...)
	}
	if status(err) == http.StatusNotFound {
		return absent(key)
	}
	if err != nil {
		return s.trouble("removing", err)
	}
	return nil
}

// slower is how much longer than a Get anything else may take.
const slower = 6

func (s *Registry) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return DefaultTimeout
}

func (s *Registry) tag(key digest.Digest) name.Tag { return s.Repo.Tag(tagPrefix + key.Encoded()) }

// trouble explains an error of the registry.
func (s *Registry) trouble(doing string, err error) error {
	hint := ""
	switch code := status(err); {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		hint = " (log in, or ask for the right to do so)"
	case errors.Is(err, context.DeadlineExceeded):
		hint = " (it did not answer in time)"
	}
	return fmt.Errorf("%s memo in %s%s: %w", doing, s.Repo, hint, err)
}

// status gives the HTTP status that err is about, or 0.
func status(err error) int {
	var t *transport.Error
	if errors.As(err, &t) {
		return t.StatusCode
	}
	return 0
}
