package engine

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// ownNames gives directories that still have the name by which the build file calls
// them the one that no other directory has: whoever is based on the build may call
// another directory so. These are named contexts of which several steps take different
// files.
func (c *composer) ownNames(g *graph.Graph, dirs map[string]string) (*graph.Graph, error) {
	called := func(scheme, name string) bool { return scheme == "local" && dirs[name] != "" }
	if !slices.ContainsFunc(g.Stages(), func(s *graph.Stage) bool {
		return slices.ContainsFunc(s.Sources, func(src graph.Source) bool { return called(src.Scheme, src.Ref) })
	}) {
		return g, nil
	}
	return graph.Rewrite(g, func(_ digest.Digest, op *pb.Op) (bool, error) {
		scheme, name, _ := strings.Cut(op.GetSource().GetIdentifier(), "://")
		if !called(scheme, name) {
			return false, nil
		}
		op.GetSource().Identifier = "local://" + c.job.localName(name, dirs[name])
		return true, nil
	}, graph.Rewriting{})
}
