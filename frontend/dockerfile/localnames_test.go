package dockerfile

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// Local sources have the names of Options.Local, whether a Dockerfile is lowered once or
// twice, and however many sources a named context is: that of one directory is several
// where steps take different files.
func TestLocalNames(t *testing.T) {
	const text = "FROM scratch AS a\nCOPY --from=assets one /\nCOPY one /\nFROM scratch\nCOPY --from=assets two /\nCOPY --from=a / /\n"
	// A nested build has given its sources their names; one is called as the file calls another.
	theirs := nestedBase(t, "FROM scratch\nCOPY one /\n", "other")
	g, err := graph.New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = renameAll(g, "assets"); err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string]string{"once": "", "twice": "ARG BUILDKIT_SBOM_SCAN_STAGE\n"} {
		gw := newGateway(t, map[string]string{"Dockerfile": head + text + "COPY --from=nested / /\n", "one": "1", "two": "2"}, map[string]string{"context:assets": "local:assets"})
		g, err := Compile(t.Context(), gw, Options{
			Local: func(name string) string { return "own-" + name },
			Nested: func(_ context.Context, ref Reference) (*graph.Stage, error) {
				if ref.Name != "nested" {
					return nil, nil
				}
				return theirs, nil
			},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, s := range g.Stages() {
			for _, src := range s.Sources {
				if src.Scheme == "local" {
					got = append(got, s.Name+" "+src.Ref)
				}
			}
		}
		slices.Sort(got)
		if want := []string{"a own-assets", "a own-context", "stage-0 assets", "stage-1 own-assets"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// renameAll gives every local source of a graph one name.
func renameAll(g *graph.Graph, name string) (*graph.Stage, error) {
	g, err := graph.Rewrite(g, func(_ digest.Digest, op *pb.Op) (bool, error) {
		if src := op.GetSource(); src != nil && strings.HasPrefix(src.Identifier, "local://") {
			src.Identifier = "local://" + name
			return true, nil
		}
		return false, nil
	}, graph.Rewriting{})
	if err != nil {
		return nil, err
	}
	return g.Outputs()[0], nil
}
