// Package image resolves image references to digests and image configs, without a
// daemon: what a name stands for is asked of its registry, what a digest stands for
// is remembered on disk, so that it is asked once.
package image
