package engine

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// checkEntitlements refuses steps that ask for more than the request grants. The
// daemon would do so, too, but cannot say which step it is.
func (j *job) checkEntitlements(g *graph.Graph) error {
	for _, s := range g.Stages() {
		ops := map[digest.Digest][]byte{}
		for _, def := range s.Definition.GetDef() {
			ops[digest.FromBytes(def)] = def
		}
		for _, step := range s.Steps {
			var op pb.Op
			if err := op.UnmarshalVT(ops[step.Digest]); err != nil {
				return fmt.Errorf("reading the step %q: %w", step.Name, err)
			}
			if need := entitlementOf(op.GetExec()); need != "" && !slices.Contains(j.entitlements, need) {
				return &graph.PosError{Pos: step.Pos, Err: fmt.Errorf("the step needs the entitlement %s: grant it with --allow %s", need, need), Source: sourceOf(s, step.Pos)}
			}
		}
	}
	return nil
}

// entitlementOf is what a step needs to be granted, empty for nothing. What holds
// for devices depends on the daemon.
func entitlementOf(op *pb.ExecOp) string {
	switch {
	case op.GetSecurity() == pb.SecurityMode_INSECURE:
		return string(entitlements.EntitlementSecurityInsecure)
	case op.GetNetwork() == pb.NetMode_HOST:
		return string(entitlements.EntitlementNetworkHost)
	}
	return ""
}

// sourceOf is the text of the file that a position of the stage points into.
func sourceOf(s *graph.Stage, p graph.Pos) []byte {
	for _, info := range s.Definition.GetSource().GetInfos() {
		if info.Filename == p.File {
			return info.Data
		}
	}
	return nil
}
