package wasm

import (
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// Language is a language, or a toolchain of one, that compiles to WebAssembly.
type Language string

// The languages.
const (
	Rust           Language = "rust"
	RustComponent  Language = "rust-component" // cargo-component
	Go             Language = "go"             // Go's own compiler
	TinyGo         Language = "tinygo"
	Python         Language = "python"
	TypeScript     Language = "typescript" // and JavaScript
	AssemblyScript Language = "assemblyscript"
	C              Language = "c"
	Zig            Language = "zig"
)

var languageNames = map[string]Language{
	"rust": Rust, "rs": Rust,
	"rust-component": RustComponent, "rust_component": RustComponent, "cargo-component": RustComponent,
	"go": Go, "golang": Go, "tinygo": TinyGo,
	"python": Python, "py": Python,
	"typescript": TypeScript, "ts": TypeScript, "javascript": TypeScript, "js": TypeScript,
	"assemblyscript": AssemblyScript, "as": AssemblyScript,
	"c": C, "zig": Zig,
}

// ParseLanguage gives the language of a name or alias, whatever its case.
func ParseLanguage(name string) (Language, error) {
	if l, ok := languageNames[strings.ToLower(name)]; ok {
		return l, nil
	}
	return "", fmt.Errorf("unknown language %q: there are rust, rust-component, go, tinygo, python, typescript, javascript, assemblyscript, c and zig", name)
}

// Text is a value and where it was written.
type Text struct {
	Value string
	Pos   graph.Pos
}

// Variable is an environment variable of the build's commands.
type Variable struct {
	Name, Value string
}

// Command is a command line: a text for the shell, or a list of words.
type Command struct {
	Shell string
	Exec  []string
	Pos   graph.Pos
}

// Settings say how to build. Zero values are the defaults.
type Settings struct {
	// Pos is where the build is described; it stands for all that has no place of its own.
	Pos graph.Pos
	// Language is found out by default, see [Detect].
	Language Text
	// Target is preview1 or preview2. By default it is what the language makes without more ado:
	// modules for Go, AssemblyScript, C and Zig, components for the others.
	Target Text
	// Optimize builds for release and makes the result smaller.
	Optimize bool
	// OptLevel is O, Os, Oz, O2 or O3; the default is Oz.
	OptLevel Text
	// WIT is the file or directory with WIT files; default is wit, if it is there.
	WIT Text
	// World is one of [KnownWorlds] or one of the WIT files.
	World Text
	// Output is where the caller wants the file; what lies there is not copied into the build.
	Output Text
	// Features are those of the language: cargo's features, Go's tags, macros in C, options in Zig.
	Features []Text
	// Env is set for all commands, and for nothing else.
	Env                 []Variable
	PreBuild, PostBuild []Command
	// Adapter makes a component of a module: the path of an adapter in the build context, or command
	// or reactor for the usual one.
	Adapter Text
	// Image is the image with the toolchain.
	Image Text
}

// Options are what a build depends on beside its settings.
type Options struct {
	// Exclude are paths of the build context that the build must not depend on.
	Exclude []string
	// Entrypoint makes the file the entry point of the image.
	Entrypoint bool
	// Scan has scanners look at the sources, too: what a result is made of is said by manifests and
	// lock files there, and no longer by the result.
	Scan bool
}

// Build is a build of WebAssembly as the Dockerfile that it stands for.
type Build struct {
	Dockerfile []byte
	// Lines has for each line of Dockerfile the place that it comes from, or the zero Pos.
	Lines []graph.Pos
	// File is the path of the result in the last stage, the only file there.
	File     string
	Language Language
	Target   Target
	// World is what the result has to conform to; nil for none.
	World *World
	// Warnings are what has no effect, or perhaps not the wanted one.
	Warnings []*graph.PosError
}

// Check holds a result against what was asked for.
func (b *Build) Check(info *Info) error {
	switch {
	case b.Target == Preview1 && info.Kind == Component:
		return fmt.Errorf("the result is a component where a module is asked for: drop target preview1, or build a module")
	case b.Target == Preview2 && info.Kind == Module:
		return fmt.Errorf("the result is a module where a component is asked for: set adapter to make one of it, or target to preview1")
	case b.World != nil:
		return b.World.Check(info)
	}
	return nil
}
