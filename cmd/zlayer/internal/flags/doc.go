// Package flags turns the values of command-line flags into the fields of an
// [engine.Request]. Its forms are those that docker buildx documents, so that a
// command line can be carried over. Every function is pure but for look-ups its
// caller hands in; an error says what is wrong with the value and which values
// there are, and leaves naming the flag to the caller.
package flags
