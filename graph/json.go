package graph

import (
	"encoding/json"
	"io"
)

// JSON writes g for programs: {"stages": [...], "outputs": [ids]}, stages in graph
// order. A stage has id, name, platform, pos, head, inputs (id, kind, pos) and steps
// (digest, name, pos, and for what is read from outside source: scheme, ref, attrs).
// What is empty is left out.
func JSON(w io.Writer, g *Graph) error { return g.Picture().JSON(w) }

// JSON writes the picture as [JSON] writes a graph, with state, startedNanoseconds,
// tookNanoseconds and critical of stages of which they are known.
func (p *Picture) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(p)
}
