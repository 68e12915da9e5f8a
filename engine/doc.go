// Package engine is the Go API of zlayer: [Open] an [Engine], [Engine.Build] or
// [Engine.Plan] a [Request], [Engine.Close] it. It is also the composition root:
// the one place where frontends, solver, store and daemon are put together.
// Nothing here prints or exits; the command line is a thin shell over it.
package engine
