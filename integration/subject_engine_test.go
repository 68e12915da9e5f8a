package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// engineCalls are the engine's names of the subrequests.
var engineCalls = map[string]engine.Call{
	"outline":  engine.CallOutline,
	"targets":  engine.CallTargets,
	"lint":     engine.CallCheck,
	"describe": engine.CallDescribe,
}

// forEngine reports whether a request of the engine can say what the case asks for.
func (c *buildCase) forEngine() bool {
	for name, from := range c.Contexts {
		if strings.HasPrefix(from, "input://") || strings.Contains(name, "::") {
			return false
		}
	}
	return len(c.Attrs) == 0
}

// request translates the case into a request of the engine, whose output is the image store.
func (w *workspace) request(t *testing.T) engine.Request {
	t.Helper()
	req := engine.Request{
		Context:       w.contextDir(),
		Target:        w.Target,
		Platforms:     w.Platforms,
		BuildArgs:     map[string]string{},
		Labels:        w.Labels,
		BuildContexts: map[string]string{},
		NoCache:       w.NoCache,
		NoCacheFilter: w.NoCacheFilter,
		Pull:          engine.PullMode(w.Pull),
		Network:       w.Network,
		AddHosts:      w.AddHosts,
		ShmSize:       w.ShmSize,
		Ulimits:       w.Ulimits,
		Allow:         w.Allow,
		Attests:       w.Attests,
		Outputs:       []engine.Output{{Type: engine.OutputStore, Attrs: w.Export}},
	}
	switch {
	case isRemote(w.Context):
		req.Context, req.File = w.expand(w.Context), w.File
	case w.File != "":
		req.File = filepath.Join(w.root, w.File)
	}
	for k, v := range w.Args {
		req.BuildArgs[k] = w.expand(v)
	}
	for name, from := range w.Contexts {
		req.BuildContexts[name] = w.engineContext(t, from)
	}
	for id, value := range w.Secrets {
		req.Secrets = append(req.Secrets, engine.Secret{ID: id, Value: []byte(value)})
	}
	for _, a := range w.sshAgents(t) {
		req.SSH = append(req.SSH, engine.SSHAgent{ID: a.ID, Paths: a.Paths})
	}
	return req
}

func (w *workspace) engineContext(t *testing.T, from string) string {
	t.Helper()
	kind, rest, _ := strings.Cut(from, "://")
	switch {
	case kind == "oci-layout":
		dir, digest := layoutOf(t, rest)
		return "oci-layout://" + dir + "@" + digest
	case isRemote(from):
		return w.expand(from)
	}
	return filepath.Join(w.root, from)
}

// buildEngine builds the case with the engine and reads the image from the engine's store.
func (w *workspace) buildEngine(ctx context.Context, t *testing.T) outcome {
	t.Helper()
	e := openEngine(t)
	var out outcome
	res, err := e.Build(ctx, w.request(t))
	if err != nil {
		out.err = err
		return out
	}
	for _, warning := range res.Warnings {
		out.lines = append(out.lines, fmt.Sprintf("%d %s %s | %s", warning.Pos.Line, warning.Short, strings.Join(warning.Detail, " "), warning.URL))
	}
	slices.Sort(out.lines)
	st, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.Content().Info(ctx, res.Digest)
	if err != nil {
		t.Fatalf("the store lacks the image: %v", err)
	}
	d := ocispecs.Descriptor{Digest: res.Digest, Size: info.Size}
	if out.image, err = readImage(st.Dir(), d); err != nil {
		t.Fatalf("reading the image in the store: %v", err)
	}
	return out
}

// askEngine runs the check, and the other calls, which take the same road, where the case wants it.
func (w *workspace) askEngine(ctx context.Context, t *testing.T) map[string]call {
	t.Helper()
	e := openEngine(t)
	answers := map[string]call{}
	for name, id := range engineCalls {
		if name != "lint" && !w.AllCalls {
			continue
		}
		res, err := e.Call(ctx, w.request(t), id)
		if err != nil {
			answers[name] = call{err: err}
			continue
		}
		answers[name] = call{
			json: w.baseNames(answerJSON(res.JSON)),
			text: sortedLines(w.baseNames(string(res.Text))),
		}
	}
	return answers
}

// baseNames calls the build file as frontends do that are not told where it lies.
func (w *workspace) baseNames(s string) string {
	dir := w.contextDir()
	if w.File != "" {
		dir = filepath.Dir(filepath.Join(w.root, w.File))
	}
	return strings.ReplaceAll(s, dir+"/", "")
}

// engineAspects is what of an outcome is the same for the engine and the reference. The engine has
// its own words for errors, which the golden files of testdata/bad hold, and no warnings beside
// an error.
func (o outcome) engineAspects() map[string]string {
	a := map[string]string{}
	if o.err == nil {
		a["image"] = o.image.text()
		a["provenance"] = o.image.provenanceText()
		a["warnings"] = strings.Join(o.lines, "\n")
	}
	for name, c := range o.calls {
		a[name] = c.json + "\n" + c.text
	}
	return a
}

// compareEngine compares the engine with the reference. An error has to point to one of the lines
// that the reference points to.
func (c *buildCase) compareEngine(t *testing.T, got, want outcome, inClient func() outcome) {
	t.Helper()
	if (got.err == nil) != (want.err == nil) {
		t.Errorf("the engine ended with %v, the reference with %v", got.err, want.err)
		return
	}
	c.compareAspects(t, subjectEngine, got.engineAspects(), want.engineAspects(), func() map[string]string {
		return inClient().engineAspects()
	})
	if got.err != nil {
		c.compareLine(t, got.err, want.err)
	}
}

// compareLine fails the test if the engine's error points to none of the lines that the reference
// points to.
func (c *buildCase) compareLine(t *testing.T, got, want error) {
	t.Helper()
	var lines []int
	for _, s := range errdefs.Sources(want) {
		for _, r := range s.GetRanges() {
			lines = append(lines, int(r.GetStart().GetLine()))
		}
	}
	if pos := enginePos(got); len(lines) > 0 && !slices.Contains(lines, pos.Line) && !c.accepted(subjectEngine, "error") {
		t.Errorf("the engine's error points to line %d, that of the reference to %v: %v", pos.Line, lines, got)
	}
}

// enginePos is the first place that an error of the engine points to.
func enginePos(err error) graph.Pos {
	if causes := solver.Causes(err); len(causes) > 0 {
		return causes[0].Pos
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return pe.Pos
	}
	return graph.Pos{}
}

// stripRoot makes an error text independent of where the workspace lies and where its servers are.
func (w *workspace) stripRoot(s string) string {
	for k, v := range w.vars {
		s = strings.ReplaceAll(s, v, "{{"+k+"}}")
	}
	for _, dir := range []string{w.root, filepath.Dir(w.root), os.TempDir()} {
		s = strings.ReplaceAll(s, dir+"/", "")
	}
	return passing.ReplaceAllString(s, "...")
}
