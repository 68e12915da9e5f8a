package dockerfile

import (
	"bytes"
	"errors"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/zlayer-dev/zlayer/graph"
)

// locate turns the line ranges that the parser and the lowering attach to their
// errors into BuildKit source errors, which keep the file's text and cross gRPC.
func (b *build) locate(err error) error {
	var ne *nestedError
	var le *parser.LocationError
	if errors.As(err, &ne) || !errors.As(err, &le) {
		return err // the lines in a nested error are those of another file
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
	filename := sm.Filename
	if len(loc) > 0 {
		filename = b.filename(loc[0].Start.Line)
	}
	return errdefs.WithSource(err, &errdefs.Source{
		Info: &pb.SourceInfo{
			Data:       sm.Data,
			Filename:   filename,
			Language:   sm.Language,
			Definition: sm.Definition.ToPB(),
		},
		Ranges: b.ranges(loc),
	})
}

// ranges translates lines of the Dockerfile to those of the file the user wrote.
func (b *build) ranges(loc []parser.Range) []*pb.Range {
	if loc == nil {
		return nil
	}
	out := make([]*pb.Range, len(loc))
	for i, r := range loc {
		out[i] = &pb.Range{Start: pbPosition(r.Start), End: pbPosition(r.End)}
		b.relocate(out[i])
	}
	return out
}

func pbPosition(p parser.Position) *pb.Position {
	return &pb.Position{Line: int32(p.Line), Character: int32(p.Character)}
}

// relocate moves a range from the Dockerfile to the text it stands for.
func (b *build) relocate(r *pb.Range) {
	if b.converted == nil || r.Start == nil {
		return
	}
	start := b.converted.Pos(int(r.Start.Line))
	end := start
	if r.End != nil && r.End.Line > r.Start.Line {
		end = b.converted.Pos(int(r.End.Line))
	}
	last := max(end.Line, end.EndLine, start.Line)
	r.Start = &pb.Position{Line: int32(start.Line), Character: int32(max(start.Column-1, 0))}
	r.End = &pb.Position{Line: int32(last)}
}

// filename is the file that a line of the Dockerfile comes from.
func (b *build) filename(line int) string {
	if b.converted != nil && b.converted.Files {
		if p := b.converted.Pos(line); p.File != "" {
			return p.File
		}
	}
	return b.src.Filename
}

// relocateAll does so for every operation that the build file itself asks for.
func (b *build) relocateAll(src *pb.Source) {
	if b.converted == nil || src == nil {
		return
	}
	own := make([]bool, len(src.Infos))
	for i, info := range src.Infos {
		own[i] = b.isOwn(info.Filename, info.Language, info.Data)
	}
	files := map[string]int32{}
	for _, locs := range src.Locations {
		for _, l := range locs.Locations {
			if i := int(l.SourceIndex); i < len(own) && own[i] && len(l.Ranges) > 0 && l.Ranges[0].Start != nil {
				b.nameFile(src, l, files)
				for _, r := range l.Ranges {
					b.relocate(r)
				}
			}
		}
	}
}

// isOwn reports whether a file is the build file rather than one of a nested build.
func (b *build) isOwn(filename, language string, data []byte) bool {
	return filename == b.src.Filename && language == b.src.Language && bytes.Equal(data, b.src.Data)
}

// nameFile gives a location the file that it is in; files are those added so far.
func (b *build) nameFile(src *pb.Source, l *pb.Location, files map[string]int32) {
	name := b.filename(int(l.Ranges[0].Start.Line))
	if name == b.src.Filename {
		return
	}
	i, ok := files[name]
	if !ok {
		info := src.Infos[l.SourceIndex].CloneVT()
		info.Filename = name
		i = int32(len(src.Infos))
		src.Infos, files[name] = append(src.Infos, info), i
	}
	l.SourceIndex = i
}

// pos is where an instruction of the Dockerfile stands.
func (b *build) pos(loc []parser.Range) graph.Pos {
	rs := b.ranges(loc)
	if len(rs) == 0 || rs[0].Start == nil {
		return graph.Pos{File: b.src.Filename}
	}
	p := graph.Pos{File: b.filename(loc[0].Start.Line), Line: int(rs[0].Start.Line)}
	if b.converted != nil && rs[0].Start.Character > 0 {
		p.Column = int(rs[0].Start.Character) + 1
	}
	return p
}
