package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
)

// outcome is all that a build gave that somebody can see.
type outcome struct {
	image    *image
	err      error
	warnings []string // all that is known of each
	lines    []string // line and text of each, which the engine tells, too
	calls    map[string]call
}

// call is the answer to a subrequest.
type call struct {
	json string
	text string
	err  error
}

// callNames are the subrequests that every case is asked.
var callNames = map[string]string{
	"outline":  "frontend.outline",
	"targets":  "frontend.targets",
	"lint":     "frontend.lint",
	"describe": "frontend.subrequests.describe",
}

// buildFunc runs a frontend on a gateway, as BuildKit's client calls it.
type buildFunc = gwclient.BuildFunc

// reference is BuildKit's own frontend, run by the daemon.
func reference(extra map[string]string) buildFunc {
	return func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		attrs := maps.Clone(c.BuildOpts().Opts)
		maps.Copy(attrs, extra)
		return c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: attrs})
	}
}

// build solves the case with a frontend that runs here, against the daemon.
func (w *workspace) build(ctx context.Context, t *testing.T, c *client.Client, fn buildFunc) outcome {
	t.Helper()
	o := w.solveOpt(t)
	dir := t.TempDir()
	w.exportTo(&o, dir)
	return runSolve(t, dir, func(status chan *client.SolveStatus) error {
		var own error
		_, err := c.Build(ctx, o, "", func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
			res, err := fn(ctx, gw)
			own = err
			return res, err
		}, status)
		if err != nil && own != nil {
			err = overWire(ctx, own)
		}
		return err
	})
}

// overWire is the error of a build function as the daemon hands it back. BuildKit's client ends
// with that or with the error itself, whichever it hears of first, and the two differ: on the way,
// what was put before a message that has come from the daemon is lost.
func overWire(ctx context.Context, err error) error {
	return grpcerrors.FromGRPC(grpcerrors.ToGRPC(ctx, err))
}

// TestOverWire holds a mistake in both forms against each other, as BuildKit's client may give
// either.
func TestOverWire(t *testing.T) {
	daemons := overWire(t.Context(), errors.New("docker.io/library/busybox:0.0.1: not found"))
	own := errdefs.WithSource(fmt.Errorf("busybox:0.0.1: %w", daemons), &errdefs.Source{
		Info: &pb.SourceInfo{Filename: "Dockerfile", Data: []byte("FROM busybox:0.0.1\n")}, Ranges: []*pb.Range{{Start: &pb.Position{Line: 1}, End: &pb.Position{Line: 1}}},
	})
	handedBack := overWire(t.Context(), own)
	if errorText(own) == errorText(handedBack) {
		t.Errorf("both say %q: the two forms need not be told apart any more", own)
	}
	if again := overWire(t.Context(), handedBack); errorText(again) != errorText(handedBack) {
		t.Errorf("got %q and %q for one mistake", handedBack, again)
	}
	if got := errorSources(handedBack); !slices.Equal(got, errorSources(own)) {
		t.Errorf("the place is lost: %q", got)
	}
}

// buildReference solves the case with the daemon's own dockerfile.v0.
func (w *workspace) buildReference(ctx context.Context, t *testing.T, c *client.Client) outcome {
	t.Helper()
	o := w.solveOpt(t)
	o.Frontend = "dockerfile.v0"
	maps.Copy(o.FrontendAttrs, w.ReferenceAttrs)
	dir := t.TempDir()
	w.exportTo(&o, dir)
	return runSolve(t, dir, func(status chan *client.SolveStatus) error {
		_, err := c.Solve(ctx, nil, o, status)
		return err
	})
}

// runSolve runs a solve, gathers its warnings and reads what it exported.
func runSolve(t *testing.T, dir string, solve func(chan *client.SolveStatus) error) outcome {
	t.Helper()
	status := make(chan *client.SolveStatus)
	var out outcome
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := range status {
			for _, w := range s.Warnings {
				out.warnings = append(out.warnings, warningText(w))
				out.lines = append(out.lines, warningLine(w))
			}
		}
		slices.Sort(out.warnings)
		slices.Sort(out.lines)
	}()
	err := solve(status)
	<-read
	out.err = err
	if out.err == nil {
		img, err := readLayout(dir)
		if err != nil {
			t.Fatalf("reading the exported image: %v", err)
		}
		out.image = img
	}
	return out
}

// warningText renders a warning with everything a progress view shows of it.
func warningText(w *client.VertexWarning) string {
	var b strings.Builder
	fmt.Fprintf(&b, "level %d: %s", w.Level, w.Short)
	for _, d := range w.Detail {
		fmt.Fprintf(&b, " | %s", d)
	}
	fmt.Fprintf(&b, " | %s", w.URL)
	if w.SourceInfo != nil {
		fmt.Fprintf(&b, " | %s %s", w.SourceInfo.Filename, rangesText(w.Range))
	}
	return b.String()
}

// warningLine is the part of a warning that the engine hands on.
func warningLine(w *client.VertexWarning) string {
	line := int32(0)
	if len(w.Range) > 0 {
		line = w.Range[0].GetStart().GetLine()
	}
	return fmt.Sprintf("%d %s %s | %s", line, w.Short, bytes.Join(w.Detail, []byte(" ")), w.URL)
}

func rangesText(ranges []*pb.Range) string {
	var parts []string
	for _, r := range ranges {
		parts = append(parts, fmt.Sprintf("%d:%d-%d:%d", r.GetStart().GetLine(), r.GetStart().GetCharacter(),
			r.GetEnd().GetLine(), r.GetEnd().GetCharacter()))
	}
	return strings.Join(parts, ",")
}

// ask runs all subrequests but those to skip through fn, in one session.
func (w *workspace) ask(ctx context.Context, t *testing.T, c *client.Client, fn buildFunc, skip []string) map[string]call {
	t.Helper()
	answers := map[string]call{}
	_, err := c.Build(ctx, w.solveOpt(t), "", func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
		for name, id := range callNames {
			if slices.Contains(skip, name) {
				continue
			}
			res, err := fn(ctx, asking{gw, id})
			if err != nil {
				answers[name] = call{err: err}
				continue
			}
			answers[name] = call{
				json: answerJSON(res.Metadata["result.json"]),
				text: sortedLines(string(res.Metadata["result.txt"])),
			}
		}
		return gwclient.NewResult(), nil
	}, nil)
	if err != nil {
		t.Errorf("asking: %v", err)
	}
	return answers
}

// asking is a gateway whose build options make a frontend answer a subrequest.
type asking struct {
	gwclient.Client
	request string
}

// BuildOpts implements gwclient.Client.
func (a asking) BuildOpts() gwclient.BuildOpts {
	o := a.Client.BuildOpts()
	o.Opts = maps.Clone(o.Opts)
	o.Opts["requestid"] = a.request
	o.Opts["frontend.caps"] = "moby.buildkit.frontend.subrequests"
	return o
}

// answerJSON is the answer to a subrequest without what changes from one request
// to the next: the definition of the source that the build file came from, which
// names the session, and the order of the arguments of an outline that are
// declared in one line.
func answerJSON(data []byte) string {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	settleAnswer(v)
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return prettyJSON(data)
}

func settleAnswer(v any) {
	switch v := v.(type) {
	case map[string]any:
		sortArgs(v)
		if _, ok := v["filename"]; ok {
			delete(v, "definition")
		}
		for _, e := range v {
			settleAnswer(e)
		}
	case []any:
		for _, e := range v {
			settleAnswer(e)
		}
	}
}

// sortArgs puts the arguments of an outline in the order of their text.
func sortArgs(outline map[string]any) {
	args, ok := outline["args"].([]any)
	if !ok {
		return
	}
	slices.SortFunc(args, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// prettyJSON indents JSON so that a difference can be read; what is not JSON
// stays as it is.
func prettyJSON(data []byte) string {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return string(data)
	}
	return string(out)
}

// passing matches what the daemon made up for one solve: ids of snapshots and
// names of temporary mounts.
var passing = regexp.MustCompile(`checksum of ref \S+|/buildkit[0-9]+|[a-z0-9]{25}::[a-z0-9]{25}`)

// errorText is the message of a build error without what differs by the way the
// error came (a frontend in the daemon is one call further away) or from one
// solve to the next.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	for _, prefix := range []string{"failed to run Build function: ", "failed to solve: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return passing.ReplaceAllString(s, "...")
}

// errorSources lists the places that an error points to, with the text there. Their order is that
// of a map where several stages are at fault.
func errorSources(err error) []string {
	var places []string
	for _, s := range errdefs.Sources(err) {
		var excerpt strings.Builder
		if err := s.Print(&excerpt); err != nil {
			excerpt.WriteString(err.Error())
		}
		places = append(places, fmt.Sprintf("%s %s\n%s", s.GetInfo().GetFilename(), rangesText(s.GetRanges()), excerpt.String()))
	}
	slices.Sort(places)
	return places
}

// solveErrorOf gives the operation that failed, when the daemon says so.
func solveErrorOf(err error) string {
	var se *errdefs.SolveError
	if !errors.As(err, &se) || se.Solve == nil || se.Solve.Op == nil {
		return ""
	}
	return fmt.Sprintf("%T with %d inputs, %d mounts", se.Solve.Op.Op, len(se.Solve.InputIDs), len(se.Solve.MountIDs))
}
