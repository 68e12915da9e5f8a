package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/source/image"
)

// imageMemo answers what images stand for as it was found before the daemon was
// asked, so that what is built is what the keys are of, and from what is remembered
// on disk where registries are not to be asked. BuildKit's own mode for that
// ("local") looks into an image store, which a daemon without containerd has not,
// and then asks the registry all the same.
type imageMemo struct {
	gwclient.Client
	resolver *image.Resolver
	// flag is what keeps registries from being asked.
	flag string
}

// imageMemo wraps a gateway for the job's pull mode.
func (j *job) imageMemo(c gwclient.Client) gwclient.Client {
	r, err := j.resolver()
	if err != nil {
		return c
	}
	flag := "--pull=never"
	if j.req.Offline {
		flag = "--offline"
	}
	return &imageMemo{Client: c, resolver: r, flag: flag}
}

// ResolveImageConfig implements gwclient.Client.
func (m *imageMemo) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if opt.ImageOpt == nil {
		return m.Client.ResolveImageConfig(ctx, ref, opt)
	}
	if res, ok := m.resolver.Known(ref, opt.ImageOpt.Platform); ok {
		return ref, res.Digest, res.Config, nil
	}
	if m.resolver.Mode == image.Known {
		res, err := m.resolver.Resolve(ctx, ref, opt.ImageOpt.Platform)
		if errors.Is(err, image.ErrUnknown) {
			err = fmt.Errorf("%s has not been pulled for this platform before, and %s keeps registries from being asked: build once without it", ref, m.flag)
		}
		return ref, res.Digest, res.Config, err
	}
	full, dgst, config, err := m.Client.ResolveImageConfig(ctx, ref, opt)
	if err == nil && dgst != "" {
		m.resolver.Remember(ref, opt.ImageOpt.Platform, image.Resolved{Ref: full, Digest: dgst, Config: config})
	}
	return full, dgst, config, err
}
