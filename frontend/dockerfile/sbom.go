package dockerfile

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/attestations/sbom"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/result"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// scanner returns what makes an SBOM of a result, nil when none is asked for.
func (b *build) scanner(ctx context.Context) (sbom.Scanner, error) {
	want := b.ui.SBOM
	if want == nil {
		return nil, nil
	}
	platform := b.ui.BuildPlatforms[0]
	return sbom.CreateSBOMScanner(ctx, b.client, want.Generator, platform, sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{
			ResolveMode: b.opts["image-resolve-mode"],
			Platform:    &platform,
		},
	}, want.Parameters)
}

// attest scans the target of each platform and adds what the scanner found.
func (b *build) attest(ctx context.Context, scan sbom.Scanner, rb *dockerui.ResultBuilder) error {
	targets := map[string]*dockerfile2llb.Result{}
	for _, o := range b.outputs {
		targets[platformID(o.platform)] = o.result
	}
	return rb.EachPlatform(ctx, func(ctx context.Context, id string, _ ocispecs.Platform) error {
		target := targets[id]
		if target == nil {
			return fmt.Errorf("no scan targets for %s", id)
		}
		var opts []llb.ConstraintsOpt
		if target.IsIgnoreCache {
			opts = append(opts, llb.IgnoreCache)
		}
		att, err := scan(ctx, id, target.SBOM.Core, target.SBOM.Extras, opts...)
		if err != nil {
			return err
		}
		solved, err := result.ConvertAttestation(&att, func(st *llb.State) (gwclient.Reference, error) {
			def, err := b.marshal(ctx, *st)
			if err != nil {
				return nil, err
			}
			res, err := b.client.Solve(ctx, gwclient.SolveRequest{Definition: def})
			if err != nil {
				return nil, err
			}
			return res.Ref, nil
		})
		if err != nil {
			return err
		}
		rb.AddAttestation(id, *solved)
		return nil
	})
}
