package graph

import (
	"encoding/json"
	"io"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
)

type jsonGraph struct {
	Stages  []jsonStage     `json:"stages"`
	Outputs []digest.Digest `json:"outputs"`
}

type jsonStage struct {
	ID       digest.Digest `json:"id"`
	Name     string        `json:"name"`
	Platform string        `json:"platform"`
	Pos      *Pos          `json:"pos,omitempty"`
	Head     digest.Digest `json:"head,omitempty"`
	Inputs   []jsonInput   `json:"inputs,omitempty"`
	Steps    []jsonStep    `json:"steps,omitempty"`
}

type jsonInput struct {
	ID   digest.Digest `json:"id"`
	Kind InputKind     `json:"kind"`
	Pos  *Pos          `json:"pos,omitempty"`
}

type jsonStep struct {
	Digest digest.Digest `json:"digest"`
	Name   string        `json:"name"`
	Pos    *Pos          `json:"pos,omitempty"`
	Source *jsonSource   `json:"source,omitempty"`
}

type jsonSource struct {
	Scheme string            `json:"scheme"`
	Ref    string            `json:"ref"`
	Attrs  map[string]string `json:"attrs,omitempty"`
}

// JSON writes g for programs: {"stages": [...], "outputs": [ids]}, stages in graph
// order. A stage has id, name, platform, pos, head, inputs (id, kind, pos) and steps
// (digest, name, pos, and for what is read from outside source: scheme, ref, attrs).
// What is empty is left out.
func JSON(w io.Writer, g *Graph) error {
	out := jsonGraph{}
	for _, s := range g.stages {
		js := jsonStage{ID: s.ID, Name: s.Name, Platform: platforms.FormatAll(s.Platform), Pos: jsonPos(s.Pos), Head: s.Head}
		for _, in := range s.Inputs {
			js.Inputs = append(js.Inputs, jsonInput{in.Stage.ID, in.Kind, jsonPos(in.Pos)})
		}
		for _, st := range s.Steps {
			step := jsonStep{Digest: st.Digest, Name: st.Name, Pos: jsonPos(st.Pos)}
			if src := st.Source; src != nil {
				step.Source = &jsonSource{src.Scheme, src.Ref, src.Attrs}
			}
			js.Steps = append(js.Steps, step)
		}
		out.Stages = append(out.Stages, js)
	}
	for _, o := range g.outputs {
		out.Outputs = append(out.Outputs, o.ID)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func jsonPos(p Pos) *Pos {
	if p.IsZero() {
		return nil
	}
	return &p
}
