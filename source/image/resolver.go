package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Mode says when registries are asked what a tag stands for.
type Mode int

// The modes.
const (
	// Latest asks at each run.
	Latest Mode = iota
	// Known takes what a name was last found to stand for, and asks no registry.
	Known
)

// ErrUnknown says that a name is not known and that registries are not to be asked.
var ErrUnknown = errors.New("the image has not been looked up before for this platform")

// ErrPlatform says that an image is there, but not for the platform asked for.
var ErrPlatform = errors.New("the image is not there")

// Resolved is what a reference stands for.
type Resolved struct {
	// Ref is the reference in full, such as docker.io/library/alpine:3.22.
	Ref string
	// Digest is that of the manifest or, for an image of several platforms, the index.
	Digest digest.Digest
	// Config is the image config of the platform asked for, as JSON.
	Config []byte
}

// Resolver finds out what references stand for: each distinct one once, however
// many ask for it. The zero value of every field but Dir is useful. It may be used
// by several goroutines; its fields must not change then.
type Resolver struct {
	// Dir holds what was found; records that cannot be written are done without.
	Dir string
	// Mode says when registries are asked.
	Mode Mode
	// Pin gives the digest that a reference is locked to for a platform, "" for none;
	// nil locks nothing. An error ends the look-up.
	Pin func(ref string, p ocispecs.Platform) (digest.Digest, error)
	// Registries says how hosts are reached, in BuildKit's form.
	Registries map[string]resolverconfig.RegistryConfig
	// Keychain has the credentials; nil is Docker's.
	Keychain authn.Keychain

	mu    sync.Mutex
	calls map[callKey]*call
	hosts hosts
}

type callKey struct{ ref, platform string }

// call is a look-up that is under way or done.
type call struct {
	done chan struct{}
	res  Resolved
	err  error
}

// Resolve says what ref stands for on a platform; nil is this machine's. The error
// is [ErrUnknown] where only a registry could tell and must not be asked.
func (r *Resolver) Resolve(ctx context.Context, ref string, platform *ocispecs.Platform) (Resolved, error) {
	p := platforms.DefaultSpec()
	if platform != nil {
		p = *platform
	}
	p = platforms.Normalize(p)
	key := callKey{ref, platforms.FormatAll(p)}
	r.mu.Lock()
	c := r.calls[key]
	if c == nil {
		if r.calls == nil {
			r.calls = map[callKey]*call{}
		}
		c = &call{done: make(chan struct{})}
		r.calls[key] = c
		go func() {
			defer close(c.done)
			// The look-up belongs to all who wait for it, not to its first caller.
			c.res, c.err = r.resolve(context.WithoutCancel(ctx), ref, p)
		}()
	}
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return Resolved{}, ctx.Err()
	case <-c.done:
		return c.res, c.err
	}
}

// Known returns what a look-up of this run has found; ok is false where there was
// none, or where it failed.
func (r *Resolver) Known(ref string, platform *ocispecs.Platform) (res Resolved, ok bool) {
	p := platforms.DefaultSpec()
	if platform != nil {
		p = *platform
	}
	r.mu.Lock()
	c := r.calls[callKey{ref, platforms.FormatAll(platforms.Normalize(p))}]
	r.mu.Unlock()
	if c == nil {
		return Resolved{}, false
	}
	select {
	case <-c.done:
		return c.res, c.err == nil
	default:
		return Resolved{}, false
	}
}

// Look is a finished look-up.
type Look struct {
	// Ref is the reference in full, Platform what it was looked up for.
	Ref, Platform string
	Digest        digest.Digest
	// Fixed: the reference has its digest in it.
	Fixed bool
}

// Looks lists what this run has looked up and found, in no order.
func (r *Resolver) Looks() []Look {
	r.mu.Lock()
	defer r.mu.Unlock()
	var looks []Look
	for k, c := range r.calls {
		select {
		case <-c.done:
			if c.err == nil {
				looks = append(looks, Look{c.res.Ref, k.platform, c.res.Digest, strings.Contains(c.res.Ref, "@")})
			}
		default:
		}
	}
	return looks
}

// Failure is a look-up that failed.
type Failure struct {
	// Ref is the reference, in full if it is one.
	Ref string
	Err error
	// Last is what it stood for when it was last looked up, "" if that is not known.
	Last digest.Digest
}

// Failures lists the look-ups of this run that failed, in the order of their
// references.
func (r *Resolver) Failures() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Failure
	for k, c := range r.calls {
		select {
		case <-c.done:
			if c.err != nil {
				f := Failure{Ref: k.ref, Err: c.err}
				if named, err := reference.ParseNormalizedNamed(k.ref); err == nil {
					f.Ref = reference.TagNameOnly(named).String()
				}
				f.Last = r.last(f.Ref, k.platform)
				list = append(list, f)
			}
		default:
		}
	}
	slices.SortFunc(list, func(a, b Failure) int { return strings.Compare(a.Ref, b.Ref) })
	return list
}

// last is what a reference stood for when it was last looked up with success, as far
// as a build could go by it.
func (r *Resolver) last(ref, platform string) digest.Digest {
	p, err := platforms.Parse(platform)
	if err != nil {
		return ""
	}
	p = platforms.Normalize(p)
	rec, err := r.read(nameRecord(ref, p))
	if err != nil {
		return ""
	}
	if _, err := r.read(configRecord(rec.Digest, p)); err != nil {
		return ""
	}
	return rec.Digest
}

// Remember notes what another look-up, such as a daemon's own, has found.
func (r *Resolver) Remember(ref string, platform *ocispecs.Platform, res Resolved) {
	p := platforms.DefaultSpec()
	if platform != nil {
		p = *platform
	}
	p = platforms.Normalize(p)
	_ = r.write(nameRecord(ref, p), record{Ref: res.Ref, Digest: res.Digest})
	_ = r.write(configRecord(res.Digest, p), record{Digest: res.Digest, Config: res.Config})
}

func (r *Resolver) resolve(ctx context.Context, ref string, p ocispecs.Platform) (Resolved, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Resolved{}, fmt.Errorf("image reference %q: %w", ref, err)
	}
	named = reference.TagNameOnly(named)
	res := Resolved{Ref: named.String()}
	if d, ok := named.(reference.Digested); ok {
		res.Digest = d.Digest()
	} else if r.Pin != nil {
		if res.Digest, err = r.Pin(res.Ref, p); err != nil {
			return Resolved{}, err
		}
	}
	if res.Digest == "" {
		if res.Digest, err = r.lookUp(ctx, named, p); err != nil {
			return Resolved{}, err
		}
	}
	if rec, err := r.read(configRecord(res.Digest, p)); err == nil && rec.Digest == res.Digest && json.Valid(rec.Config) {
		res.Config = rec.Config
		return res, nil
	}
	if r.Mode == Known {
		return Resolved{}, fmt.Errorf("%s: %w", res.Ref, ErrUnknown)
	}
	if res.Config, err = r.fetchConfig(ctx, named, res.Digest, p); err != nil {
		return Resolved{}, err
	}
	_ = r.write(configRecord(res.Digest, p), record{Digest: res.Digest, Config: res.Config})
	return res, nil
}

// lookUp says what a tag stands for now, or stood for last.
func (r *Resolver) lookUp(ctx context.Context, named reference.Named, p ocispecs.Platform) (digest.Digest, error) {
	file := nameRecord(named.String(), p)
	rec, err := r.read(file)
	if r.Mode == Known {
		if err != nil {
			return "", fmt.Errorf("%s: %w", named, ErrUnknown)
		}
		return rec.Digest, nil
	}
	d, err := r.head(ctx, named)
	if err != nil {
		return "", err
	}
	if rec.Digest != d {
		_ = r.write(file, record{Ref: named.String(), Digest: d})
	}
	return d, nil
}
