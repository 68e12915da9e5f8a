// Package daemon gives zlayer a BuildKit to talk to.
//
// Usually that is the embedded one: [Connect] finds, or starts, a background
// daemon that all invocations of one user share. The daemon is this very
// program, executed again; [Reexec] is its entry point. [InProcess] runs the
// same BuildKit for one caller only, and [Dial] reaches any other BuildKit by
// its address. All three return a [Conn], which the rest of zlayer treats
// alike.
//
// What lives where, below [Config.StateDir]:
//
//	spawn.lock         held while somebody starts a daemon
//	selftest.json      which runc has been tried, on which kernel
//	bin/               the unpacked runc of release builds
//	main/              the slot of the shared daemon
//	beside-<id>/       the slot of a daemon of another version or configuration
//	                   that had to start while the shared one was busy
//	private-<id>/      the slot of one in-process engine, for the same reason
//
// A slot holds everything one BuildKit owns: its lock (flock; whoever has it
// owns the slot, everything else found in there is stale), its socket, its log,
// BuildKit's own state and temporary files. beside and private slots begin with
// an empty cache and are removed by their owner, or by the next owner of main
// should it have been killed.
//
// The package never looks at flags, and reads the environment only where a doc
// comment says so.
package daemon
