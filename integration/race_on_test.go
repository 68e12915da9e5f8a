//go:build race

package integration

// raceDetector says that the tests run under the race detector. BuildKit's own frontend has a data
// race when it runs in this process (its cache of image configs sets a flag without a lock).
const raceDetector = true
