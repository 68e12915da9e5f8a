package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/source"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// job is a request made ready for a daemon: all that can be checked without one
// has been.
type job struct {
	engine *Engine
	run    *run
	// name tells the builds of a call apart; empty where there is but one.
	name string
	// images are named contexts that are other builds of the call, by normal name.
	images map[string]*job
	// broken is why the build cannot be done, should another be based on it; nil mostly.
	broken error
	// trees are the run's local directories.
	trees *source.Trees
	req   Request

	// attrs are the frontend attributes.
	attrs map[string]string
	// locals are the local directories the daemon may read; dirs are the paths of
	// those the build file can name.
	locals localDirs
	dirs   map[string]string
	// buildDirs are the named contexts that are directories with a build file.
	buildDirs map[string]string
	// program is the build of a stage of the Go API, nested the directories with a build
	// file that it names; texts are files of it that are on no disk, by local source.
	program *dag.Program
	nested  map[string]unit
	texts   map[string]map[string][]byte
	// contextDir is the build context's directory; empty when it is not one.
	contextDir string
	// shownFile is the build file as the user named it, readFile as the frontend
	// does; empty is the attribute filename, or Dockerfile.
	shownFile, readFile string
	// layouts are OCI layouts the daemon may read, by store id.
	layouts      map[string]content.Store
	session      []session.Attachable
	entitlements []string
	cacheFrom    []client.CacheOptionsEntry
	cacheTo      []client.CacheOptionsEntry
	// outermostDir is the root as it was found when the first nested build was looked for.
	outermostOnce sync.Once
	outermostDir  string
	// readAllowed are directories outside the root that nested builds may read.
	readAllowed []string
	outputs     outputs
	// lock is the lock file, nil without one.
	lock *lock.File
	// known is the graph as compiled without the daemon; nil where that was not to be had.
	known    *graph.Graph
	compiled *keys
	// failed is what was said of the build while it could not be compiled.
	failed *keys
	// builtBy is what the daemon has built before; taken are the stages that it takes
	// from the store instead, by their last operation.
	builtBy *built
	taken   map[digest.Digest]taken
	// unrunnable are the steps whose programs the daemon's machine does not run.
	unrunnable map[digest.Digest]bool
	// warnings are what the user should know although it does not stop the build.
	warnings []string
	// wasm is set for a build of WebAssembly.
	wasm *wasmJob
	// once: a source can be read only once, so there is no second try.
	once bool
	// inMemory: the build file is a text that was made or read for this call.
	inMemory bool
	// madeUp: nobody has written it, so nothing can be at a place in it.
	madeUp bool
	traced lazyKey
	// retry and ends are there where the request asks for retries.
	retry *solver.Retry
	ends  *stageEnds
	// cleanup is undone in reverse order.
	cleanup []func() error
}

// prepare checks a request and turns it into a job, which the caller closes.
func (r *run) prepare(req Request) (*job, error) {
	j := r.newJob(req)
	for _, f := range []func() error{j.locate, j.setAttrs, j.setNamedContexts, j.setLock, j.setSession, j.setCache, j.setWasm, j.setOutputs} {
		if err := f(); err != nil {
			return nil, errors.Join(err, j.close())
		}
	}
	return j, nil
}

// prepareCall is prepare without outputs.
func (r *run) prepareCall(req Request) (*job, error) {
	j := r.newJob(req)
	for _, f := range []func() error{j.locate, j.setAttrs, j.setNamedContexts, j.setLock, j.setSession, j.setCache, j.setWasm} {
		if err := f(); err != nil {
			return nil, errors.Join(err, j.close())
		}
	}
	return j, nil
}

func (r *run) newJob(req Request) *job {
	return &job{
		engine: r.engine,
		run:    r,
		trees:  r.trees,
		req:    req,
		attrs:  map[string]string{},
		dirs:   map[string]string{},

		buildDirs: map[string]string{},
		layouts:   map[string]content.Store{},
		locals:    localDirs{normalize: r.normalize, more: &r.sources.dirs},
	}
}

// close releases what the job holds on disk.
func (j *job) close() error {
	var errs []error
	for i := len(j.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, j.cleanup[i]())
	}
	j.cleanup = nil
	return errors.Join(errs...)
}

// mount lets the daemon read a directory under a local name.
func (j *job) mount(name, dir string) {
	j.dirs[name] = dir
	j.locals.add(name, dir)
}

// tempDir makes a directory that lives as long as the job.
func (j *job) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "zlayer-")
	if err != nil {
		return "", err
	}
	j.cleanup = append(j.cleanup, func() error { return os.RemoveAll(dir) })
	return dir, nil
}

// sharedKey is part of the name of every copy of a local directory that the
// daemon keeps between builds. External frontends know directories only as
// "context" and "dockerfile", so it tells build contexts apart, too.
func (j *job) sharedKey() string {
	sum := sha256.Sum256([]byte("zlayer.context.v1\x00" + j.engine.clientID() + "\x00" + j.contextDir + "\x00" + j.locals.syncID(j.contextDir)))
	return hex.EncodeToString(sum[:16])
}

// solveOpt is the job in BuildKit's terms. own: the build's own session serves local
// directories and layouts, and frontends hear of the lock by a policy.
func (j *job) solveOpt(own bool) client.SolveOpt {
	opt := client.SolveOpt{
		Exports:             j.outputs.exports,
		SharedKey:           j.sharedKey(),
		FrontendAttrs:       j.attrs,
		Session:             j.session,
		AllowedEntitlements: j.entitlements,
		CacheImports:        j.cacheFrom,
		CacheExports:        j.cacheTo,
	}
	if own {
		opt.Session = append([]session.Attachable{j.locals.attachable()}, j.session...)
		opt.OCIStores = j.layouts
		// One with an SBOM is compiled again, but reads the same.
		g := j.known
		if g == nil && j.compiled != nil {
			g = j.compiled.graph
		}
		opt.SourcePolicy = j.sourcePolicy(g)
	}
	return opt
}

// shown replaces the frontend's name of the build file by the user's.
func (j *job) shown(p graph.Pos) graph.Pos {
	name := cmp.Or(j.readFile, j.attrs["filename"], "Dockerfile")
	if j.shownFile != "" && p.File == name {
		p.File = j.shownFile
	}
	return p
}
