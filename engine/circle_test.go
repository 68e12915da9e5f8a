package engine

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// Builds that are compiled at the same time and wait for each other are refused like
// those that nest each other one after the other.
func TestWaitingInACircle(t *testing.T) {
	a, b, c := &composed{}, &composed{}, &composed{}
	ask := func(who, whom *composed, line int) error {
		return who.willWait(whom, []link{{shown: "f", pos: graph.Pos{File: "f", Line: line}}})
	}
	for i, e := range []struct{ who, whom *composed }{{a, b}, {a, c}, {b, c}, {a, b}} {
		if err := ask(e.who, e.whom, i+1); err != nil {
			t.Errorf("edge %d: %v", i, err)
		}
	}
	err := ask(c, a, 9)
	if !errors.Is(err, errCircle) || err.Error() != "builds nest each other in a circle: f:9 -> f:1 -> f:3, and back to f" {
		t.Errorf("got %v", err)
	}
	if err := ask(c, c, 10); err != nil && !errors.Is(err, errCircle) {
		t.Errorf("got %v", err)
	}
}

// Two stages begin at either end of a circle of two builds, at once.
func TestCircleFromBothEnds(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"ZImagefile":   "stages:\n  x: {build: x}\n  y: {build: y}\n  z:\n    base: x\n    steps:\n      - {copy: /a, from: y, to: /a}\n",
		"x/ZImagefile": "build: ../y\n", "y/ZImagefile": "build: ../x\n",
	})
	e := openBare(t)
	for range 20 {
		_, err := e.Why(t.Context(), Request{Context: dir, Root: dir}, "")
		var pe *graph.PosError
		if !errors.Is(err, errCircle) || !errors.As(err, &pe) || filepath.Base(pe.Pos.File) != "ZImagefile" {
			t.Fatalf("got %v", err)
		}
	}
}

// Two units that need each other are entered from both ends at the same moment.
func TestUnitTableCircle(t *testing.T) {
	table := newUnitTable()
	var started sync.WaitGroup
	started.Add(2)
	var enter func(name, other string) func(context.Context, *composed) (*graph.Stage, error)
	enter = func(name, other string) func(context.Context, *composed) (*graph.Stage, error) {
		return func(ctx context.Context, self *composed) (*graph.Stage, error) {
			started.Done()
			started.Wait() // both are under way, so each has to wait for the other
			chain := []link{{key: name, shown: name, pos: graph.Pos{File: name, Line: 1}}}
			_, err := table.once(ctx, other, self, chain, enter(other, name))
			return nil, err
		}
	}
	errs := make(chan error)
	for _, ends := range [][2]string{{"a", "b"}, {"b", "a"}} {
		go func() {
			_, err := table.once(t.Context(), ends[0], nil, nil, enter(ends[0], ends[1]))
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, errCircle) {
			t.Errorf("got %v, want a circle", err)
		}
	}
}

// diskGateway is BuildKit as a frontend sees it, with nothing but files of the client.
type diskGateway struct {
	gwclient.Client
	opts map[string]string
}

func (g *diskGateway) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts: maps.Clone(g.opts), SessionID: "session",
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []gwclient.WorkerInfo{{Platforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}}},
	}
}

func (g *diskGateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// Inside of BuildKit, builds for two platforms enter a circle from both ends.
func TestGatewayCircleFromBothEnds(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"ZImagefile": "stages:\n  on-amd64: {build: x, platform: linux/amd64}\n  on-arm64: {build: y, platform: linux/amd64}\n" +
			"  out: {base: 'on-${TARGETARCH}'}\n",
		"x/ZImagefile": "build: ../y\n", "y/ZImagefile": "build: ../x\n",
	})
	for range 20 {
		gw := &frontend.Files{
			Client: &diskGateway{opts: map[string]string{"filename": "ZImagefile", "platform": "linux/amd64,linux/arm64"}},
			Dirs:   map[string]string{"context": dir, "dockerfile": dir},
		}
		_, err := GatewayBuild(t.Context(), gw)
		if !errors.Is(err, errCircle) {
			t.Fatalf("got %v, want a circle", err)
		}
	}
}
