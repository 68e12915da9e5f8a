// Command zlayer builds container images from build files on an embedded
// BuildKit. It is a thin shell over package engine: it turns flags into an
// engine.Request, shows progress and errors, and chooses the exit code. All its
// output comes from here and from internal/progress.
package main
