package integration

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/integration/fleet"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// ran counts how often each step of a fleet ran. All images that need a step hear what
// it prints.
func (r *recorder) ran() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	seen := map[string]bool{}
	for _, ev := range r.events {
		if ev.Kind != solver.Output || ev.Step.Started == nil {
			continue
		}
		id := ev.Step.Digest.String() + ev.Step.Started.String()
		if name, ok := strings.CutPrefix(strings.TrimSpace(string(ev.Log.Data)), "running-"); ok && !seen[id] {
			seen[id] = true
			n[name]++
		}
	}
	return n
}

func TestEngineFleet(t *testing.T) {
	t.Parallel()
	e := openFreshEngine(t)
	l := labtest.Start(t)
	f, err := fleet.Write(t.TempDir(), fleet.Config{Images: 30, Registry: l.Addr() + "/fleet", Push: true})
	if err != nil {
		t.Fatal(err)
	}
	all := f.Names()
	each := func(names []string) map[string]int {
		m := map[string]int{}
		for _, n := range names {
			m[n] = 1
		}
		return m
	}
	check := func(what string, built []string) *engine.BatchResult {
		t.Helper()
		var rec recorder
		res, err := runPipeline(t, e, f.Dir, engine.PipelineOptions{Events: rec.sink})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		same(t, what+": the steps ran", rec.ran(), each(built))
		if got := res.Count(engine.BatchBuilt); got != len(built) || res.Count(engine.BatchUnchanged) != len(all)-len(built) {
			t.Errorf("%s: want %d built, got %s", what, len(built), outcomes(res))
		}
		for _, i := range res.Images {
			if got := remoteDescriptor(t, l.Registry, f.Tag(i.Name)).Digest; got.String() != i.Result.Digest.String() {
				t.Errorf("%s: %s: the registry has %s", what, i.Name, got)
			}
		}
		return res
	}
	first := check("from nothing", all)
	again := check("nothing changed", nil)
	for n, i := range again.Images {
		if i.Result.Digest != first.Images[n].Result.Digest {
			t.Errorf("%s is another image now", i.Name)
		}
	}
	touch := func(name string) {
		t.Helper()
		if err := f.Touch(name, "changed"); err != nil {
			t.Fatal(err)
		}
	}
	touch(f.Leaves[7])
	check("one leaf changed", []string{f.Leaves[7]})
	touch(f.Mids[1])
	check("a middle base changed", f.Below(f.Mids[1]))
	touch(f.Root)
	check("the base changed", all)
}

// TestEnginePipelineNeedsNoDaemon has nothing to build, and no BuildKit to ask.
func TestEnginePipelineNeedsNoDaemon(t *testing.T) {
	t.Parallel()
	l := labtest.Start(t)
	f, err := fleet.Write(t.TempDir(), fleet.Config{Images: 12, Registry: l.Addr() + "/nodaemon", Push: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := ownDaemon(t)
	if _, err := runPipeline(t, openConfig(t, cfg), f.Dir, engine.PipelineOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Stop(t.Context(), cfg.Daemon()); err != nil {
		t.Fatal(err)
	}
	res, err := runPipeline(t, openConfig(t, cfg), f.Dir, engine.PipelineOptions{})
	if err != nil || res.Count(engine.BatchUnchanged) != 12 {
		t.Errorf("got %v, %v", res, err)
	}
	if _, err := daemon.Status(t.Context(), cfg.Daemon()); !errors.Is(err, daemon.ErrNotRunning) {
		t.Errorf("a daemon was started for nothing: %v", err)
	}
}

// fleetImages is how many images the monorepo has that is built from a pipeline and from
// Go; ZLAYER_FLEET_IMAGES says otherwise.
const fleetImages = 24

// TestEngineFleetFromGo builds one monorepo, WebAssembly and all, from a pipeline and by
// a program in Go: the same images, of which neither has to build again what the other has
// built.
func TestEngineFleetFromGo(t *testing.T) {
	t.Parallel()
	images := fleetImages
	if v := os.Getenv("ZLAYER_FLEET_IMAGES"); v != "" {
		var err error
		if images, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	e := openFreshEngine(t)
	l := labtest.Start(t)
	f, err := fleet.Write(t.TempDir(), fleet.Config{Images: images, Registry: l.Addr() + "/fromgo", Push: true, Wasm: true})
	if err != nil {
		t.Fatal(err)
	}
	var rec recorder
	piped, err := runPipeline(t, e, f.Dir, engine.PipelineOptions{Events: rec.sink})
	if err != nil {
		t.Fatal(err)
	}
	each := map[string]int{}
	for _, name := range f.Names() {
		each[name] = 1
	}
	same(t, "the steps ran", rec.ran(), each)
	for _, c := range []struct {
		bases fleet.Bases
		memo  []string
		state engine.BatchState
	}{
		{fleet.Tags, nil, engine.BatchUnchanged},           // equal keys
		{fleet.Stages, []string{"off"}, engine.BatchBuilt}, // equal operations and configs, in BuildKit's cache
	} {
		var rec recorder
		res, err := e.BuildAll(t.Context(), engine.BatchRequest{Builds: f.Builds(c.bases), Memo: c.memo, Events: rec.sink})
		if err != nil {
			t.Fatalf("from Go, memo %v: %v", c.memo, err)
		}
		same(t, "steps ran again", rec.ran(), map[string]int{})
		for n, i := range res.Images {
			if was := piped.Images[n]; i.Name != was.Name || i.State != c.state || i.Result.Digest != was.Result.Digest {
				t.Errorf("from Go, memo %v: %s %s %s, want %s and the pipeline's %s", c.memo, i.Name, i.State, i.Result.Digest, c.state, was.Result.Digest)
			}
			if got := remoteDescriptor(t, l.Registry, f.Tag(i.Name)).Digest; got.String() != i.Result.Digest.String() {
				t.Errorf("from Go: %s: the registry has %s", i.Name, got)
			}
		}
	}
}
