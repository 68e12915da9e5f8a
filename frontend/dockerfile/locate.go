package dockerfile

import (
	"errors"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// locate turns the line ranges that the parser and the lowering attach to their
// errors into BuildKit source errors, which keep the file's text and cross gRPC.
func (b *build) locate(err error) error {
	var le *parser.LocationError
	if !errors.As(err, &le) {
		return err
	}
	for _, loc := range le.Locations {
		err = b.withSource(err, loc)
	}
	return err
}

func (b *build) withSource(err error, loc []parser.Range) error {
	sm := b.src.SourceMap
	if sm == nil {
		return err
	}
	return errdefs.WithSource(err, &errdefs.Source{
		Info: &pb.SourceInfo{
			Data:       sm.Data,
			Filename:   sm.Filename,
			Language:   sm.Language,
			Definition: sm.Definition.ToPB(),
		},
		Ranges: pbRanges(loc),
	})
}

func pbRanges(loc []parser.Range) []*pb.Range {
	if loc == nil {
		return nil
	}
	out := make([]*pb.Range, len(loc))
	for i, r := range loc {
		out[i] = &pb.Range{Start: pbPosition(r.Start), End: pbPosition(r.End)}
	}
	return out
}

func pbPosition(p parser.Position) *pb.Position {
	return &pb.Position{Line: int32(p.Line), Character: int32(p.Character)}
}
