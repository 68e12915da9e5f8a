package solver

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/go-multierror"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/zlayer-dev/zlayer/graph"
)

// StageError is the failure of one stage: a cause, never a consequence. Its text
// begins with the position, so it can be printed as it is; an excerpt of the build
// file can be drawn from Pos and Source.
type StageError struct {
	// Stage is the stage that failed.
	Stage *graph.Stage
	// Step is the step that failed; nil when the failure is not that of a step.
	Step *graph.Step
	// Vertex is BuildKit's digest of what failed, empty when it did not say.
	Vertex digest.Digest
	// Pos is the place of the step, else that of the stage; Source is the text of
	// the file that Pos points into, nil when it is not at hand.
	Pos    graph.Pos
	Source []byte
	// ExitCode is the exit status of the process that failed; 0 when the failure
	// is not that of a process.
	ExitCode int
	// Err is what BuildKit says.
	Err error
}

// Error implements error as "file:line: message".
func (e *StageError) Error() string {
	if p := e.Pos.String(); p != "" {
		return p + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

// Unwrap gives BuildKit's error.
func (e *StageError) Unwrap() error { return e.Err }

// newStageError attributes err, which concerns the vertex v, to stage s. v may be
// empty, or a step of no stage.
func newStageError(s *graph.Stage, v digest.Digest, err error) *StageError {
	e := &StageError{Stage: s, Vertex: v, Err: err, Pos: s.Pos}
	for i := range s.Steps {
		if s.Steps[i].Digest == v {
			e.Step = &s.Steps[i]
		}
	}
	var exit *gatewayapi.ExitError
	if errors.As(err, &exit) {
		e.ExitCode = int(exit.ExitCode)
	}
	e.locate()
	return e
}

// locate fills Pos and Source. What the stage itself says about a step comes
// first, since its frontend may have a better name for the file; then what BuildKit
// says, which is all there is when another frontend has made the steps.
func (e *StageError) locate() {
	if srcs := errdefs.Sources(e.Err); len(srcs) > 0 && srcs[0].Info != nil {
		src := srcs[0]
		e.Source = src.Info.Data
		if len(src.Ranges) > 0 && src.Ranges[0].Start != nil {
			first, last := src.Ranges[0], src.Ranges[len(src.Ranges)-1]
			e.Pos = graph.Pos{File: src.Info.Filename, Line: int(first.Start.Line)}
			if last.End != nil && int(last.End.Line) > e.Pos.Line {
				e.Pos.EndLine = int(last.End.Line)
			}
		}
	}
	if e.Step != nil && !e.Step.Pos.IsZero() {
		e.Pos = e.Step.Pos
	}
	if e.Source == nil {
		for _, info := range e.Stage.Files() {
			if info.Filename == e.Pos.File {
				e.Source = info.Data
			}
		}
	}
}

// vertexOf gives the digest of the vertex err comes from, empty when err does not
// say.
func vertexOf(err error) digest.Digest {
	var ve *errdefs.VertexError
	if errors.As(err, &ve) && ve.Vertex != nil {
		return digest.Digest(ve.Digest)
	}
	return ""
}

// cancelled reports whether err, returned after the work was told to stop, says no
// more than that it did. What is torn down mid-way fails in odd ways, so only an
// error that names its vertex is believed.
func cancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		grpcerrors.Code(err) == codes.Canceled || vertexOf(err) == ""
}

// muffled reports whether BuildKit has lost what it was about to say. What a failed step
// has left is kept for debuggers, anew by each call that fails because of it, and it can
// come to it that one call gives up what another has given up before: it then returns
// this complaint instead of the failure (wrapSolveError in frontend/gateway of v0.34.2).
func muffled(err error) bool {
	return vertexOf(err) == "" && strings.Contains(err.Error(), "releasing already released reference")
}

// lost reports whether err means that the daemon is gone, not that a step failed.
func lost(err error) bool {
	return vertexOf(err) == "" && grpcerrors.Code(err) == codes.Unavailable
}

// join makes one error of causes: nil for none, a single one as it is, so that
// errors.As finds it, else a list with one cause a paragraph.
func join(causes []*cause) error {
	if len(causes) == 1 {
		return causes[0].err
	}
	list := &multierror.Error{ErrorFormat: paragraphs}
	for _, c := range causes {
		list.Errors = append(list.Errors, c.err)
	}
	return list.ErrorOrNil()
}

func paragraphs(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "\n\n")
}

// Causes lists the failures that err, as [Solver.Solve] returned it, is made of,
// in graph order; nil when err is not the failure of stages, such as a
// cancellation.
func Causes(err error) []*StageError {
	var list *multierror.Error
	if errors.As(err, &list) {
		var out []*StageError
		for _, e := range list.Errors {
			out = append(out, Causes(e)...)
		}
		return out
	}
	var se *StageError
	if errors.As(err, &se) {
		return []*StageError{se}
	}
	return nil
}
