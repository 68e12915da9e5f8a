package dockerfile

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/graph"
)

// place gives those errors of the lowering a place that BuildKit gives none: the
// instruction they are about is found again by what it says. f is nil where the
// Dockerfile has no stages.
func place(err error, text []byte, f *file) error {
	var le *parser.LocationError
	if errors.As(err, &le) && slices.ContainsFunc(le.Locations, func(l []parser.Range) bool { return len(l) > 0 }) {
		return err
	}
	loc := f.culprit(err.Error(), text)
	if loc == nil {
		return err
	}
	return parser.SetLocation(err, loc)
}

// culprit finds what an error of this text is about; nil where that is not known.
func (f *file) culprit(msg string, text []byte) []parser.Range {
	switch {
	case strings.HasPrefix(msg, "failed to parse check options"):
		_, _, loc, _ := parser.ParseDirective("check", text)
		return loc
	case strings.HasSuffix(msg, "contains no stages to build"):
		return []parser.Range{{Start: parser.Position{Line: 1}, End: parser.Position{Line: 1}}}
	case f == nil:
		return nil
	case strings.HasPrefix(msg, "invalid stage index "):
		return f.copyFrom(func(from string) bool {
			i, err := strconv.Atoi(from)
			return err == nil && (i < 0 || i >= len(f.decls))
		})
	case strings.HasPrefix(msg, "variable expansion is not supported for --from"):
		return f.copyFrom(func(from string) bool { return strings.Contains(from, "$") })
	}
	for _, d := range f.decls {
		for _, n := range d.names {
			if n.kind == graph.InputMount && strings.HasPrefix(msg, n.name+": ") {
				return n.loc
			}
		}
	}
	return nil
}

// copyFrom finds the first COPY whose --from is one that bad describes.
func (f *file) copyFrom(bad func(from string) bool) []parser.Range {
	for _, d := range f.decls {
		for _, n := range d.names {
			if n.kind == graph.InputCopy && bad(n.name) {
				return n.loc
			}
		}
	}
	return nil
}
