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
func Dot(w io.Writer, g *Graph) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "digraph zlayer {\n\trankdir=LR;\n\tnode [shape=box];")
	labels, outputs, names := g.labels(), g.outputSet(), g.nodeNames()
	for _, s := range g.stages {
		extra := ""
		if outputs[s.ID] {
			extra = ", peripheries=2"
		}
		fmt.Fprintf(out, "\t%s [label=%s%s];\n", names[s.ID], dotQuote(labels[s.ID]), extra)
	}
	g.eachEdge(func(from, to *Stage, kind InputKind) {
		style := map[InputKind]string{InputCopy: " [style=dashed]", InputMount: " [style=dotted]"}[kind]
		fmt.Fprintf(out, "\t%s -> %s%s;\n", names[from.ID], names[to.ID], style)
	})
	fmt.Fprintln(out, "}")
	return out.Flush()
}

// Mermaid writes g in the language of Mermaid, which code hosts draw in Markdown.
// Outputs are round; the kind of an edge is its text, none for a base.
func Mermaid(w io.Writer, g *Graph) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "flowchart LR")
	labels, outputs, names := g.labels(), g.outputSet(), g.nodeNames()
	for _, s := range g.stages {
		left, right := "[", "]"
		if outputs[s.ID] {
			left, right = "([", "])"
		}
		fmt.Fprintf(out, "    %s%s\"%s\"%s\n", names[s.ID], left, mermaidEscape(labels[s.ID]), right)
	}
	g.eachEdge(func(from, to *Stage, kind InputKind) {
		arrow := "-->"
		if kind != InputBase {
			arrow = fmt.Sprintf("-.->|%s|", kind)
		}
		fmt.Fprintf(out, "    %s %s %s\n", names[from.ID], arrow, names[to.ID])
	})
	return out.Flush()
}

// nodeNames gives each stage a name that both languages take.
func (g *Graph) nodeNames() map[digest.Digest]string {
	names := make(map[digest.Digest]string, len(g.stages))
	for i, s := range g.stages {
		names[s.ID] = fmt.Sprintf("s%d", i)
	}
	return names
}

// eachEdge calls f once for each pair of stages and kind, in graph order.
func (g *Graph) eachEdge(f func(from, to *Stage, kind InputKind)) {
	type edge struct {
		from digest.Digest
		kind InputKind
	}
	for _, to := range g.stages {
		seen := make(map[edge]bool, len(to.Inputs))
		for _, in := range to.Inputs {
			if e := (edge{in.Stage.ID, in.Kind}); !seen[e] {
				seen[e] = true
				f(g.byID[in.Stage.ID], to, in.Kind)
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
