package engine

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

// Builds that are compiled at the same time and wait for each other are refused like
// those that nest each other one after the other.
func TestWaitingInACircle(t *testing.T) {
	a, b, c := &composed{}, &composed{}, &composed{}
	ask := func(who, whom *composed, line int) error {
		comp := &composer{self: who}
		return comp.willWait(whom, []link{{shown: "f", pos: graph.Pos{File: "f", Line: line}}})
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
