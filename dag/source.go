package dag

import (
	"errors"
	"runtime"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// Source is what a stage can start from, copy from or mount: a [*Stage], or what
// [Image], [Scratch], [Local], [LocalTree], [Git], [HTTP], [Build] and [LLB] give.
type Source interface {
	// origin is the place in Go that made it, and what is wrong with it.
	origin() (graph.Pos, error)
}

// made is the part that all sources and steps have.
type made struct {
	pos graph.Pos
	err error
}

func (m made) origin() (graph.Pos, error) { return m.pos, m.err }

// caller is the line that called the function which calls it.
func caller() graph.Pos {
	const skip = 2 // caller itself, and the exported function
	_, file, line, ok := runtime.Caller(skip)
	if !ok {
		return graph.Pos{}
	}
	return graph.Pos{File: file, Line: line}
}

type imageSource struct {
	made
	ref string
}

// Image is an image of a registry, by its reference as FROM has it. In a call of several
// builds, a tag of another one of them stands for what that one gives.
func Image(ref string) Source {
	s := imageSource{made{pos: caller()}, ref}
	if _, err := reference.ParseNormalizedNamed(ref); err != nil {
		s.err = mistake("image %q: %w", ref, err)
	}
	return s
}

// scratch is the name of the empty file system in FROM.
const scratch = "scratch"

// Scratch is the empty file system. Only a stage can start from it.
func Scratch() Source { return imageSource{made{pos: caller()}, scratch} }

// Tree is a directory on this machine.
type Tree struct {
	// Dir is relative to the working directory of the process that builds.
	Dir string
	// Include are patterns, as an ignore file has them, of the files to take; none takes
	// all. With Include the directory's own ignore file has no say.
	Include []string
	// Exclude are patterns of files to leave out, after the rules of the ignore file;
	// one with ! before it takes files back in.
	Exclude []string
	// NoIgnore: the directory's .dockerignore has no say.
	NoIgnore bool
}

type localSource struct {
	made
	tree Tree
}

// Local is a directory without what its .dockerignore excludes.
func Local(dir string) Source {
	return newLocal(caller(), Tree{Dir: dir})
}

// LocalTree is a directory, or a part of one.
func LocalTree(t Tree) Source { return newLocal(caller(), t) }

func newLocal(pos graph.Pos, t Tree) Source {
	s := localSource{made{pos: pos}, t}
	if t.Dir == "" {
		s.err = errors.New("no directory is given")
	} else {
		s.err = errors.Join(checkText("the directory", t.Dir, false), checkPatterns(t))
	}
	return s
}

// Repo is a git repository at a commit.
type Repo struct {
	// URL is that of the repository: https, http, ssh or git.
	URL string
	// Ref is a branch, a tag or a commit; empty is the default branch. What is no commit
	// is looked up at each build, unless it is in the lock file.
	Ref string
	// Subdir is the directory of the repository to take, empty for all.
	Subdir string
}

type gitSource struct {
	made
	repo Repo
}

// Git is the work tree of a repository.
func Git(r Repo) Source {
	return gitSource{made{caller(), r.check()}, r}
}

// Download is a file of a web server.
type Download struct {
	// URL is where it is: http or https.
	URL string
	// Checksum is what it must have; without one it is asked for at each build.
	Checksum digest.Digest
}

type httpSource struct {
	made
	file Download
}

// HTTP is a file to download. It can only be copied.
func HTTP(d Download) Source {
	return httpSource{made{caller(), d.check()}, d}
}

// Nested is a directory with a build file.
type Nested struct {
	// Dir is the build context, relative to the working directory of the process.
	Dir string
	// File is the build file, relative to Dir; empty looks for a ZImagefile, Dockerfile
	// or Containerfile.
	File string
	// Target is the stage to take, empty for the last one.
	Target string
	// Args are its build arguments.
	Args map[string]string
}

type buildSource struct {
	made
	nested Nested
}

// Build is what the build file of a directory gives; it is built as part of the build
// that needs it.
func Build(n Nested) Source {
	s := buildSource{made{pos: caller()}, n}
	if n.Dir == "" {
		s.err = errors.New("no directory is given")
	}
	return s
}

// State is a state of BuildKit's own Go API.
type State struct {
	// State is anything that client/llb can make.
	State llb.State
	// Config is the image config of a stage that starts from it; nil has the state's own
	// environment and working directory.
	Config *ocispecs.ImageConfig
	// Locals are the directories behind the names that its local sources have.
	Locals map[string]string
}

type llbSource struct {
	made
	state *State
}

// LLB is any state. Images in it have to be named by digest for the stage to have a key.
func LLB(s State) Source {
	return &llbSource{made{pos: caller()}, &s}
}
