package engine

import (
	"io"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// Request says what to build and what to do with the result. The zero value of
// every field is a sensible default; only Context or Stage is needed.
type Request struct {
	// Context is the build context: a directory, a git URL (as docker build
	// takes it, with #ref:subdir), an http(s) URL of an archive or of a build
	// file, or "-" to read from Stdin.
	Context string
	// Stage is a stage of the dag package to build, instead of Context and File.
	Stage *dag.Stage
	// Stdin is what Context "-" or File "-" reads: a tar archive (gzip, bzip2, xz,
	// zstd too) is the context, anything else is the build file.
	Stdin io.Reader
	// File is the build file, relative to the working directory as the docker CLI
	// has it; empty looks in the context for ZImagefile (or a single
	// ZImagefile.<suffix>), then Dockerfile, then Containerfile;
	// "-" reads it from Stdin.
	File string
	// Runtime builds the project in the context by the template of a language runtime
	// instead of by a build file ("go", "node22", ...); RuntimeAuto by that of the
	// runtime that the project suggests. The context must be a directory.
	Runtime     string
	RuntimeAuto bool
	// Target is the stage to build; empty is the last one.
	Target string
	// Platforms are what to build for, such as "linux/arm64"; empty is the
	// daemon's own platform. More than one gives an index.
	Platforms []string
	// Wasm asks for a WebAssembly build and says how; a ZImagefile with a wasm section is
	// one without.
	Wasm *WasmOptions
	// WasmFormat is the form of a WebAssembly build's result.
	WasmFormat WasmFormat
	// BuildArgs are the values of ARG instructions.
	BuildArgs map[string]string
	// Vars replace ${NAME} in the texts of ZImagefiles, those of nested builds too, before
	// anything else is made of them. Other names are left alone.
	Vars map[string]string
	// BuildContexts are named contexts: name to directory, git or http URL,
	// "docker-image://ref" or "oci-layout://dir[:tag][@digest]".
	// A directory that holds a build file and is named in a FROM is built as part of
	// this build; one that only COPY --from and RUN --mount name is its files.
	BuildContexts map[string]string
	// Root is the directory that builds nested in this one may read; what lies
	// outside needs Allow fs.read=DIR. Empty is the git work tree of the build
	// context, or the build context itself outside of one.
	Root string
	// Labels are added to the image config.
	Labels map[string]string
	// Annotations are added to manifests; a key may be prefixed as in
	// "index,manifest[linux/amd64]:key" (docker buildx's form).
	Annotations map[string]string

	// NormalizeModes takes the permission bits of local files as git does: 0755 for
	// directories and for what its owner may execute, 0644 for the rest. Builds then
	// do not depend on the umask of whoever checked the files out.
	NormalizeModes bool

	// NestedIgnore has ignore files in directories below the build context count for
	// what is below them, as git has it. Other builders do not know them.
	NestedIgnore bool

	// NoCache runs every step anew; NoCacheFilter only those of the named stages.
	NoCache       bool
	NoCacheFilter []string
	// Pull says when base images are looked up again.
	Pull PullMode
	// DefaultRegistry is where images with short names (without a registry, as in FROM alpine) are
	// looked for before Docker Hub: a host, which may be followed by a path. Empty
	// looks on Docker Hub alone. It holds for nested builds, too.
	DefaultRegistry string

	// LockFile is the lock file to hold to; empty is zlayer.lock at Root. Locked refuses
	// sources that it does not have. Offline asks no registry, repository or server
	// what a name stands for, but goes by the lock file, else by what it stood for last.
	LockFile string
	Locked   bool
	Offline  bool
	// lockLater: the lock file is about to be written.
	lockLater bool
	// lockAnew: what the lock file says does not count, not even its mistakes.
	lockAnew bool

	// Network is the default network of RUN: "default", "none" or "host".
	Network string
	// AddHosts are "name:ip" or "name=ip" lines for /etc/hosts of RUN steps.
	AddHosts []string
	// ShmSize is the size of /dev/shm in bytes; 0 is the daemon's default.
	ShmSize int64
	// Ulimits are "name=soft[:hard]".
	Ulimits []string
	// CgroupParent is the parent cgroup of RUN steps.
	CgroupParent string
	// Allow grants entitlements: "network.host", "security.insecure",
	// "device[=name]", and "fs.read=dir" for nested builds outside Root.
	Allow []string
	// CacheMounts are caches that every RUN step gets which has none of its own at the
	// same path.
	CacheMounts []CacheMount
	// Secrets and SSH are what RUN --mount=type=secret and type=ssh can ask for.
	Secrets []Secret
	SSH     []SSHAgent

	// Syntax overrides the # syntax line: an image reference of a frontend.
	Syntax string
	// Attests asks for attestations: key "sbom" or "provenance", value the
	// attributes ("mode=max", "generator=image"), or "disabled=true".
	Attests map[string]string
	// CacheFrom and CacheTo import and export BuildKit's cache.
	CacheFrom []CacheEntry
	CacheTo   []CacheEntry

	// Tags are the names of the image, as "docker build -t" takes them.
	Tags []string
	// Outputs say where the result goes; none is one OutputStore.
	Outputs []Output
	// Push pushes the tags; Load loads the image into the local docker.
	Push bool
	Load bool
	// pushLater: the image is pushed when all others have been built.
	pushLater bool

	// Retries is how often a RUN that fails, a pull or a push is tried again, unless
	// that cannot help. Between tries is a pause, longer each time.
	Retries int
	// Jobs limits how many stages are built at once; 0 leaves it to the daemon.
	Jobs int
	// FailFast stops everything at the first failure. Otherwise every stage that
	// does not depend on the failure is built, and all causes are reported.
	FailFast bool

	// Events receives the course of the build; nil is silent.
	Events solver.Sink
}

// PullMode says when base images are looked up in their registry.
type PullMode string

// The pull modes. PullDefault is the daemon's: a tag is looked up at each build,
// a digest never once it is there.
const (
	PullDefault PullMode = ""
	// PullAlways and PullNewer look up every tag at each build.
	PullAlways PullMode = "always"
	PullNewer  PullMode = "newer"
	// PullNever uses only what the daemon already has.
	PullNever PullMode = "never"
)

// Secret is a value a RUN step may mount; exactly one of File and Env names its
// source, or Value holds it.
type Secret struct {
	ID    string
	File  string
	Env   string
	Value []byte
}

// SSHAgent is an agent socket or a list of private keys that a RUN step may use.
// No Paths means the agent of SSH_AUTH_SOCK.
type SSHAgent struct {
	ID    string
	Paths []string
}

// CacheEntry is a BuildKit cache backend: "registry", "local", "inline", ...
type CacheEntry struct {
	Type  string
	Attrs map[string]string
}

// OutputType is the kind of an [Output].
type OutputType string

// The kinds of outputs.
const (
	// OutputStore: the image goes into zlayer's own store under the request's tags.
	OutputStore OutputType = "store"
	// OutputImage: the image goes into the daemon's image store (where it has
	// one), and to the registry with the attribute push=true.
	OutputImage OutputType = "image"
	// OutputOCI and OutputDocker: a tar archive, or with tar=false a directory.
	OutputOCI    OutputType = "oci"
	OutputDocker OutputType = "docker"
	// OutputTar and OutputLocal: the files of the image, as tar or in a directory.
	OutputTar   OutputType = "tar"
	OutputLocal OutputType = "local"
	// OutputCacheOnly: nothing but the daemon's cache.
	OutputCacheOnly OutputType = "cacheonly"
)

// Output is a place for the result.
type Output struct {
	Type OutputType
	// Dest is a file (OutputOCI, OutputDocker, OutputTar) or a directory
	// (OutputLocal, and OutputOCI with tar=false). Writer may stand in for a file.
	Dest   string
	Writer io.WriteCloser
	// Attrs are BuildKit's exporter attributes: compression, oci-mediatypes,
	// rewrite-timestamp, name, push, ...
	Attrs map[string]string
}

// Result is what a successful build gave.
type Result struct {
	// Digest is that of the manifest or index; empty when no image was exported. Of
	// outputs of different forms it is the store's or a layout's, else that of the image
	// pushed last, else that of the last archive.
	Digest digest.Digest
	// ConfigDigest is that of the image config, "" for an index.
	ConfigDigest digest.Digest
	// Tags are the normalised references the image now has.
	Tags []string
	// Descriptor is the JSON descriptor of the image as BuildKit reports it.
	Descriptor []byte
	// Metadata is BuildKit's exporter response, the content of --metadata-file.
	Metadata map[string]string
	// Changed: something was built or looked up in BuildKit's cache. It is false when
	// the memo had it all.
	Changed bool
	// Restored: nothing was built, but an output that was not in its place was put
	// there.
	Restored bool
	// Graph is what was built; nil where an external frontend did it all, and where
	// nothing was built and nothing had to be compiled to know it. Plan has it always.
	Graph *graph.Graph
	// prepared: the graph was compiled before the daemon was asked.
	prepared bool
	// Wasm is set by a WebAssembly build whose result is an artifact or a file.
	Wasm *WasmResult
	// Warnings are those of the linter and of the daemon.
	Warnings []solver.WarningInfo
	// Stages counts how the graph's stages ended.
	Stages StageCounts
	// Duration is the wall time of the build.
	Duration time.Duration
}

// StageCounts says how many stages ended in which way.
type StageCounts struct {
	Done, Cached, Failed, Skipped int
}

// Call is a question about a build file that is answered without building.
type Call string

// The calls. Their JSON results are those of BuildKit's subrequests.
const (
	// CallCheck runs the linter.
	CallCheck Call = "check"
	// CallOutline lists the arguments, secrets and ssh ids of a target.
	CallOutline Call = "outline"
	// CallTargets lists the targets.
	CallTargets Call = "targets"
	// CallDescribe lists the calls the frontend knows.
	CallDescribe Call = "subrequests.describe"
)

// CallResult is the answer to a [Call].
type CallResult struct {
	// JSON is the answer for programs, Text for people.
	JSON []byte
	Text []byte
	// Failed: a check found an error or, where the file asks for it, a warning.
	Failed bool
}
