package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// lockedGateway holds what a frontend inside of BuildKit reads to a lock file: images
// are what they are locked to when they are looked up, and BuildKit is told of the
// rest by a source policy.
type lockedGateway struct {
	gwclient.Client
	lock *lock.File
	// own are sources that the build context consists of. The lock file is part of it,
	// so that it has been read already.
	own map[string]bool
}

// withLock gives a gateway that holds to the lock file at the root of the build
// context; without one it is the composer's own.
func (g *gatewayComposer) withLock(ctx context.Context) (gwclient.Client, error) {
	text, own, err := g.lockFile(ctx)
	if err != nil || text == nil {
		return g.gw, err
	}
	f, err := lock.Parse(lock.FileName, text)
	if err != nil {
		return nil, err
	}
	return &lockedGateway{Client: g.gw, lock: f, own: own}, nil
}

// lockFile reads the lock file; nil if there is none.
func (g *gatewayComposer) lockFile(ctx context.Context) (text []byte, own map[string]bool, err error) {
	if g.local {
		ref, err := frontend.ContextFiles(ctx, g.gw, []string{lock.FileName})
		if err == nil {
			text, err = fs.ReadFile(frontend.RefFS(ctx, ref, ""), lock.FileName)
		}
		return text, nil, noLock(err)
	}
	// Part of a repository is built with what is locked for all of it.
	attrs := maps.Clone(g.gw.BuildOpts().Opts)
	delete(attrs, "contextsubdir")
	ui, err := dockerui.NewClient(&frontend.Subdir{Client: g.gw, Opts: attrs})
	if err != nil {
		return nil, nil, err
	}
	st, err := ui.MainContext(ctx)
	if err != nil {
		return nil, nil, err
	}
	def, err := st.Marshal(ctx, llb.WithCaps(g.gw.BuildOpts().LLBCaps))
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling llb: %w", err)
	}
	res, err := g.gw.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, nil, err
	}
	ref, err := res.SingleRef()
	if err != nil || ref == nil {
		return nil, nil, err
	}
	text, err = fs.ReadFile(frontend.RefFS(ctx, ref, ""), lock.FileName)
	if err = noLock(err); err != nil || text == nil {
		return nil, nil, err
	}
	own = map[string]bool{}
	list, err := definitionSources(def.ToPB())
	for _, src := range list {
		own[src.Scheme+"://"+src.Ref] = true
	}
	return text, own, err
}

// noLock takes it for no error that there is no lock file, nor that there is no build
// context: builds that read no files need none.
func noLock(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, none := range []string{"no access allowed to dir", "no local sources enabled"} {
		if strings.Contains(err.Error(), none) {
			return nil
		}
	}
	return fmt.Errorf("reading %s: %w", lock.FileName, err)
}

// ResolveImageConfig implements gwclient.Client.
func (g *lockedGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	pinned, locked := g.pinImage(ref, opt)
	if !locked {
		return g.Client.ResolveImageConfig(ctx, ref, opt)
	}
	_, _, config, err := g.Client.ResolveImageConfig(ctx, pinned.String(), opt)
	return ref, pinned.Digest(), config, err
}

// pinImage gives the digest that an image is locked to.
func (g *lockedGateway) pinImage(ref string, opt sourceresolver.Opt) (reference.Canonical, bool) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || opt.ImageOpt == nil {
		return nil, false
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, false
	}
	named = reference.TagNameOnly(named)
	p := platforms.DefaultSpec()
	if workers := g.BuildOpts().Workers; len(workers) > 0 && len(workers[0].Platforms) > 0 {
		p = workers[0].Platforms[0]
	}
	if opt.ImageOpt.Platform != nil {
		p = *opt.ImageOpt.Platform
	}
	v, ok := g.lock.Get(lock.Image, named.String(), platforms.FormatAll(platforms.Normalize(p)))
	if !ok {
		return nil, false
	}
	pinned, err := reference.WithDigest(named, digest.Digest(v))
	return pinned, err == nil
}

// Solve implements gwclient.Client.
func (g *lockedGateway) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if req.Definition == nil {
		return g.Client.Solve(ctx, req) // of another frontend, which reads the lock or does not know it
	}
	list, err := definitionSources(req.Definition)
	if err != nil {
		return nil, err
	}
	rules := slices.DeleteFunc(slices.Concat(imageRules(g.lock), sourceRules(g.lock, list)), func(r *spb.Rule) bool {
		return g.own[r.Selector.Identifier]
	})
	if len(rules) > 0 {
		req.SourcePolicies = append(slices.Clone(req.SourcePolicies), &spb.Policy{Version: 1, Rules: rules})
	}
	return g.Client.Solve(ctx, req)
}

// definitionSources are what a definition reads from outside.
func definitionSources(def *pb.Definition) ([]graph.Source, error) {
	var list []graph.Source
	for _, data := range def.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			return nil, fmt.Errorf("reading llb: %w", err)
		}
		if src := op.GetSource(); src != nil {
			list = append(list, opSource(src))
		}
	}
	return list, nil
}

// opSource is a source of LLB as a stage has it.
func opSource(src *pb.SourceOp) graph.Source {
	scheme, ref, _ := strings.Cut(src.Identifier, "://")
	return graph.Source{Scheme: scheme, Ref: ref, Attrs: src.Attrs}
}
