package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/contentutil"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source"
	"github.com/zlayer-dev/zlayer/source/gitrepo"
	"github.com/zlayer-dev/zlayer/source/image"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// run is what the builds of one call share: one look at each directory, one look-up
// of each base image, one memo.
type run struct {
	engine *Engine
	trees  *source.Trees
	memo   memo.Store
	// traces are those of earlier compilations, nil without; asker tells whether they
	// still hold. builds are all builds of the call, by name.
	traces *traces
	asker  *asker
	builds map[string]*job
	// llbCaps and gatewayCaps are what BuildKit of our own version can do.
	llbCaps, gatewayCaps apicaps.CapSet
	// own is the platform of builds that name none, found out once.
	own     sync.Once
	ownSpec ocispecs.Platform
	// login reads the credentials of docker, once: looking for the programs that keep
	// them takes longer than an unchanged build.
	login credentials
	// sources is what the daemon reads from, files the part of it that is made for the call.
	sources *sources
	files   content.Store
	// units are the builds compiled so far, for all jobs of the call.
	units *unitTable
	// exports has a place for each delivery from the memo that may go on at one time; nil
	// where nobody has said how many.
	exports chan struct{}
	// batch: the call has several builds; jobs are those, by the names that build files
	// can mean them by.
	batch bool
	jobs  map[string]*job
	// roots are the outermost directories of builds, paths those without links.
	roots roots
	paths realPaths
	// directory is the working directory.
	directory func() (string, error)
	// names are the results of normalName.
	names sync.Map
	// normalize: permission bits of local files are 0644 or 0755.
	normalize bool

	// git are the repositories that references are looked up in.
	git gitrepo.Repos
	// unsure: a file of a repository could not be read that may be there.
	unsure atomic.Bool

	mu        sync.Mutex
	daemons   map[*client.Client]*built
	resolvers map[resolverKey]*image.Resolver
	locks     map[string]*lock.File
	lockSums  map[*lock.File]digest.Digest
	warnings  []string
}

// newRun begins a call. Its caller closes it.
func (e *Engine) newRun(req Request) (*run, error) { return e.newRunWith(req, nil) }

// newRunWith is newRun with another memo than that of the configuration, see openMemo.
func (e *Engine) newRunWith(req Request, spec []string) (*run, error) {
	r := &run{engine: e, units: newUnitTable(), jobs: map[string]*job{}, normalize: req.NormalizeModes, resolvers: map[resolverKey]*image.Resolver{}}
	r.llbCaps, r.gatewayCaps = pb.Caps.CapSet(pb.Caps.All()), gwpb.Caps.CapSet(gwpb.Caps.All())
	r.trees, r.directory = r.openTrees(), sync.OnceValues(os.Getwd)
	if state := e.stateDir(); state != "" {
		r.git.Dir = filepath.Join(state, "git")
		// The daemon may reach what cannot be reached from here.
		r.git.Patience = gitPatience
	}
	r.sources, r.files = newSources(req.NormalizeModes), contentutil.NewBuffer()
	var err error
	r.memo, err = e.openMemo(spec, r.warn)
	r.traces, r.asker, r.builds = e.openTraces(spec), &asker{run: r}, map[string]*job{}
	return r, err
}

// openTrees begins a look at local directories.
func (r *run) openTrees() *source.Trees {
	return source.Open(source.Options{CacheDir: r.treesDir(), NormalizeModes: r.normalize})
}

// treesDir is where what is known about directories is kept, "" for nowhere.
func (r *run) treesDir() string {
	if state := r.engine.stateDir(); state != "" {
		return filepath.Join(state, "trees")
	}
	return ""
}

// close writes down what was learnt about directories.
func (r *run) close() error {
	r.sources.close()
	r.engine.sweepState(time.Now())
	return r.trees.Close()
}

// export waits for a place to deliver something from here. The caller calls what it gives.
func (r *run) export(ctx context.Context) (done func(), err error) {
	if r.exports == nil {
		return func() {}, nil
	}
	select {
	case r.exports <- struct{}{}:
		return func() { <-r.exports }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// warn notes what the user should know although it does not stop the build.
func (r *run) warn(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, err.Error())
}

// told gives the warnings so far, once.
func (r *run) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.warnings
	r.warnings = nil
	return w
}

// builtBy is what the daemon of a client has built, read once.
func (r *run) builtBy(ctx context.Context, c *client.Client) *built {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.daemons[c]; ok {
		return b
	}
	if r.daemons == nil {
		r.daemons = map[*client.Client]*built{}
	}
	r.daemons[c] = r.engine.builtBy(ctx, c)
	return r.daemons[c]
}

// stateDir is where the engine keeps what it knows, "" if there is no such place.
func (e *Engine) stateDir() string {
	if e.cfg.StateDir != "" {
		return e.cfg.StateDir
	}
	dir, err := daemon.DefaultStateDir()
	if err != nil {
		return ""
	}
	return dir
}

// resolverKey tells resolvers apart: jobs that ask in the same way share one.
type resolverKey struct {
	pull            PullMode
	lock            *lock.File
	locked, offline bool
}

// resolver finds out what image names stand for, for all jobs that ask in the same
// way.
func (j *job) resolver() (*image.Resolver, error) {
	r := j.run
	key := resolverKey{j.req.Pull, j.lock, j.req.Locked, j.req.Offline}
	r.mu.Lock()
	defer r.mu.Unlock()
	if res := r.resolvers[key]; res != nil {
		return res, nil
	}
	res := &image.Resolver{}
	if dir := r.engine.stateDir(); dir != "" {
		res.Dir = filepath.Join(dir, "images")
	}
	if j.req.Pull == PullNever || j.req.Offline {
		res.Mode = image.Known
	}
	if j.lock != nil || j.req.Locked {
		res.Pin = j.pinImage
	}
	if r.engine.cfg.Addr == "" {
		hosts, err := r.engine.cfg.Daemon().RegistryHosts()
		if err != nil {
			return nil, err
		}
		res.Registries = hosts
	}
	r.resolvers[key] = res
	return res, nil
}

// platform is the one that builds are for when none is asked for: the daemon's own.
func (r *run) platform() ocispecs.Platform {
	r.own.Do(func() {
		var ok bool
		if r.ownSpec, ok = r.engine.knownPlatform(); !ok {
			r.ownSpec = platforms.Normalize(platforms.DefaultSpec())
		}
	})
	return r.ownSpec
}

// platformFile remembers what a daemon that is not ours builds for.
func (e *Engine) platformFile() string {
	dir := e.stateDir()
	if e.cfg.Addr == "" || dir == "" {
		return ""
	}
	h := graph.NewHasher("zlayer.daemon.v1")
	h.String(e.cfg.Addr)
	return filepath.Join(dir, "daemons", h.Digest().Encoded()[:32]+".json")
}

func (e *Engine) knownPlatform() (ocispecs.Platform, bool) {
	var p ocispecs.Platform
	file := e.platformFile()
	if file == "" {
		return p, false
	}
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &p) != nil || p.OS == "" || p.Architecture == "" {
		return ocispecs.Platform{}, false
	}
	return p, true
}

// learnPlatform asks a daemon that is not ours what it builds for, once for each
// address: until that is known nothing can be looked up without it.
func (e *Engine) learnPlatform(ctx context.Context) error {
	file := e.platformFile()
	if file == "" {
		return nil
	}
	if _, ok := e.knownPlatform(); ok {
		return nil
	}
	var workers []*client.WorkerInfo
	err := e.withClient(ctx, func(c *client.Client, _ func()) error {
		var err error
		workers, err = c.ListWorkers(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if len(workers) == 0 || len(workers[0].Platforms) == 0 {
		return errors.New("the daemon has no worker")
	}
	text, err := json.Marshal(workers[0].Platforms[0])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
