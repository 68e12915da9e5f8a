package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/grpcerrors"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/source/image"
)

// checkDefaultRegistry refuses a default registry that is none.
func (j *job) checkDefaultRegistry() error {
	r := j.req.DefaultRegistry
	if r == "" {
		return nil
	}
	if dockerfile.Short(r + "/x") {
		return inputErrorf("default registry %q has no host: name one as in ghcr.io, localhost:5000 or ghcr.io/organisation", r)
	}
	if _, err := reference.ParseNormalizedNamed(r + "/x"); err != nil {
		return inputErrorf("default registry %q: %w", r, err)
	}
	return nil
}

// shortNames finds images that build files call by a short name: in the default
// registry, else on Docker Hub. Each name is looked for once in a run, however many
// stages, files and platforms have it.
type shortNames struct {
	client   gwclient.Client
	registry string
	// local: only images that are known already count, so one that is not is none.
	local bool

	mu sync.Mutex
	// probes say by name where it was found; lookups hold by name and platform what
	// was found there.
	probes, lookups map[string]*lookup
}

// lookup is a question to a registry that is under way or answered.
type lookup struct {
	done chan struct{}
	// key is that of the look-up by which a probe found its name.
	key    string
	ref    string
	found  string
	digest digest.Digest
	config []byte
	err    error
}

func newShortNames(j *job, c gwclient.Client) *shortNames {
	return &shortNames{client: c, registry: j.req.DefaultRegistry, local: j.req.Pull == PullNever, probes: map[string]*lookup{}, lookups: map[string]*lookup{}}
}

// resolve implements dockerfile.Options.Resolve.
func (s *shortNames) resolve(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	key := lookupKey(name, opt)
	p, err := s.once(ctx, s.probes, name, func(ctx context.Context, l *lookup) {
		l.key = key
		s.probe(ctx, l, name, opt)
	})
	if err != nil {
		return "", "", nil, err
	}
	if p.key != key && p.err == nil {
		ref := p.ref
		if p, err = s.once(ctx, s.lookups, key, func(ctx context.Context, l *lookup) {
			s.ask(ctx, l, ref, opt)
		}); err != nil {
			return "", "", nil, err
		}
	}
	return p.found, p.digest, p.config, p.err
}

// once gives the answer to a question that is asked but once. It is everybody's: it
// is not dropped with whoever asked first.
func (s *shortNames) once(ctx context.Context, all map[string]*lookup, key string, f func(context.Context, *lookup)) (*lookup, error) {
	s.mu.Lock()
	l := all[key]
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		all[key] = l
		go func() {
			defer close(l.done)
			f(context.WithoutCancel(ctx), l)
		}()
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return l, nil
	}
}

// ask looks up one reference.
func (s *shortNames) ask(ctx context.Context, l *lookup, ref string, opt sourceresolver.Opt) {
	l.ref = ref
	if i := strings.LastIndex(opt.LogName, " "); i >= 0 {
		opt.LogName = opt.LogName[:i+1] + ref // what progress shows
	}
	l.found, l.digest, l.config, l.err = s.client.ResolveImageConfig(ctx, ref, opt)
}

// probe looks for the name in the default registry. That it is not there, or not for
// us, sends the search to Docker Hub; other failures do not, for what would be
// built then is another image.
func (s *shortNames) probe(ctx context.Context, l *lookup, name string, opt sourceresolver.Opt) {
	own, err := fullName(s.registry + "/" + name)
	if err != nil {
		l.err = err
		return
	}
	hub, err := fullName(name)
	if err != nil {
		l.err = err
		return
	}
	s.ask(ctx, l, own, opt)
	if l.err == nil || !s.local && !missing(l.err) {
		return
	}
	first := l.err
	s.ask(ctx, l, hub, opt)
	if l.err != nil && missing(l.err) {
		l.err = fmt.Errorf("%w (nor is it in the default registry: %w)", l.err, &trimmedError{err: first})
	}
}

// fullName is the form of a name in which it is looked up.
func fullName(name string) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	return reference.TagNameOnly(named).String(), nil
}

// lookupKey tells look-ups apart.
func lookupKey(name string, opt sourceresolver.Opt) string {
	if opt.ImageOpt == nil || opt.ImageOpt.Platform == nil {
		return name
	}
	return name + " " + platforms.FormatAll(*opt.ImageOpt.Platform)
}

// missing reports whether a registry said that it has no such image, or none for
// us. An image that is there for other platforms only is not missing.
func missing(err error) bool {
	text := err.Error()
	if strings.Contains(text, "no match for platform") || errors.Is(err, image.ErrPlatform) {
		return false
	}
	if errdefs.IsNotFound(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) {
		return true
	}
	if c := grpcerrors.Code(err); c == codes.NotFound || c == codes.Unauthenticated || c == codes.PermissionDenied {
		return true
	}
	for _, s := range []string{": not found", "401 Unauthorized", "403 Forbidden", "authorization failed", "insufficient_scope", "pull access denied"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}
