// Package pipeline reads pipelines: YAML files that name many images to build in one run. [Load]
// gives the [Plan], in which files are included, variables expanded, templates merged, matrices
// multiplied and paths absolute; it builds nothing and contacts nobody. docs/pipeline.md describes
// the format.
package pipeline
