package integration

import (
	"path/filepath"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/fleet"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// BenchmarkFleetUnchanged has a pipeline of a hundred images find out that there is
// nothing to do.
func BenchmarkFleetUnchanged(b *testing.B) {
	e := openFreshEngine(b)
	l := labtest.Start(b)
	f, err := fleet.Write(b.TempDir(), fleet.Config{Images: 100, Registry: l.Addr() + "/fleet"})
	if err != nil {
		b.Fatal(err)
	}
	p, err := engine.LoadPipeline(engine.PipelineRequest{File: filepath.Join(f.Dir, "ZPipeline.yaml")})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := e.BuildPipeline(b.Context(), p, engine.PipelineOptions{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		res, err := e.BuildPipeline(b.Context(), p, engine.PipelineOptions{})
		if err != nil || res.Count(engine.BatchUnchanged) != 100 {
			b.Fatalf("got %v, %v", res, err)
		}
	}
}
