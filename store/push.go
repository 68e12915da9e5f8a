package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say where and how Push sends an image.
type PushOptions struct {
	// Target is the reference in the registry; empty is the image's name in the
	// store. It must be given for an image pushed by digest.
	Target string
	// Insecure allows plain HTTP and certificates nobody vouches for. Registries on
	// localhost, 127.0.0.1 and in private networks may speak HTTP without it.
	Insecure bool
	// Keychain has the credentials; nil is Docker's: config.json with its
	// credential helpers, or Podman's auth.json.
	Keychain authn.Keychain
	// Jobs is how many blobs are sent at once; 0 is 4.
	Jobs int
	// Progress is called with the bytes that the registry has by now, of all it
	// will have; blobs found or mounted there count as sent. Calls do not overlap.
	Progress func(done, total int64)
	// Transport makes the requests; nil is one with proxies from the environment.
	// With a transport that is not an *http.Transport, Insecure does not change how
	// certificates are checked.
	Transport http.RoundTripper
}

// Pushed says what a push left in the registry.
type Pushed struct {
	Reference  string // with tag, as the registry is asked for it
	Descriptor ocispecs.Descriptor
}

// Push sends an image, or an index with all its platforms and attestations, to
// the registry in its name, and after it what refers to it (see Referrers); in a
// registry that keeps no list of referrers they are listed under the tag that the
// distribution specification has for that. Blobs that the registry has are not sent; those it
// has in another repository that the store knows of are mounted. What may pass
// (broken connections, 429, 5xx) is tried up to four times. Errors say what
// to do about refused credentials, unknown hosts and HTTP spoken for HTTPS.
func (s *Store) Push(ctx context.Context, ref string, o PushOptions) (Pushed, error) {
	desc, target, err := s.pushTarget(ctx, ref, o)
	if err != nil {
		return Pushed{}, fmt.Errorf("pushing image %s: %w", ref, err)
	}
	total, err := s.pushSize(ctx, desc)
	if err != nil {
		return Pushed{}, fmt.Errorf("pushing image %s: %w", ref, err)
	}
	p := &pusher{store: s, desc: desc, target: target, options: o, total: total}
	m := s.mountSources(ctx, desc, target)
	err = p.push(ctx, m)
	if len(m) > 0 && refused(err) {
		// Some registries refuse everything when one repository that blobs could be
		// mounted from is off limits.
		err = p.push(ctx, nil)
	}
	if err == nil {
		err = s.pushReferrers(ctx, desc, target, o)
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("pushing image %s: %w", ref, explain(err, target))
	}
	return Pushed{Reference: target.Name(), Descriptor: named(desc, "")}, nil
}

// pushReferrers pushes what refers to a manifest that the registry has. The library
// keeps the list of referrers where the registry does not.
func (s *Store) pushReferrers(ctx context.Context, subject ocispecs.Descriptor, target name.Tag, o PushOptions) error {
	list, err := s.Referrers(ctx, subject.Digest)
	if err != nil {
		return err
	}
	o.Progress = nil
	for _, d := range list {
		if err := s.complete(ctx, d); err != nil {
			return err
		}
		// One after the other: the list under the tag is read, changed and written.
		p := &pusher{store: s, desc: d, target: target.Context().Digest(d.Digest.String()), options: o}
		if err := p.push(ctx, nil); err != nil {
			return fmt.Errorf("pushing its referrer %s: %w", d.Digest, err)
		}
	}
	return nil
}

func (s *Store) pushTarget(ctx context.Context, ref string, o PushOptions) (ocispecs.Descriptor, name.Tag, error) {
	desc, err := s.Resolve(ctx, ref)
	if err != nil {
		return desc, name.Tag{}, err
	}
	to := o.Target
	if to == "" {
		q, err := parseQuery(ref)
		if err != nil {
			return desc, name.Tag{}, err
		}
		if !q.matchesName(entryName(desc)) {
			return desc, name.Tag{}, errors.New("a digest does not say where to: name a target")
		}
		to = entryName(desc)
	}
	to, err = NormalName(to)
	if err != nil {
		return desc, name.Tag{}, err
	}
	var opts []name.Option
	if o.Insecure {
		opts = append(opts, name.Insecure)
	}
	tag, err := name.NewTag(to, opts...)
	return desc, tag, err
}

// pushSize is what the registry will have in the end. On the way it finds out
// whether all of it is there to be sent.
func (s *Store) pushSize(ctx context.Context, desc ocispecs.Descriptor) (int64, error) {
	var total int64
	err := s.walk(ctx, desc, func(d ocispecs.Descriptor, raw []byte) error {
		if !isForeign(d) {
			total += d.Size
		}
		return s.present(d, raw)
	})
	return total, err
}

// maxMountSources bounds the repositories that a push asks to mount from: each
// can cost a round trip for a wider token.
const maxMountSources = 4

// mountSources looks for the image's blobs in images of other repositories on the
// same registry. That they have been pushed is likely, not certain; a registry
// that does not know such a blob just takes the upload.
func (s *Store) mountSources(ctx context.Context, desc ocispecs.Descriptor, target name.Tag) mounts {
	idx, err := s.readIndex()
	if err != nil {
		return nil
	}
	wanted := map[digest.Digest]bool{}
	if s.walk(ctx, desc, func(d ocispecs.Descriptor, _ []byte) error { wanted[d.Digest] = true; return nil }) != nil {
		return nil
	}
	found := mounts{}
	repos := map[string]bool{}
	for _, entry := range idx.Manifests {
		from, err := name.NewTag(entryName(entry))
		if err != nil || from.RegistryStr() != target.RegistryStr() || from.RepositoryStr() == target.RepositoryStr() {
			continue
		}
		if !repos[from.RepositoryStr()] && len(repos) == maxMountSources {
			continue
		}
		// A damaged image is no source, but no reason to fail either.
		_ = s.walk(ctx, entry, func(d ocispecs.Descriptor, raw []byte) error {
			h, err := v1.NewHash(d.Digest.String())
			if err != nil || !wanted[d.Digest] || raw != nil {
				return nil
			}
			if _, ok := found[h]; !ok {
				found[h] = from
				repos[from.RepositoryStr()] = true
			}
			return nil
		})
	}
	return found
}

type pusher struct {
	store   *Store
	desc    ocispecs.Descriptor
	target  name.Reference
	options PushOptions
	total   int64

	mu   sync.Mutex
	over bool // Progress is not to be called any more
}

// push runs one attempt and comes back as soon as ctx ends, although
// go-containerregistry sleeps between its tries.
func (p *pusher) push(ctx context.Context, m mounts) error {
	var what remote.Taggable
	var err error
	if isIndex(p.desc.MediaType) {
		what, err = p.store.index(p.desc, m)
	} else {
		what, err = p.store.image(p.desc, m)
	}
	if err != nil {
		return err
	}
	updates := make(chan v1.Update, 64)
	done := make(chan error, 1)
	go p.report(updates)
	go func() { done <- remote.Push(p.target, what, p.remoteOptions(ctx, updates)...) }()
	select {
	case err := <-done:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			p.progress(p.total)
		}
		return err
	case <-ctx.Done():
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		return context.Cause(ctx)
	}
}

// report drains updates, which Push closes, so that no upload waits for it.
func (p *pusher) report(updates <-chan v1.Update) {
	for u := range updates {
		if u.Error == nil {
			p.progress(min(u.Complete, p.total))
		}
	}
}

func (p *pusher) progress(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.options.Progress == nil || p.over {
		return
	}
	p.over = done == p.total // the last call
	p.options.Progress(done, p.total)
}

func (p *pusher) remoteOptions(ctx context.Context, updates chan<- v1.Update) []remote.Option {
	o := p.options
	keychain := o.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	jobs := o.Jobs
	if jobs <= 0 {
		jobs = 4
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(keychain),
		remote.WithJobs(jobs),
		remote.WithTransport(pushTransport(o)),
		remote.WithProgress(updates),
		remote.WithUserAgent("zlayer"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 4}),
	}
}

func pushTransport(o PushOptions) http.RoundTripper {
	rt := o.Transport
	if rt == nil {
		rt = remote.DefaultTransport
	}
	t, ok := rt.(*http.Transport)
	if !ok || !o.Insecure {
		return rt
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.InsecureSkipVerify = true // what --insecure asks for
	return t
}

// refused reports 401 and 403.
func refused(err error) bool {
	var terr *transport.Error
	return errors.As(err, &terr) && (terr.StatusCode == http.StatusUnauthorized || terr.StatusCode == http.StatusForbidden)
}
