package graph

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
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
func Fprint(w io.Writer, g *Graph) error {
	out := bufio.NewWriter(w)
	labels, outputs := g.labels(), g.outputSet()
	for _, s := range g.stages {
		line := []string{s.Name, platforms.FormatAll(s.Platform)}
		if p := s.Pos.String(); p != "" {
			line = append(line, p)
		}
		if outputs[s.ID] {
			line = append(line, "output")
		}
		fmt.Fprintf(out, "%s  %s\n", ShortID(s.ID), strings.Join(line, "  "))
		for _, in := range s.Inputs {
			detail(out, string(in.Kind), labels[in.Stage.ID], in.Pos.String())
		}
		for _, st := range s.Steps {
			kind := "step"
			if st.Source != nil {
				kind = "fetch"
			}
			detail(out, kind, st.Pos.String(), oneLine(st.Name))
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

// labels gives each stage a text that no other stage of g has: its name, with the
// platform where names meet, with the short ID where those meet too.
func (g *Graph) labels() map[digest.Digest]string {
	names, full := map[string]int{}, map[string]int{}
	withPlatform := func(s *Stage) string { return s.Name + " " + platforms.FormatAll(s.Platform) }
	for _, s := range g.stages {
		names[s.Name]++
		full[withPlatform(s)]++
	}
	labels := make(map[digest.Digest]string, len(g.stages))
	for _, s := range g.stages {
		switch label := withPlatform(s); {
		case names[s.Name] == 1:
			labels[s.ID] = s.Name
		case full[label] == 1:
			labels[s.ID] = label
		default:
			labels[s.ID] = label + " " + ShortID(s.ID)
		}
	}
	return labels
}

func (g *Graph) outputSet() map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(g.outputs))
	for _, o := range g.outputs {
		set[o.ID] = true
	}
	return set
}
