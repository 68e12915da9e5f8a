package frontend

import "github.com/zlayer-dev/zlayer/graph"

// Text is a build file of another language as the Dockerfile it stands for.
type Text struct {
	// Original is what the user wrote, the text that positions and excerpts refer to.
	Original []byte
	// Language names it in progress and provenance, such as "YAML".
	Language string
	// Dockerfile is what it stands for.
	Dockerfile []byte
	// Lines tells for each line of Dockerfile where in Original it comes from;
	// Lines[0] is line 1. A zero Pos stands for the nearest earlier one that is known.
	Lines []graph.Pos
	// Files: Lines is in several files, which the positions name. Original is then empty.
	Files bool
	// Target is the stage of Dockerfile to build; empty is the last one.
	Target string
	// BuildArgs are arguments that Dockerfile needs beside those the user gave.
	BuildArgs map[string]string
}

// Pos returns where line n (from 1) of the Dockerfile comes from.
func (t *Text) Pos(n int) graph.Pos {
	for i := min(n, len(t.Lines)) - 1; i >= 0; i-- {
		if !t.Lines[i].IsZero() {
			return t.Lines[i]
		}
	}
	return graph.Pos{}
}
