package solver

import (
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// vertex is what the stream has said about a step.
type vertex struct {
	status StepStatus
	starts int
	open   bool // a start was reported, its end was not
	hit    bool // found in a cache
	failed bool // ended with an error, and has not started again
}

// Status takes in one message of BuildKit's status stream. Messages must come in the
// order of the stream; Solve may run at the same time. Output and progress of a step
// are reported before its end.
func (t *Tracker) Status(s *client.SolveStatus) {
	t.update(func() {
		last := map[digest.Digest]int{}
		for i, v := range s.Vertexes {
			last[v.Digest] = i
		}
		for i, v := range s.Vertexes {
			t.begin(v)
			if last[v.Digest] != i {
				t.complete(v)
			}
		}
		for _, st := range s.Statuses {
			t.progress(st)
		}
		for _, l := range s.Logs {
			t.emitStep(l.Vertex, Event{Kind: Output, Log: &Log{Stream: l.Stream, Data: l.Data}})
		}
		for _, w := range s.Warnings {
			t.warn(w)
		}
		for i, v := range s.Vertexes {
			if last[v.Digest] == i {
				t.complete(v)
			}
		}
		for _, v := range s.Vertexes {
			t.settleHeads(t.canon(v.Digest))
		}
	})
}

func (t *Tracker) vertex(d digest.Digest) *vertex {
	v := t.vertexes[d]
	if v == nil {
		if t.vertexes == nil {
			t.vertexes = map[digest.Digest]*vertex{}
		}
		v = &vertex{status: StepStatus{Digest: d}}
		t.vertexes[d] = v
	}
	return v
}

// begin takes in what a step is, and its start if that is new.
func (t *Tracker) begin(v *client.Vertex) {
	d := t.canon(v.Digest)
	vs := t.vertex(d)
	vs.status.Name = v.Name
	if len(v.Inputs) > 0 {
		vs.status.Inputs = nil
		for _, in := range v.Inputs {
			vs.status.Inputs = append(vs.status.Inputs, t.canon(in))
		}
	}
	if g := v.ProgressGroup; g != nil {
		vs.status.Group, vs.status.GroupName, vs.status.GroupWeak = g.Id, g.Name, g.Weak
	}
	if v.Started == nil || vs.status.Started != nil && vs.status.Started.Equal(*v.Started) {
		return
	}
	vs.starts++
	vs.open, vs.failed = true, false
	vs.status.Started, vs.status.Completed = cloneTime(v.Started), nil
	vs.status.Cached, vs.status.Error = v.Cached, ""
	so := t.steps[d]
	if so != nil {
		t.start(so.owners[0])
		if runs(v, vs, so) {
			t.ran(so)
		}
	}
	t.emitStep(d, Event{Kind: StepStarted})
}

// runs tells work from looking into the cache and from fetching what was found there.
func runs(v *client.Vertex, vs *vertex, so *stepOf) bool {
	switch {
	case v.Cached || so.local:
		return false
	case len(vs.status.Inputs) > 0:
		return len(v.Inputs) > 0
	}
	return vs.starts > 1 && !vs.hit
}

func (t *Tracker) ran(so *stepOf) {
	for _, st := range so.owners {
		st.ran = true
	}
	t.run = append(t.run, so.owners[0].stage)
}

// complete takes in the end of a step's start, if it has one.
func (t *Tracker) complete(v *client.Vertex) {
	d := t.canon(v.Digest)
	vs := t.vertex(d)
	if v.Completed == nil || !vs.open {
		return
	}
	vs.open, vs.failed = false, v.Error != ""
	vs.status.Completed = cloneTime(v.Completed)
	vs.status.Cached, vs.status.Error = v.Cached, v.Error
	t.emitStep(d, Event{Kind: StepDone})
	if vs.failed {
		t.releaseLate(func(l lateEvent) bool { return l.vertex == d })
		return
	}
	vs.hit = vs.hit || v.Cached
	if v.Cached || len(v.Inputs) > 0 || vs.starts > 1 {
		for _, st := range t.heads[d] {
			st.headSeen = true
		}
	}
}

// settleHeads ends the stages whose last step is d where that is certain: they were
// asked for and are there; or they ran, so that somebody has asked for them, if not
// the Solver.
func (t *Tracker) settleHeads(d digest.Digest) {
	for _, st := range t.heads[d] {
		if st.headSeen && (st.built || st.ran && !st.executing) {
			t.settle(st)
		}
	}
}

// progress takes in how far a counted part of a step is.
func (t *Tracker) progress(s *client.VertexStatus) {
	t.emitStep(s.Vertex, Event{Kind: Progress, Progress: &Transfer{
		ID: s.ID, Name: s.Name, Current: s.Current, Total: s.Total,
		Started: cloneTime(s.Started), Completed: cloneTime(s.Completed),
	}})
}

func (t *Tracker) warn(w *client.VertexWarning) {
	info := &WarningInfo{Level: w.Level, Short: string(w.Short), URL: w.URL, Step: w.Vertex}
	for _, d := range w.Detail {
		info.Detail = append(info.Detail, string(d))
	}
	if w.SourceInfo != nil {
		info.Source = w.SourceInfo.Data
		info.Pos.File = w.SourceInfo.Filename
	}
	if len(w.Range) > 0 && w.Range[0].Start != nil {
		info.Pos.Line = int(w.Range[0].Start.Line)
		if last := w.Range[len(w.Range)-1]; last.End != nil && int(last.End.Line) > info.Pos.Line {
			info.Pos.EndLine = int(last.End.Line)
		}
	}
	e := Event{Kind: Warning, Warning: info}
	if so := t.steps[t.canon(w.Vertex)]; so != nil {
		e.Stage = so.owners[0].stage
	}
	t.emit(e)
}

// emitStep completes an event about a step and emits it.
func (t *Tracker) emitStep(d digest.Digest, e Event) {
	if t.Events == nil {
		return
	}
	d = t.canon(d)
	status := t.vertex(d).status
	e.Step, e.Stage = &status, t.stageOf(d)
	t.emit(e)
}

// stageOf gives the stage under which a step is shown: the first that has it.
func (t *Tracker) stageOf(d digest.Digest) *graph.Stage {
	if so := t.steps[d]; so != nil {
		return so.owners[0].stage
	}
	return nil
}

func cloneTime(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	c := *t
	return &c
}
