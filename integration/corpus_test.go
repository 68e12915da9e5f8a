package integration

import (
	"context"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/builder"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// bound limits how many cases are built at once: the daemon is shared, and a case that waits for
// many others is hard to understand when it fails.
var bound = make(chan struct{}, 3)

// TestCorpus builds every case of testdata/corpus with zlayer's frontend, with the engine, and with
// BuildKit's own dockerfile.v0, on the same daemon. The images are the same to the byte; so are
// warnings, the answers to subrequests, and errors with their positions, but that the engine has
// its own words for errors.
func TestCorpus(t *testing.T) {
	for _, c := range loadCases(t, "corpus") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bound <- struct{}{}
			defer func() { <-bound }()
			c.differential(t)
		})
	}
}

// differential builds the case with both subjects and with the reference and compares.
func (c *buildCase) differential(t *testing.T) {
	t.Helper()
	bk := buildkit(t)
	if len(c.Needs) > 0 {
		labtest.Require(t, c.Needs...)
	}
	ctx := t.Context()
	w := newWorkspace(t, c)

	// the subjects first: the reference then finds the steps in the cache, so that times agree
	got := w.build(ctx, t, bk, dockerfile.Build)
	got.calls = w.ask(ctx, t, bk, dockerfile.Build, nil)
	var byEngine outcome
	if c.forEngine() {
		byEngine = w.buildEngine(ctx, t)
		byEngine.calls = w.askEngine(ctx, t)
	}
	want, inClient := w.references(ctx, t, bk, got)
	c.expect(t, want)
	c.compareFrontend(t, got, want, inClient)
	if c.forEngine() {
		c.compareEngine(t, byEngine, want, inClient)
	}
}

// references builds the case with BuildKit's frontend: with the daemon's own, and, if somebody asks
// for it, with the same in the client. Calls that it cannot be asked are taken over from got.
func (w *workspace) references(ctx context.Context, t *testing.T, bk *client.Client, got outcome) (want outcome, inClient func() outcome) {
	t.Helper()
	want = w.buildReference(ctx, t, bk)
	want.calls = w.ask(ctx, t, bk, reference(w.ReferenceAttrs), w.ReferenceCrashes)
	for _, name := range w.ReferenceCrashes {
		if err := got.calls[name].err; err != nil {
			t.Errorf("%s: got %v, want an answer", name, err)
		}
		want.calls[name] = got.calls[name]
	}
	return want, sync.OnceValue(func() outcome {
		o := w.build(ctx, t, bk, builder.Build)
		o.calls = w.ask(ctx, t, bk, builder.Build, w.ReferenceCrashes)
		return o
	})
}
