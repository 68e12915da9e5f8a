// Package solver builds a [graph.Graph] on BuildKit, stages side by side, and
// turns BuildKit's status stream into typed events.
//
// A [Solver] decides what to ask for and when; an [Executor], for real a
// [Gateway], asks BuildKit for one stage; a [Tracker] listens to the status stream
// of the connection, says what each stage is doing, and tells the Solver which
// stages BuildKit has begun to work on.
//
// BuildKit is lazy, and the Solver has to respect that: the last step of an image
// can be in a cache while the stages below it are gone, and asking for those would
// build them for nothing. See [Solver.Jobs] for the two ways this is dealt with.
//
// The package must never print, and does no I/O but through its Executor.
package solver
