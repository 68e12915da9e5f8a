package dockerfile

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// BuiltinMinor is the minor version n of the docker/dockerfile:1.n frontend that
// the BuildKit release we are built with contains (moby/buildkit#7086).
const BuiltinMinor = 28

// syntaxArg is the build argument that overrides a Dockerfile's syntax line.
const syntaxArg = "build-arg:BUILDKIT_SYNTAX"

// syntax is a frontend image that a build asks for.
type syntax struct {
	ref     string
	cmdline string
	// loc is the place of the syntax line; nil when an argument asked for it.
	loc []parser.Range
}

// external returns the frontend image to hand the build to; ok is false when the
// built-in frontend serves it.
func (b *build) external() (s syntax, ok bool) {
	if _, inside := b.opts["cmdline"]; inside {
		// A gateway frontend is already running us: the syntax line has been obeyed.
		return syntax{}, false
	}
	if arg, set := b.opts[syntaxArg]; set {
		ref, _, _ := strings.Cut(strings.TrimSpace(arg), " ")
		return syntax{ref: ref, cmdline: arg}, !Builtin(ref)
	}
	ref, cmdline, loc, found := parser.DetectSyntax(b.text)
	if !found || Builtin(ref) {
		return syntax{}, false
	}
	return syntax{ref: ref, cmdline: cmdline, loc: loc}, true
}

// Builtin reports whether the built-in frontend serves the frontend image ref:
// docker/dockerfile at version 1 or at a 1.x (1.x.y) that is not newer. Other
// channels (labs, upstream), newer versions, digests and foreign images are not
// ours to imitate.
func Builtin(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || named.Name() != "docker.io/docker/dockerfile" {
		return false
	}
	if _, pinned := named.(reference.Digested); pinned {
		return false
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return false
	}
	parts := strings.Split(tagged.Tag(), ".")
	if parts[0] != "1" || len(parts) > 3 {
		return false
	}
	for i, p := range parts[1:] {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || strconv.Itoa(n) != p {
			return false
		}
		// Of the built-in minor version, only the release without patches is
		// certain to be ours.
		if i == 0 && n > BuiltinMinor || i == 1 && parts[1] == strconv.Itoa(BuiltinMinor) && n > 0 {
			return false
		}
	}
	return true
}

// forward hands the build to an external frontend.
func (b *build) forward(ctx context.Context, s syntax) (*gwclient.Result, error) {
	res, err := b.gateway(ctx, s)
	if err == nil || len(errdefs.Sources(err)) > 0 {
		return res, err
	}
	if s.loc == nil {
		return nil, fmt.Errorf("failed with %s = %s: %w", syntaxArg, s.cmdline, err)
	}
	return nil, b.withSource(err, s.loc)
}

func (b *build) gateway(ctx context.Context, s syntax) (*gwclient.Result, error) {
	opts := map[string]string{}
	for k, v := range b.opts {
		opts[k] = v
	}
	opts["cmdline"], opts["source"] = s.cmdline, s.ref

	inputs := map[string]*pb.Definition{}
	caps := b.client.BuildOpts().Caps
	if caps.Supports(gwpb.CapFrontendInputs) == nil {
		states, err := b.client.Inputs(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading frontend inputs: %w", err)
		}
		for name, st := range states {
			def, err := st.Marshal(ctx)
			if err != nil {
				return nil, err
			}
			inputs[name] = def.ToPB()
		}
	}
	return b.client.Solve(ctx, gwclient.SolveRequest{
		Frontend:       "gateway.v0",
		FrontendOpt:    opts,
		FrontendInputs: inputs,
	})
}
