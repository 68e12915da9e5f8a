package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// The first collection brings the usual pace back.
func TestCollectLater(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	collectLater()
	for range 1000 {
		runtime.GC()
		percent := debug.SetGCPercent(100)
		if percent == 100 {
			return
		}
		debug.SetGCPercent(percent)
		runtime.Gosched()
	}
	t.Error("the pace of the start was kept after collections")
}

func TestCollectLaterKeepsGOGC(t *testing.T) {
	t.Setenv("GOGC", "50")
	before := debug.SetGCPercent(50)
	defer debug.SetGCPercent(before)
	collectLater()
	if percent := debug.SetGCPercent(50); percent != 50 {
		t.Errorf("GOGC=50 became %d", percent)
	}
}
