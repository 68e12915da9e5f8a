package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
	"github.com/zlayer-dev/zlayer/solver"
)

// explain turns an error of a build into what Build promises.
func (j *job) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if causes := solver.Causes(err); len(causes) > 0 {
		for _, c := range causes {
			c.Pos, c.Err = j.shown(c.Pos), j.explainEmulation(ctx, c)
			if j.madeUp && c.Pos.File == j.shownFile {
				c.Pos, c.Source = graph.Pos{}, nil
			}
			if len(c.Source) == 0 {
				c.Source = goSource(c.Pos)
			}
			c.Err = &trimmedError{c.Err, j.ignoredHint(ctx, c.Stage, c.Pos, c.Err) + j.reachHint(c.Err) + j.movedHint(c.Err)}
		}
		return err
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return withGoSource(err)
	}
	if pe := j.sourceError(err); pe != nil {
		if j.madeUp && pe.Pos.File == j.shownFile {
			return pe.Err
		}
		return withGoSource(pe)
	}
	if errors.Is(err, io.EOF) || strings.HasSuffix(err.Error(), ": EOF") {
		// The daemon's end of an export into a directory, whose reason is at ours.
		if werr := j.outputs.writeError(); werr != nil {
			return werr
		}
	}
	if grpcerrors.Code(err) == codes.Unavailable {
		return fmt.Errorf("the daemon went away during the build: %w", err)
	}
	return &trimmedError{err, j.reachHint(err)}
}

// sourceError gives a mistake in the build file its position.
func (j *job) sourceError(err error) *graph.PosError {
	for _, s := range errdefs.Sources(err) {
		if s.Info == nil || len(s.Ranges) == 0 || s.Ranges[0].Start == nil {
			continue
		}
		first, last := s.Ranges[0], s.Ranges[len(s.Ranges)-1]
		pos := graph.Pos{File: s.Info.Filename, Line: int(first.Start.Line)}
		if last.End != nil && int(last.End.Line) > pos.Line {
			pos.EndLine = int(last.End.Line)
		}
		return &graph.PosError{Pos: j.shown(pos), Err: &trimmedError{err, j.reachHint(err)}, Source: s.Info.Data}
	}
	return nil
}

// noise is what BuildKit's layers put before a cause: it repeats what the position
// says, or where in BuildKit the error passed.
var noise = lazyregexp.New(`failed to solve: |failed to run Build function: |failed to (?:load|compute) cache key: |failed to calculate checksum of ref \S+: |failed to resolve source metadata for \S+: |failed to copy to tar: |ResourceExhausted: |dockerfile parse error on lines? \d+(?:-\d+)?: |rpc error: code = \w+ desc = |, output: ""$`)

// ownWords says in our words what BuildKit was at.
var ownWords = strings.NewReplacer(
	"failed to read dockerfile: ", "reading the build file: ",
	"failed to read downloaded context: ", "fetching the build context: ",
	"failed to resolve httpcontext: ", "fetching the build context: ",
	"failed to push ", "pushing ",
	"failed to do request: ", "",
	"no match for platform in manifest: not found", "the image is not there for this platform",
	"failed with build-arg:BUILDKIT_SYNTAX = ", "running the frontend ",
)

var (
	missingSecret = lazyregexp.New(`^secret (\S+): not found$`)
	missingAgent  = lazyregexp.New(`^no SSH key "([^"]*)" forwarded from the client$`)
	brokenImage   = lazyregexp.New(`^exit code: \d+$`)
	refusedPush   = lazyregexp.New(`^pushing ([^/ ]+)/\S+: .*(?:401 Unauthorized|403 Forbidden|authorization failed|insufficient_scope)`)
)

// trimmedError is an error whose text is fit for users.
type trimmedError struct {
	err error
	// hint is what may help, on a line of its own; or "".
	hint string
}

// Error implements error.
func (e *trimmedError) Error() string { return harmless(e.text() + e.hint) }

// harmless writes what could steer a terminal in another form: messages quote build
// files, which may come from strangers.
func harmless(text string) string {
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n' || r == '\t' || unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

func (e *trimmedError) text() string {
	text := ownWords.Replace(noise().ReplaceAllString(e.err.Error(), ""))
	// What is left of "x: failed to resolve x: x: not found" says x once.
	text = strings.Join(slices.Compact(strings.Split(text, ": ")), ": ")
	if m := missingSecret().FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("secret %q is required and was not given: add --secret id=%s,src=FILE", m[1], m[1])
	}
	if m := missingAgent().FindStringSubmatch(text); m != nil {
		id := cmp.Or(m[1], sshforward.DefaultID)
		return fmt.Sprintf("ssh agent %q is required and was not given: add --ssh %s", id, id)
	}
	if brokenImage().MatchString(text) {
		// All that is said of a syntax image whose program ends before it answers.
		return "the frontend's program ended with " + text + ": is the image a frontend for BuildKit?"
	}
	if m := refusedPush().FindStringSubmatch(text); m != nil {
		return text + ": log in with docker login " + m[1]
	}
	return text
}

// Unwrap gives the whole error.
func (e *trimmedError) Unwrap() error { return e.err }
