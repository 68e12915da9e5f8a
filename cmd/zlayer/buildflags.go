package main

import (
	"github.com/spf13/pflag"
)

// buildFlags are the flags of the build command as they were given.
type buildFlags struct {
	file, target, syntax, root     string
	runtime                        string
	runtimeAuto                    bool
	tags, platforms                []string
	buildArgs, contexts            []string
	labels, annotations            []string
	outputs                        []string
	push, load                     bool
	noCache                        bool
	noCacheFilter                  []string
	pull, defaultRegistry          string
	normalizeModes, nestedIgnore   bool
	lockFile                       string
	locked, offline, updateBottles bool
	cacheFrom, cacheTo             []string
	secrets, ssh, allow            []string
	network, shmSize, cgroupParent string
	addHosts, ulimits              []string
	sbom, provenance               string
	attests                        []string
	metadataFile, iidFile          string
	progress                       string
	quiet, check, failFast         bool
	call, wasmFormat               string
	jobs, retries                  int
}

func (b *buildFlags) register(f *pflag.FlagSet) {
	f.SortFlags = false
	b.what(f)
	b.questions(f)
	group(f, "What to build")
	b.result(f)
	group(f, "What comes out of it")
	b.cache(f)
	group(f, "Cache")
	b.locking(f)
	group(f, "Lock file")
	b.steps(f)
	group(f, "What steps may use")
	b.how(f)
	group(f, "How to go about it")
}

func (b *buildFlags) what(f *pflag.FlagSet) {
	f.StringVarP(&b.file, "file", "f", "", "build `FILE`, relative to the working directory, - being standard input; without it ZImagefile, Dockerfile or Containerfile in the context")
	f.StringVar(&b.runtime, "runtime", "", "build by the template of the runtime `NAME` instead of by a build file; zlayer runtimes lists them")
	f.BoolVar(&b.runtimeAuto, "runtime-auto", false, "build by the template of the runtime that the project suggests")
	f.StringVar(&b.target, "target", "", "build `STAGE` instead of the last one")
	f.StringArrayVar(&b.buildArgs, "build-arg", nil, "set a build argument: `NAME[=VALUE]`; without a value it is taken from the environment, and not set if that has none (repeatable)")
	f.StringArrayVar(&b.contexts, "build-context", nil, "add a named context: `NAME=PATH`, or instead of the path a git or http URL, docker-image://REF or oci-layout://DIR; a directory with a build file that FROM names is built, too (repeatable)")
	f.StringVar(&b.root, "root", "", "let builds of other directories read what is below `DIR`; without it the git work tree of the context")
	f.StringVar(&b.defaultRegistry, "default-registry", "", "look for images with short names, as in FROM alpine, in `REGISTRY` (HOST[/PATH]) first and on Docker Hub only if they are not there")
	f.BoolVar(&b.normalizeModes, "normalize-modes", false, "take permission bits of local files as git does, 0755 for what its owner may execute and 0644 for the rest, so that the umask of a checkout does not matter")
	f.BoolVar(&b.nestedIgnore, "nested-ignore", false, "have .dockerignore files in directories below the build context count for what is below them, which other builders do not know")
	f.StringArrayVar(&b.platforms, "platform", nil, "build for `PLATFORM,...` (OS/ARCH[/VARIANT]) instead of the daemon's own; several give an index")
	b.wasmForm(f)
	f.StringVar(&b.syntax, "syntax", "", "build with the frontend `IMAGE` whatever the build file's syntax line says")
}

func (b *buildFlags) questions(f *pflag.FlagSet) {
	f.StringVar(&b.call, "call", "", "answer a `QUESTION` instead of building: check, outline, targets or subrequests.describe, with ,format=json for programs")
	f.BoolVar(&b.check, "check", false, "check the build file and build nothing; short for --call=check")
}

func (b *buildFlags) result(f *pflag.FlagSet) {
	f.StringArrayVarP(&b.tags, "tag", "t", nil, "name the image `NAME[:TAG]` (repeatable)")
	f.StringArrayVarP(&b.outputs, "output", "o", nil, "where the result goes: `type=TYPE[,dest=PATH][,KEY=VALUE]` with TYPE store, image, registry, oci, docker, tar, local or cacheonly and any attribute of BuildKit's exporter; a path is type=local, - a tar on standard output (repeatable; without it type=store)")
	f.BoolVar(&b.push, "push", false, "push the image to the registries of its tags; short for -o type=registry")
	f.BoolVar(&b.load, "load", false, "load the image into the local docker; short for -o type=docker")
	f.StringArrayVar(&b.labels, "label", nil, "add a label to the image: `NAME=VALUE` (repeatable)")
	f.StringArrayVar(&b.annotations, "annotation", nil, "add an annotation: `[TYPE,...:]NAME=VALUE` with TYPE manifest, index, manifest-descriptor or index-descriptor, the manifest types also for one platform as manifest[linux/amd64] (repeatable)")
	f.StringArrayVar(&b.attests, "attest", nil, "add an attestation: `type=TYPE[,KEY=VALUE]` with TYPE sbom or provenance (repeatable)")
	f.StringVar(&b.sbom, "sbom", "", "short for --attest type=sbom: `VALUE` is true, false or KEY=VALUE,...")
	f.StringVar(&b.provenance, "provenance", "", "short for --attest type=provenance: `VALUE` is true, false or KEY=VALUE,... such as mode=max")
	f.StringVar(&b.metadataFile, "metadata-file", "", "write what is known about the result to `FILE`, as JSON")
	f.StringVar(&b.iidFile, "iidfile", "", "write the image ID to `FILE`")
}

func (b *buildFlags) cache(f *pflag.FlagSet) {
	f.BoolVar(&b.noCache, "no-cache", false, "run every step anew")
	f.StringArrayVar(&b.noCacheFilter, "no-cache-filter", nil, "run the steps of `STAGE,...` anew (repeatable)")
	f.StringVar(&b.pull, "pull", "", "look base images up again: `MODE` is always (also without a mode), newer or never")
	f.Lookup("pull").NoOptDefVal = "always"
	f.StringArrayVar(&b.cacheFrom, "cache-from", nil, "use a cache: an image reference or `type=TYPE[,KEY=VALUE]` with TYPE registry, local, gha, s3 or azblob (repeatable)")
	f.StringArrayVar(&b.cacheTo, "cache-to", nil, "write a cache: an image reference or `type=TYPE[,KEY=VALUE]` with TYPE registry, local, inline, gha, s3 or azblob (repeatable)")
}

func (b *buildFlags) locking(f *pflag.FlagSet) {
	b.lockFileFlag(f)
	f.BoolVar(&b.locked, "locked", false, "fail where an image, git or http source is not in the lock file")
	f.BoolVar(&b.offline, "offline", false, "ask no registry and no server what a name stands for: go by the lock file, else by what it stood for last")
	f.BoolVar(&b.updateBottles, "update-bottles", false, "update the lock file before the build, as zlayer lock --update does")
}

func (b *buildFlags) lockFileFlag(f *pflag.FlagSet) {
	f.StringVar(&b.lockFile, "lock-file", "", "the lock `FILE`; without it zlayer.lock at the root (see --root), if it is there")
}

func (b *buildFlags) allowFlag(f *pflag.FlagSet) {
	f.StringArrayVar(&b.allow, "allow", nil, "an `ENTITLEMENT`: network.host, security.insecure, device[=NAME], or fs.read=DIR for builds of directories outside the root (repeatable)")
}

func (b *buildFlags) steps(f *pflag.FlagSet) {
	f.StringArrayVar(&b.secrets, "secret", nil, "a secret: `id=ID[,src=FILE|,env=NAME]`; with neither the variable ID, else the file ID (repeatable)")
	f.StringArrayVar(&b.ssh, "ssh", nil, "an ssh agent: `ID[=SOCKET|KEY,...]`, the ID being mostly default (repeatable)")
	b.allowFlag(f)
	f.StringVar(&b.network, "network", "", "the network of RUN steps: `MODE` is default, none or host")
	f.StringArrayVar(&b.addHosts, "add-host", nil, "a line in /etc/hosts: `NAME:IP` (repeatable)")
	f.StringVar(&b.shmSize, "shm-size", "", "a /dev/shm of `SIZE`, with b, k, m or g")
	f.StringArrayVar(&b.ulimits, "ulimit", nil, "a limit: `NAME=SOFT[:HARD]` (repeatable)")
	f.StringVar(&b.cgroupParent, "cgroup-parent", "", "the parent `CGROUP`")
}

func (b *buildFlags) how(f *pflag.FlagSet) {
	f.IntVarP(&b.jobs, "jobs", "j", 0, "build at most `N` stages at once instead of as many as there are")
	f.IntVar(&b.retries, "retries", 0, "try a RUN that fails, a pull or a push up to `N` times more, after a pause that grows, unless that cannot help")
	f.BoolVar(&b.failFast, "fail-fast", false, "stop everything at the first failure")
	f.StringVar(&b.progress, "progress", "", "show progress as `MODE`: auto, tty, plain, rawjson or quiet")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "print the image's digest and nothing else")
}
