// Package buildx pins the release of docker buildx that the benchmarks run beside
// zlayer. It is a module of its own, so that zlayer does not depend on it.
package buildx
