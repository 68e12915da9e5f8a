package integration

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
)

// goldenFile holds the message that the engine ends a bad build with.
const goldenFile = "error.txt"

var update = flag.Bool("update", false, "write the golden files of testdata/bad anew")

// TestBadInput builds what cannot be built: broken build files, contexts and requests of
// testdata/bad. The frontend fails as BuildKit's own does; the engine says what its golden file
// has, about the same line. With -update the golden files are written; read what comes out of it.
func TestBadInput(t *testing.T) {
	for _, c := range loadCases(t, "bad") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bound <- struct{}{}
			defer func() { <-bound }()
			ctx := t.Context()
			w := newWorkspace(t, c)
			out := w.buildEngine(ctx, t)
			if out.err == nil {
				t.Fatal("the engine's build went well, want a failure")
			}
			w.compareGolden(t, out.err)
			if !c.EngineOnly {
				c.compareLine(t, out.err, w.failAlike(ctx, t))
			}
		})
	}
}

// failAlike fails the test unless the frontend fails as the reference does, with whose error it
// returns.
func (w *workspace) failAlike(ctx context.Context, t *testing.T) error {
	t.Helper()
	bk := buildkit(t)
	got := w.build(ctx, t, bk, dockerfile.Build)
	got.calls = w.ask(ctx, t, bk, dockerfile.Build, nil)
	want, inClient := w.references(ctx, t, bk, got)
	w.expect(t, want)
	w.compareFrontend(t, got, want, inClient)
	return want.err
}

// compareGolden holds the engine's message against the golden file.
func (w *workspace) compareGolden(t *testing.T, err error) {
	t.Helper()
	if m := transport.FindString(err.Error()); m != "" {
		t.Errorf("the error tells of %q, which is of no use to anybody: %v", m, err)
	}
	got := w.stripRoot(err.Error()) + "\n"
	golden := filepath.Join(w.dir, goldenFile)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v: run the test with -update and read what it writes", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the message is not that of %s (-want +got):\n%s", goldenFile, diff)
	}
}
