package graph

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// Fprint writes g as text for people and golden files, inputs before those that read
// them: a line a stage, with its short ID in a column of its own so that a changed
// identity shows as such, then what it reads and its steps.
//
//	5e0f1c2ab94d  build  linux/amd64  Dockerfile:3  output
//	              base   deps  Dockerfile:3
//	              step   Dockerfile:4  [build 2/2] RUN make
//	              fetch  Dockerfile:1  docker-image://docker.io/library/golang:1.26
//
// Kinds of inputs are "base", "copy" and "mount"; a step that reads from outside is a
// "fetch". The text is not meant to be parsed, see [JSON].
func Fprint(w io.Writer, g *Graph) error { return g.Picture().Text(w) }

// Text writes the picture as [Fprint] writes a graph. What is known about a stage stands
// after the rest of its line.
func (p *Picture) Text(w io.Writer) error {
	out := bufio.NewWriter(w)
	labels, outputs := p.labels(), p.outputSet()
	for i := range p.Stages {
		s := &p.Stages[i]
		line := []string{s.Name, s.Platform}
		if pos := s.Pos.text(); pos != "" {
			line = append(line, pos)
		}
		if outputs[s.ID] {
			line = append(line, "output")
		}
		line = append(line, s.course()...)
		fmt.Fprintf(out, "%s  %s\n", ShortID(s.ID), strings.Join(line, "  "))
		for _, in := range s.Inputs {
			detail(out, string(in.Kind), labels[in.ID], in.Pos.text())
		}
		for _, st := range s.Steps {
			kind := "step"
			if st.Source != nil {
				kind = "fetch"
			}
			detail(out, kind, st.Pos.text(), oneLine(st.Name))
		}
	}
	return out.Flush()
}

// detail writes an indented line of a stage and leaves out empty parts.
func detail(w io.Writer, kind string, parts ...string) {
	fmt.Fprintf(w, "%*s%-5s", shortLen+2, "", kind)
	for _, p := range parts {
		if p != "" {
			fmt.Fprintf(w, "  %s", p)
		}
	}
	fmt.Fprintln(w)
}

// oneLine keeps a name that holds line breaks, as that of a heredoc does, on one line.
func oneLine(s string) string {
	return strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(s)
}

const shortLen = 12

// ShortID is the form of a digest that people are shown: the first 12 digits.
func ShortID(d digest.Digest) string {
	_, hex, ok := strings.Cut(string(d), ":")
	if !ok {
		hex = string(d)
	}
	return hex[:min(shortLen, len(hex))]
}
