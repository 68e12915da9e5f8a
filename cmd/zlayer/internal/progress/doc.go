// Package progress shows the course and the outcome of a build: it turns the
// solver's events into what BuildKit's own progress views draw, and errors with
// a position into excerpts of the build file. It writes to the writers it is
// given and nowhere else, and never decides an exit code.
package progress
