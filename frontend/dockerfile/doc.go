// Package dockerfile compiles Dockerfiles into stages of a graph.
//
// [Build] is a drop-in for BuildKit's own frontend
// (github.com/moby/buildkit/frontend/dockerfile/builder.Build): the same frontend
// attributes, inputs, subrequests, warnings and errors. [Frontend] is the same
// with a say in how the compiled graph is solved.
//
// The lowering itself is BuildKit's dockerfile2llb, so every Dockerfile means
// here what it means there. A build is lowered once as a whole, which yields the
// target, the lint warnings and the union of the paths that are read from the
// build context; then each stage below the target is lowered again as a target
// of its own over that same context. Equal instructions give equal LLB
// operations in both, and BuildKit merges equal operations, so solving stage by
// stage runs and caches exactly what solving the whole would.
package dockerfile
