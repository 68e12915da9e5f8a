// Package graph holds the values every other package agrees on: a [Stage] is
// one immutable unit of a build, a [Graph] is a set of stages closed over their
// inputs, and a [Pos] is a place in a build file.
//
// A stage can only refer to stages that already exist, so a graph cannot hold a
// cycle; cycles are possible only while a frontend resolves names, and are
// reported there, where a position is at hand.
//
// The package does no I/O and reads neither clock nor environment. Its operation
// language is BuildKit's LLB.
package graph
