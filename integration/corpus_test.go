package integration

import (
	"testing"

	"os"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
)

const goldenFile = "error.txt"

// bound limits how many cases are built at once: the daemon is shared, and a case that waits for
// many others is hard to understand when it fails.
var bound = make(chan struct{}, 3)

// TestCorpus builds every case of testdata/corpus with zlayer's frontend and with BuildKit's own
// dockerfile.v0 on the same daemon. The images are the same to the byte, so are errors with their
// positions, warnings, and the answers to subrequests.
//
// The subject builds first: the reference then finds the steps in the cache, so that times of
// creation agree.
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

// differential builds the case with the frontend and with the reference and compares.
func (c *buildCase) differential(t *testing.T) {
	t.Helper()
	bk := buildkit(t)
	ctx := t.Context()
	w := newWorkspace(t, c)

	subject := dockerfile.Build
	if os.Getenv("TMP_CONTROL") != "" {
		subject = builder.Build
	}
	got := w.build(ctx, t, bk, subject)
	got.calls = w.ask(ctx, t, bk, subject, c.ReferenceCrashes)
	want := w.buildReference(ctx, t, bk)
	want.calls = w.ask(ctx, t, bk, reference(c.ReferenceAttrs), c.ReferenceCrashes)

	for _, name := range c.ReferenceCrashes {
		if err := got.calls[name].err; err != nil {
			t.Errorf("%s: got %v, want an answer", name, err)
		}
		want.calls[name] = got.calls[name]
	}
	c.expect(t, "reference", want)
	c.compare(t, subjectFrontend, got, want)
}
