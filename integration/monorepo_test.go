package integration

import (
	"os/exec"
	"strings"
	"testing"

	tree "github.com/zlayer-dev/zlayer/bench/monorepo"
	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// TestMonorepo builds 60 directories that build on one another in one run: every directory once,
// however many build on it, and the same image as one Dockerfile with all stages gives.
func TestMonorepo(t *testing.T) {
	t.Parallel()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		unavailable(t, "%v", err)
	}
	e := openEngine(t)
	dir := t.TempDir()
	if err := tree.Write(dir, busybox); err != nil {
		t.Fatal(err)
	}
	var rec recorder
	req := engine.Request{
		Context: dir, NoCache: true, Events: rec.sink,
		BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		Outputs:   []engine.Output{{Type: engine.OutputStore, Attrs: map[string]string{"rewrite-timestamp": "true"}}},
	}
	res := build(t, e, req)
	ran := map[string]int{}
	rec.mu.Lock()
	for _, ev := range rec.events {
		if ev.Kind == solver.StepDone && !ev.Step.Cached && strings.Contains(ev.Step.Name, "RUN ") {
			ran[ev.Step.Digest.String()]++
		}
	}
	rec.mu.Unlock()
	if len(ran) != tree.Runs {
		t.Errorf("%d different RUN steps were run, want %d", len(ran), tree.Runs)
	}
	for step, n := range ran {
		if n != 1 {
			t.Errorf("step %s was run %d times", step, n)
		}
	}
	req.File, req.Events = dir+"/"+tree.HandWritten, nil
	if hand := build(t, e, req); hand.Digest != res.Digest {
		t.Errorf("the directories give %s, the Dockerfile of all stages %s", res.Digest, hand.Digest)
	}
	out := buildFiles(t, e, engine.Request{Context: dir})
	if got, want := out["t01"], "b01\nb06\nown m01\nm01\n"+"b05\nb10\nown m05\nm05\nown t01\nt01\n"; got != want {
		t.Errorf("t01: got %q, want %q", got, want)
	}
}
