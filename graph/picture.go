package graph

import (
	"time"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
)

// States of a stage. The first three say how a build would go, the others how one went.
const (
	StateMemoized  = "memoized"  // an earlier build is remembered: no daemon is needed
	StateUnchanged = "unchanged" // as in the last build, so that the daemon should have it
	StateRuns      = "runs"      // new or changed

	StateBuilt   = "built"
	StateCached  = "cached" // the daemon had it
	StateFailed  = "failed"
	StateSkipped = "skipped" // because something else failed
)

// Picture is a graph as it is shown and kept: without operations, with what is known
// about how a build of it goes or went.
type Picture struct {
	// Stages are in graph order: inputs before those that read them.
	Stages  []PictureStage  `json:"stages"`
	Outputs []digest.Digest `json:"outputs"`
}

// PictureStage is one stage.
type PictureStage struct {
	ID       digest.Digest  `json:"id"`
	Name     string         `json:"name"`
	Platform string         `json:"platform"`
	Pos      *Pos           `json:"pos,omitempty"`
	Head     digest.Digest  `json:"head,omitempty"`
	Inputs   []PictureInput `json:"inputs,omitempty"`
	Steps    []PictureStep  `json:"steps,omitempty"`

	// State is how it stands with the stage, one of the constants; empty where nothing is
	// known.
	State string `json:"state,omitempty"`
	// Started is when it began, from the start of the build, and Took how long it was
	// worked on.
	Started time.Duration `json:"startedNanoseconds,omitempty"`
	Took    time.Duration `json:"tookNanoseconds,omitempty"`
	// Critical: the build would have ended earlier had the stage taken less time.
	Critical bool `json:"critical,omitempty"`
}

// PictureInput is an edge.
type PictureInput struct {
	ID   digest.Digest `json:"id"`
	Kind InputKind     `json:"kind"`
	Pos  *Pos          `json:"pos,omitempty"`
}

// PictureStep is one step.
type PictureStep struct {
	Digest digest.Digest  `json:"digest"`
	Name   string         `json:"name"`
	Pos    *Pos           `json:"pos,omitempty"`
	Source *PictureSource `json:"source,omitempty"`
}

// PictureSource is what a step reads from outside.
type PictureSource struct {
	Scheme string            `json:"scheme"`
	Ref    string            `json:"ref"`
	Attrs  map[string]string `json:"attrs,omitempty"`
}

// Picture makes the picture of g, of which no states are known.
func (g *Graph) Picture() *Picture {
	p := &Picture{}
	for _, s := range g.stages {
		ps := PictureStage{ID: s.ID, Name: s.Name, Platform: platforms.FormatAll(s.Platform), Pos: posOrNil(s.Pos), Head: s.Head}
		for _, in := range s.Inputs {
			ps.Inputs = append(ps.Inputs, PictureInput{in.Stage.ID, in.Kind, posOrNil(in.Pos)})
		}
		for _, st := range s.Steps {
			step := PictureStep{Digest: st.Digest, Name: st.Name, Pos: posOrNil(st.Pos)}
			if src := st.Source; src != nil {
				step.Source = &PictureSource{src.Scheme, src.Ref, src.Attrs}
			}
			ps.Steps = append(ps.Steps, step)
		}
		p.Stages = append(p.Stages, ps)
	}
	for _, o := range g.outputs {
		p.Outputs = append(p.Outputs, o.ID)
	}
	return p
}

// MarkCritical marks the critical path: what ended last, of its inputs the one that ended
// last, and so on. It begins with a stage that none reads which was worked on: the end of
// an input may be heard of after that of its reader.
func (p *Picture) MarkCritical() {
	byID, read := map[digest.Digest]*PictureStage{}, map[digest.Digest]bool{}
	for i := range p.Stages {
		s := &p.Stages[i]
		byID[s.ID], s.Critical = s, false
		for _, in := range s.Inputs {
			read[in.ID] = read[in.ID] || s.Took > 0
		}
	}
	var last *PictureStage
	for i := range p.Stages {
		if s := &p.Stages[i]; !read[s.ID] {
			last = later(last, s)
		}
	}
	for last != nil {
		last.Critical = true
		var next *PictureStage
		for _, in := range last.Inputs {
			next = later(next, byID[in.ID])
		}
		last = next
	}
}

// later is the one of two stages that ended last, of those that were worked on.
func later(a, b *PictureStage) *PictureStage {
	if b == nil || b.Took == 0 || a != nil && a.Started+a.Took >= b.Started+b.Took {
		return a
	}
	return b
}

// posOrNil is nil for the zero Pos.
func posOrNil(p Pos) *Pos {
	if p.IsZero() {
		return nil
	}
	return &p
}

// text is the position, "" for none.
func (p *Pos) text() string {
	if p == nil {
		return ""
	}
	return p.String()
}

// labels gives each stage a text that no other stage has: its name, with the platform
// where names meet, with the short ID where those meet too.
func (p *Picture) labels() map[digest.Digest]string {
	names, full := map[string]int{}, map[string]int{}
	withPlatform := func(s *PictureStage) string { return s.Name + " " + s.Platform }
	for i := range p.Stages {
		names[p.Stages[i].Name]++
		full[withPlatform(&p.Stages[i])]++
	}
	labels := make(map[digest.Digest]string, len(p.Stages))
	for i := range p.Stages {
		s := &p.Stages[i]
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

func (p *Picture) outputSet() map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(p.Outputs))
	for _, o := range p.Outputs {
		set[o] = true
	}
	return set
}

// course says how it stands with a stage, in parts; none where nothing is known.
func (s *PictureStage) course() []string {
	var parts []string
	if s.State != "" {
		parts = append(parts, s.State)
	}
	if s.Took > 0 {
		parts = append(parts, s.Took.Round(time.Millisecond).String())
	}
	if s.Critical {
		parts = append(parts, "critical")
	}
	return parts
}
