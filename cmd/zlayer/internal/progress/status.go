package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver"
)

// Status translates an event into BuildKit's form of progress; nil for events
// that have none there, such as those about stages.
func Status(e solver.Event) *client.SolveStatus {
	if e.Warning != nil {
		return &client.SolveStatus{Warnings: []*client.VertexWarning{warning(e)}}
	}
	if e.Retry != nil {
		return retrying(e)
	}
	if e.Step == nil {
		return nil
	}
	switch e.Kind {
	case solver.StepStarted, solver.StepDone:
		return &client.SolveStatus{Vertexes: []*client.Vertex{vertex(e)}}
	case solver.Output:
		if e.Log == nil {
			return nil
		}
		return &client.SolveStatus{Logs: []*client.VertexLog{{
			Vertex: e.Step.Digest, Stream: e.Log.Stream, Data: e.Log.Data, Timestamp: e.Time,
		}}}
	case solver.Progress:
		if e.Progress == nil {
			return nil
		}
		return &client.SolveStatus{Statuses: []*client.VertexStatus{transfer(e)}}
	}
	return nil
}

// retrying is a line in the log of the step, or a step of its own where there is none.
func retrying(e solver.Event) *client.SolveStatus {
	r := e.Retry
	text := fmt.Sprintf("try %d of %d follows in %.1fs, after: %s", r.Try+1, r.Of+1, r.Wait.Seconds(), Lines(r.Err.Error()))
	if e.Step != nil {
		return &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: e.Step.Digest, Stream: 2, Data: []byte(text + "\n"), Timestamp: e.Time}}}
	}
	at := e.Time
	return &client.SolveStatus{Vertexes: []*client.Vertex{{
		Digest: digest.FromString(fmt.Sprintf("retry %s %d", e.Build, e.Time.UnixNano())), Name: stepName(e.Build, text), Started: &at, Completed: &at,
	}}}
}

func vertex(e solver.Event) *client.Vertex {
	s := e.Step
	v := &client.Vertex{
		Digest:    s.Digest,
		Inputs:    s.Inputs,
		Name:      stepName(e.Build, s.Name),
		Started:   s.Started,
		Completed: s.Completed,
		Cached:    s.Cached,
		Error:     s.Error,
	}
	if s.Group != "" {
		v.ProgressGroup = &pb.ProgressGroup{Id: s.Group, Name: stepName(e.Build, s.GroupName), Weak: s.GroupWeak}
	}
	return v
}

// stepName puts the name of the build into the brackets that BuildKit's names
// begin with: "[web stage 2/5] RUN make".
func stepName(build, name string) string {
	switch {
	case build == "":
		return name
	case strings.HasPrefix(name, "["):
		return "[" + build + " " + name[1:]
	}
	return "[" + build + "] " + name
}

func transfer(e solver.Event) *client.VertexStatus {
	t := e.Progress
	return &client.VertexStatus{
		ID:        t.ID,
		Vertex:    e.Step.Digest,
		Name:      t.Name,
		Total:     t.Total,
		Current:   t.Current,
		Timestamp: e.Time,
		Started:   t.Started,
		Completed: t.Completed,
	}
}

func warning(e solver.Event) *client.VertexWarning {
	w := e.Warning
	out := &client.VertexWarning{
		Vertex: w.Step,
		Level:  w.Level,
		Short:  []byte(w.Short),
		URL:    w.URL,
	}
	for _, d := range w.Detail {
		out.Detail = append(out.Detail, []byte(d))
	}
	if w.Pos.Line > 0 {
		out.SourceInfo = &pb.SourceInfo{Filename: w.Pos.File, Data: w.Source}
		out.Range = []*pb.Range{{
			Start: &pb.Position{Line: int32(w.Pos.Line), Character: int32(max(0, w.Pos.Column-1))},
			End:   &pb.Position{Line: int32(max(w.Pos.Line, w.Pos.EndLine))},
		}}
	}
	return out
}

// stamp fills in the time of an event that has none: views compute with it.
func stamp(e solver.Event, now func() time.Time) solver.Event {
	if e.Time.IsZero() {
		e.Time = now()
	}
	return e
}
