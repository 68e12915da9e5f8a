package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// firstHeap is how large the heap may grow before it is collected for the first time, in multiples of what the Go runtime
// allows (4 MiB). What starting leaves is nearly that, so that a build with nothing to do spent a quarter of its time on
// marking what lives anyhow.
const firstHeap = 4

// collectLater puts the first garbage collection off; those after it keep the runtime's pace, so that the peak of large
// builds stays the same. Someone who sets GOGC has their way.
func collectLater() {
	if os.Getenv("GOGC") != "" {
		return
	}
	usual := debug.SetGCPercent(firstHeap * 100)
	// a cleanup runs once its object is found unused, which the first collection does
	runtime.AddCleanup(new([64]byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}
