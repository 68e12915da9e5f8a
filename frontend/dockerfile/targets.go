package dockerfile

import (
	"bytes"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	"github.com/moby/buildkit/solver/pb"
)

// silent is a linter that tells nobody. BuildKit's parser takes nil for one, too, but panics on it
// where a "# check=" comment stands above an instruction.
func silent() *linter.Linter { return linter.New(&linter.Config{}) }

// listTargets answers the subrequest for the targets of a Dockerfile, as dockerfile2llb.ListTargets
// does, which panics on the comments that [silent] is about.
func listTargets(text []byte) (*targets.List, error) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(ast.AST, silent())
	if err != nil {
		return nil, err
	}
	list := &targets.List{Sources: [][]byte{text}}
	for i, st := range stages {
		list.Targets = append(list.Targets, targets.Target{
			Name:        st.Name,
			Default:     i == len(stages)-1,
			Description: st.DocComment,
			Base:        st.BaseName,
			Platform:    st.Platform,
			Location:    targetLocation(st.Location),
		})
	}
	return list, nil
}

func targetLocation(ranges []parser.Range) *pb.Location {
	if len(ranges) == 0 {
		return nil
	}
	loc := &pb.Location{}
	for _, r := range ranges {
		loc.Ranges = append(loc.Ranges, &pb.Range{Start: position(r.Start), End: position(r.End)})
	}
	return loc
}

func position(p parser.Position) *pb.Position {
	return &pb.Position{Line: int32(p.Line), Character: int32(p.Character)}
}
