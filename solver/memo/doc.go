// Package memo keeps records of builds that succeeded: the key of an output, and
// what building it gave. Whoever has the key of an output can ask a [Store] whether
// there is anything to do at all, without a daemon.
//
// # Trust
//
// A record says which digest an output has; it proves nothing. What it names is
// verified by that digest when it is read, so a record can be wrong only as a whole:
// who can write to a store can make a build report another image that exists. Stores
// that others write to are therefore read with that in mind, and [ReadOnly] is for
// those that must not write. docs/memo.md has the model.
//
// # Damage
//
// Records verify themselves. One that is torn, truncated, edited, foreign, of a newer
// version or stored under another key is absent: Get gives [ErrNotFound], with the
// reason in its text. Every other error of Get is trouble with the backend.
//
// # Composition
//
// [Memory], [Dir], [S3] and [Registry] keep records. [Stack], [ReadOnly], [WithTTL]
// and [Tolerant] wrap a store and do one thing each. [Parse] reads what users write,
// [Config.Open] builds what it says.
//
// The package never prints, and touches only the places that its stores name.
package memo
