package graph

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// Dot writes g in the language of Graphviz: stages as boxes, outputs with a double
// line; edges point from what is read to what reads it, dashed for files that are
// copied, dotted for mounts.
func Dot(w io.Writer, g *Graph) error { return g.Picture().Dot(w) }

// Dot writes the picture as [Dot] writes a graph. What does not run is grey, what failed
// red, the critical path thick.
func (p *Picture) Dot(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "digraph zlayer {\n\trankdir=LR;\n\tnode [shape=box];")
	labels, outputs, names := p.labels(), p.outputSet(), p.nodeNames()
	for i := range p.Stages {
		s := &p.Stages[i]
		extra := ""
		if outputs[s.ID] {
			extra += ", peripheries=2"
		}
		if color := s.color(); color != "" {
			extra += fmt.Sprintf(", color=%q, fontcolor=%q", color, color)
		}
		if s.Critical {
			extra += ", penwidth=3"
		}
		fmt.Fprintf(out, "\t%s [label=%s%s];\n", names[s.ID], dotQuote(s.label(labels)), extra)
	}
	p.eachEdge(func(from, to *PictureStage, kind InputKind) {
		style := map[InputKind]string{InputCopy: " [style=dashed]", InputMount: " [style=dotted]"}[kind]
		fmt.Fprintf(out, "\t%s -> %s%s;\n", names[from.ID], names[to.ID], style)
	})
	fmt.Fprintln(out, "}")
	return out.Flush()
}

// Mermaid writes g in the language of Mermaid, which code hosts draw in Markdown.
// Outputs are round; the kind of an edge is its text, none for a base.
func Mermaid(w io.Writer, g *Graph) error { return g.Picture().Mermaid(w) }

// Mermaid writes the picture as [Mermaid] writes a graph, with the colours of
// [Picture.Dot].
func (p *Picture) Mermaid(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "flowchart LR")
	labels, outputs, names := p.labels(), p.outputSet(), p.nodeNames()
	for i := range p.Stages {
		s := &p.Stages[i]
		left, right := "[", "]"
		if outputs[s.ID] {
			left, right = "([", "])"
		}
		fmt.Fprintf(out, "    %s%s\"%s\"%s\n", names[s.ID], left, mermaidEscape(s.label(labels)), right)
		var style []string
		if color := s.color(); color != "" {
			style = append(style, "stroke:"+color, "color:"+color)
		}
		if s.Critical {
			style = append(style, "stroke-width:4px")
		}
		if len(style) > 0 {
			fmt.Fprintf(out, "    style %s %s\n", names[s.ID], strings.Join(style, ","))
		}
	}
	p.eachEdge(func(from, to *PictureStage, kind InputKind) {
		arrow := "-->"
		if kind != InputBase {
			arrow = fmt.Sprintf("-.->|%s|", kind)
		}
		fmt.Fprintf(out, "    %s %s %s\n", names[from.ID], arrow, names[to.ID])
	})
	return out.Flush()
}

// label is the text of a stage, with what is known about it.
func (s *PictureStage) label(labels map[digest.Digest]string) string {
	parts := s.course()
	if n := len(parts); n > 0 && s.Critical {
		parts = parts[:n-1] // the line says it
	}
	if len(parts) == 0 {
		return labels[s.ID]
	}
	return labels[s.ID] + " (" + strings.Join(parts, ", ") + ")"
}

// color is that of a stage, "" for none of its own.
func (s *PictureStage) color() string {
	switch s.State {
	case StateMemoized, StateUnchanged, StateCached, StateSkipped:
		return "#888888"
	case StateFailed:
		return "#cc0000"
	}
	return ""
}

// nodeNames gives each stage a name that both languages take.
func (p *Picture) nodeNames() map[digest.Digest]string {
	names := make(map[digest.Digest]string, len(p.Stages))
	for i := range p.Stages {
		names[p.Stages[i].ID] = fmt.Sprintf("s%d", i)
	}
	return names
}

// eachEdge calls f once for each pair of stages and kind, in graph order.
func (p *Picture) eachEdge(f func(from, to *PictureStage, kind InputKind)) {
	type edge struct {
		from digest.Digest
		kind InputKind
	}
	byID := map[digest.Digest]*PictureStage{}
	for i := range p.Stages {
		to := &p.Stages[i]
		byID[to.ID] = to
		seen := make(map[edge]bool, len(to.Inputs))
		for _, in := range to.Inputs {
			from, e := byID[in.ID], edge{in.ID, in.Kind}
			if from != nil && !seen[e] {
				seen[e] = true
				f(from, to, in.Kind)
			}
		}
	}
}

func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "").Replace(s) + `"`
}

// mermaidEscape writes what means something to Mermaid or to HTML as entities of
// Mermaid's own kind.
func mermaidEscape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < ' ' || strings.ContainsRune("#\"<>&;`\\", r) {
			fmt.Fprintf(&b, "#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
