package zimage

import (
	"time"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// Mode says which of the four kinds of ZImagefile a file is.
type Mode int

// The modes. A valid file is in exactly one of those but ModeNone.
const (
	ModeNone    Mode = iota // nothing to build: not a valid file
	ModeRuntime             // a runtime template with metadata on top
	ModeSingle              // one stage: base or build, and steps
	ModeStages              // named stages; the last is the result
	ModeWasm                // a WebAssembly component or module
)

// String gives the key that puts a file into the mode.
func (m Mode) String() string {
	switch m {
	case ModeRuntime:
		return "runtime"
	case ModeSingle:
		return "base or build"
	case ModeStages:
		return "stages"
	case ModeWasm:
		return "wasm"
	}
	return "none"
}

// String is a text of the file and its place.
type String = yamlfile.String

// Pair is an entry of a mapping from names to texts.
type Pair = yamlfile.Pair

// Command is a command line in one of its two forms.
type Command struct {
	// Shell is the text given to the shell; it counts if Exec is nil.
	Shell string
	// Exec is the argument vector of the exec form; empty but not nil is an empty vector.
	Exec []string
	// Pos is the place of the value. EndLine is its last line.
	Pos graph.Pos
	// block says that Shell is written as a literal block, line by line, from the line after Pos.
	block bool
}

// File is a ZImagefile. Optional values that the file does not give are nil. Only [Parse],
// [FromDockerfile] and tests make Files; they are read by anyone and changed by no one.
type File struct {
	// Name is how the file is called in positions, Text what it was parsed from.
	Name string
	Text []byte

	Version  *String
	Runtime  *String
	Base     *String
	Build    *Build
	Platform *String
	OS       *String
	// Args are the build arguments with their defaults; an empty default is none.
	Args  []Pair
	Steps []Step
	// Stages are in the order of the file; it is nil for a file without, and empty but not nil for
	// an empty mapping.
	Stages []Stage
	Wasm   *Wasm
	Meta

	keyed
}

// Mode returns the mode of the file.
func (f *File) Mode() Mode {
	switch {
	case f.Runtime != nil:
		return ModeRuntime
	case f.Wasm != nil:
		return ModeWasm
	case f.Stages != nil:
		return ModeStages
	case f.Base != nil || f.Build != nil:
		return ModeSingle
	}
	return ModeNone
}

// Meta is what an image's config says, and what files and stages have in common.
type Meta struct {
	Env         []Pair
	Workdir     *String
	Labels      []Pair
	Expose      []String // NUMBER or NUMBER/PROTOCOL
	User        *String
	Volumes     []String
	Healthcheck *Healthcheck
	StopSignal  *String
	Entrypoint  *Command
	Cmd         *Command
}

// Stage is one entry of stages.
type Stage struct {
	Name     string
	Pos      graph.Pos // of the name
	Base     *String
	Build    *Build
	Platform *String
	OS       *String
	Args     []Pair
	Steps    []Step
	Meta

	keyed
}

// Build is a nested build: another directory with a build file, whose image is the base.
type Build struct {
	Pos graph.Pos
	// Dir is relative to the build context, which it is when absent.
	Dir *String
	// File is relative to Dir; without it the build file is looked for.
	File   *String
	Target *String
	Args   []Pair
}

// Step is one entry of steps. Exactly one of Run, Copy, Add, Env, Workdir and User says what it
// does; beside Run, Env holds for that command only.
type Step struct {
	// Pos is the place of the action's key; EndLine is the last line of the step.
	Pos graph.Pos

	Run     *Command
	Copy    []String
	Add     []String
	Env     []Pair
	Workdir *String
	User    *String

	To, From, Owner, Chmod *String
	Cache                  []Mount
	Mounts                 []Mount
	Secrets                []Mount
	SSH                    []Mount
	Network                *String
	Security               *String

	keyed
}

// Mount is a mount of a run step: an entry of cache, mounts, secrets or ssh.
type Mount struct {
	Pos                           graph.Pos
	Type                          *String // of an entry of mounts: bind, cache or tmpfs
	Target, Source, From, ID, Env *String
	Sharing, Size, Mode, UID, GID *String
	ReadOnly, ReadWrite, Required bool
}

// Healthcheck says how to find out whether a container is well.
type Healthcheck struct {
	Pos                                           graph.Pos
	Cmd                                           *Command
	Interval, Timeout, StartPeriod, StartInterval *Duration
	Retries                                       *String
}

// Duration is a length of time and how the file spells it.
type Duration struct {
	String
	Length time.Duration
}

// Wasm is the section of a file that builds a WebAssembly component or module. Absent values have
// the defaults that the WASM frontend documents.
type Wasm struct {
	Pos       graph.Pos
	Target    *String // preview1 or preview2
	Optimize  bool
	OptLevel  *String // O, Os, Oz, O2 or O3
	Language  *String // as the WASM frontend names it
	WIT       *String
	World     *String
	Output    *String
	Features  []String
	BuildArgs []Pair
	PreBuild  []Command
	PostBuild []Command
	Adapter   *String
	Image     *String // of the toolchain
	// NoOCI is set by "oci: false": the bare WASM file is the output.
	NoOCI bool
}

// keyed remembers where the keys of a mapping stand.
type keyed struct {
	keys map[string]graph.Pos
	// strange says that there were keys that do not exist.
	strange bool
}

func (k *keyed) seen(name string, pos graph.Pos) {
	if k.keys == nil {
		k.keys = map[string]graph.Pos{}
	}
	k.keys[name] = pos
}

// at returns where the key stands, or the fallback for what was not parsed from YAML.
func (k *keyed) at(name string, fallback graph.Pos) graph.Pos {
	if p, ok := k.keys[name]; ok {
		return p
	}
	return fallback
}
