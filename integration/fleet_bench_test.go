package integration

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/fleet"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// BenchmarkFleetUnchanged has a pipeline of some hundred images find out that there is
// nothing to do.
func BenchmarkFleetUnchanged(b *testing.B) {
	for _, images := range []int{100, 300} {
		b.Run(strconv.Itoa(images), func(b *testing.B) { benchmarkUnchanged(b, images) })
	}
}

func benchmarkUnchanged(b *testing.B, images int) {
	e := openFreshEngine(b)
	l := labtest.Start(b)
	f, err := fleet.Write(b.TempDir(), fleet.Config{Images: images, Registry: l.Addr() + "/fleet"})
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
		if err != nil || res.Count(engine.BatchUnchanged) != images {
			b.Fatalf("got %v, %v", res, err)
		}
	}
}
