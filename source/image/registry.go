package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// requestTimeout bounds one look-up: a registry that does not answer must not hold
// up a build whose daemon may reach it in another way.
const requestTimeout = 30 * time.Second

// hosts makes the connections to registries, one transport for each way to reach one.
type hosts struct {
	mu     sync.Mutex
	byHost map[string]http.RoundTripper
}

// endpoint is a repository at one of the hosts that may serve it.
type endpoint struct {
	repo      name.Repository
	transport http.RoundTripper
}

// endpoints lists where a repository can be read: the mirrors of its host, then the
// host itself.
func (r *Resolver) endpoints(named reference.Named) ([]endpoint, error) {
	host := reference.Domain(named)
	var out []endpoint
	var errs []error
	for _, h := range append(slices.Clone(r.Registries[host].Mirrors), host) {
		e, err := r.endpoint(h, reference.Path(named))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func (r *Resolver) endpoint(host, path string) (endpoint, error) {
	cfg := r.Registries[host]
	var opts []name.Option
	if isTrue(cfg.PlainHTTP) || isTrue(cfg.Insecure) {
		opts = append(opts, name.Insecure)
	}
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	repo, err := name.NewRepository(host+"/"+path, opts...)
	if err != nil {
		return endpoint{}, err
	}
	t, err := r.hosts.transport(host, cfg)
	return endpoint{repo: repo, transport: t}, err
}

func isTrue(b *bool) bool { return b != nil && *b }

// transport makes the connections to a host, shared by all look-ups of a run.
func (h *hosts) transport(host string, cfg resolverconfig.RegistryConfig) (http.RoundTripper, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.byHost[host]; t != nil {
		return t, nil
	}
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return remote.DefaultTransport, nil
	}
	t := base.Clone()
	if isTrue(cfg.Insecure) || len(cfg.RootCAs) > 0 || len(cfg.KeyPairs) > 0 {
		tc, err := tlsConfig(cfg)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates for %s: %w", host, err)
		}
		t.TLSClientConfig = tc
	}
	if h.byHost == nil {
		h.byHost = map[string]http.RoundTripper{}
	}
	h.byHost[host] = t
	if isTrue(cfg.PlainHTTP) {
		h.byHost[host] = plainHTTP{t}
	}
	return h.byHost[host], nil
}

// plainHTTP asks without TLS. go-containerregistry would try TLS first, for each
// repository anew, at a registry that is known to have none.
type plainHTTP struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t plainHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" {
		req = req.Clone(req.Context())
		req.URL.Scheme = "http"
	}
	return t.RoundTripper.RoundTrip(req)
}

func tlsConfig(cfg resolverconfig.RegistryConfig) (*tls.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: isTrue(cfg.Insecure)}
	if len(cfg.RootCAs) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, file := range cfg.RootCAs {
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			pool.AppendCertsFromPEM(pem)
		}
		tc.RootCAs = pool
	}
	for _, kp := range cfg.KeyPairs {
		cert, err := tls.LoadX509KeyPair(kp.Certificate, kp.Key)
		if err != nil {
			return nil, err
		}
		tc.Certificates = append(tc.Certificates, cert)
	}
	return tc, nil
}

func (r *Resolver) options(ctx context.Context, e endpoint) []remote.Option {
	keychain := r.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain), remote.WithTransport(e.transport),
		// A registry that stumbles gets a second chance; one that is down must not be
		// waited for: the daemon may know another way.
		remote.WithRetryBackoff(remote.Backoff{Duration: 100 * time.Millisecond, Factor: 3, Steps: 3}),
	}
}

// each tries the endpoints of a repository until one knows the image. The error is
// the last one's: that of the registry itself, mirrors need not know everything.
func (r *Resolver) each(ctx context.Context, named reference.Named, f func(context.Context, endpoint) error) error {
	list, err := r.endpoints(named)
	if err != nil {
		return fmt.Errorf("resolving %s: %w", named, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, e := range list {
		if err = f(ctx, e); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("resolving %s: %w", named, classify(err))
	}
	return nil
}

// classify gives an answer of a registry the kind that errdefs knows, so that callers
// can tell an image that is not there from a registry that is not.
func classify(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	switch te.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", errdefs.ErrUnauthenticated, err)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %w", errdefs.ErrPermissionDenied, err)
	}
	return err
}

// head asks what a tag stands for: one request, where the registry answers HEAD.
func (r *Resolver) head(ctx context.Context, named reference.Named) (digest.Digest, error) {
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return "", fmt.Errorf("image reference %s has neither a tag nor a digest", named)
	}
	var found digest.Digest
	err := r.each(ctx, named, func(ctx context.Context, e endpoint) error {
		opts := r.options(ctx, e)
		desc, err := remote.Head(e.repo.Tag(tagged.Tag()), opts...)
		if err != nil {
			var te *transport.Error
			if errors.As(err, &te) && te.StatusCode == http.StatusMethodNotAllowed || err.Error() == "missing digest" {
				return r.getDigest(e, tagged.Tag(), opts, &found)
			}
			return err
		}
		found = digest.Digest(desc.Digest.String())
		return nil
	})
	return found, err
}

// getDigest is head for registries that do not answer it.
func (r *Resolver) getDigest(e endpoint, tag string, opts []remote.Option, found *digest.Digest) error {
	desc, err := remote.Get(e.repo.Tag(tag), opts...)
	if err == nil {
		*found = digest.Digest(desc.Digest.String())
	}
	return err
}

// fetchConfig reads the image config that a digest stands for on a platform.
func (r *Resolver) fetchConfig(ctx context.Context, named reference.Named, d digest.Digest, p ocispecs.Platform) ([]byte, error) {
	var config []byte
	err := r.each(ctx, named, func(ctx context.Context, e endpoint) error {
		opts := r.options(ctx, e)
		desc, err := remote.Get(e.repo.Digest(d.String()), opts...)
		if err != nil {
			return err
		}
		raw := desc.Manifest
		if desc.MediaType.IsIndex() {
			child, err := choose(raw, p)
			if err != nil {
				return err
			}
			m, err := remote.Get(e.repo.Digest(child.Digest.String()), opts...)
			if err != nil {
				return err
			}
			raw = m.Manifest
		} else if !isImage(desc.MediaType) {
			return fmt.Errorf("%s is no image but %s", d, desc.MediaType)
		}
		config, err = r.configBlob(ctx, e, raw)
		return err
	})
	return config, err
}

func isImage(t types.MediaType) bool {
	return t == types.OCIManifestSchema1 || t == types.DockerManifestSchema2
}

// configBlob reads the config that a manifest names.
func (r *Resolver) configBlob(ctx context.Context, e endpoint, manifest []byte) ([]byte, error) {
	var m ocispecs.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	const limit = 8 << 20
	if m.Config.Size > limit {
		return nil, fmt.Errorf("the image config has %d bytes, more than %d", m.Config.Size, limit)
	}
	if len(m.Config.Data) > 0 && digest.FromBytes(m.Config.Data) == m.Config.Digest {
		return m.Config.Data, nil
	}
	layer, err := remote.Layer(e.repo.Digest(m.Config.Digest.String()), r.options(ctx, e)...)
	if err != nil {
		return nil, err
	}
	return readVerified(layer, m.Config)
}

// choose finds the manifest of an index that BuildKit would take for a platform.
func choose(index []byte, p ocispecs.Platform) (ocispecs.Descriptor, error) {
	var idx ocispecs.Index
	if err := json.Unmarshal(index, &idx); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("reading the index: %w", err)
	}
	m := platforms.Only(p)
	var fit []ocispecs.Descriptor
	for _, d := range idx.Manifests {
		if d.Platform != nil && m.Match(*d.Platform) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 {
		return ocispecs.Descriptor{}, fmt.Errorf("%w for %s", ErrPlatform, platforms.FormatAll(p))
	}
	slices.SortStableFunc(fit, func(a, b ocispecs.Descriptor) int {
		switch {
		case m.Less(*a.Platform, *b.Platform):
			return -1
		case m.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return fit[0], nil
}

// Head asks a registry what a name stands for now, whatever the mode.
func (r *Resolver) Head(ctx context.Context, ref string) (digest.Digest, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", ref, err)
	}
	return r.head(ctx, reference.TagNameOnly(named))
}

// Has reports whether the registry of a name has the image with a digest.
func (r *Resolver) Has(ctx context.Context, ref string, d digest.Digest) bool {
	e, err := r.home(ref)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = remote.Head(e.repo.Digest(d.String()), r.options(ctx, e)...)
	return err == nil
}

// Retag makes a name stand for an image that its repository has already.
func (r *Resolver) Retag(ctx context.Context, ref string, d digest.Digest) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("image reference %q: %w", ref, err)
	}
	tagged, ok := reference.TagNameOnly(named).(reference.Tagged)
	if !ok {
		return fmt.Errorf("image reference %s has no tag", ref)
	}
	e, err := r.home(ref)
	if err != nil {
		return fmt.Errorf("tagging %s: %w", ref, err)
	}
	desc, err := remote.Get(e.repo.Digest(d.String()), r.options(ctx, e)...)
	if err == nil {
		err = remote.Tag(e.repo.Tag(tagged.Tag()), desc, r.options(ctx, e)...)
	}
	if err != nil {
		return fmt.Errorf("tagging %s: %w", ref, err)
	}
	return nil
}

// Insecure reports whether the registry of a name may be reached without TLS or
// without verifying it.
func (r *Resolver) Insecure(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	cfg := r.Registries[reference.Domain(named)]
	return isTrue(cfg.PlainHTTP) || isTrue(cfg.Insecure)
}

// home is the repository of a name at its own registry: mirrors are not written to.
func (r *Resolver) home(ref string) (endpoint, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return endpoint{}, err
	}
	return r.endpoint(reference.Domain(named), reference.Path(named))
}
