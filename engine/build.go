package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/apicaps"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// product names us to the daemon (it appears in provenance).
const product = "zlayer"

// Build builds what req asks for and delivers it to the outputs. On return
// everything that could be made durable is; a failed build leaves no tag, file or
// directory half-written, except what BuildKit's local exporter has copied.
//
// Errors: an [InputError] for a mistake in the request, a [graph.PosError] for one
// in the build file, solver.StageError (or a list of them, see solver.Causes) for
// failed stages, context.Cause(ctx) when ctx ended. The result is not nil when
// stages failed: it then holds the graph and the counts.
func (e *Engine) Build(ctx context.Context, req Request) (*Result, error) {
	start := time.Now()
	r, err := e.newRun(req)
	if err != nil {
		return nil, err
	}
	res, err := r.build(ctx, req)
	if cerr := r.close(); err == nil && cerr != nil {
		err = cerr
	}
	if res != nil {
		res.Duration = time.Since(start)
	}
	return res, err
}

// build does one of the builds of a call.
func (r *run) build(ctx context.Context, req Request) (*Result, error) {
	c := newCourse()
	req.Events = c.sink(req.Events)
	j, err := r.prepare(req)
	if err != nil {
		return nil, err
	}
	res, err := j.recallOrBuild(ctx)
	if res != nil && res.Graph != nil && (res.Changed || err != nil) {
		c.write(j.lastBuildFile(), []*graph.Graph{res.Graph}, nil, err != nil)
	} else if res != nil && err == nil && !res.Changed {
		c.recalled(j.lastBuildFile(), res.Restored)
	}
	if cerr := j.close(); err == nil && cerr != nil {
		err = cerr
	}
	return res, err
}

// recallOrBuild asks the memo before it asks a daemon.
func (j *job) recallOrBuild(ctx context.Context) (*Result, error) {
	if err := j.engine.learnPlatform(ctx); err != nil {
		return nil, err
	}
	j.run.builds[j.name] = j
	if k := j.recompile(ctx); k != nil {
		if res, err := j.recall(ctx, k); !errors.Is(err, errMissed) {
			return res, err
		}
	}
	k, err := j.compileKeys(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := j.refused(ctx, err); err != nil {
		return j.tellFailed(), err
	}
	if err == nil {
		if err := j.checkEntitlements(k.graph); err != nil {
			return nil, err
		}
		j.keepTrace(ctx, k)
		if res, err := j.recall(ctx, k); !errors.Is(err, errMissed) {
			return res, err
		}
	}
	// What else kept it from being compiled the daemon may not meet: it has ways to
	// registries of its own.
	j.setCompiled(k)
	j.run.settleLocals(ctx, []*job{j})
	res, err := j.build(ctx)
	if err != nil {
		return res, err
	}
	res.Changed = true
	j.remember(ctx, k, res)
	for _, w := range j.run.told() {
		res.Warnings = append(res.Warnings, solver.WarningInfo{Level: 1, Short: w})
	}
	return res, nil
}

func (j *job) build(ctx context.Context) (*Result, error) {
	ctx, release := j.locals.watch(ctx)
	defer release()
	ctx, done := j.run.sources.watch(ctx, j)
	defer done()
	if s := j.outputs.store; s != nil {
		lease, err := s.Lease(ctx)
		if err != nil {
			return nil, err
		}
		defer lease.Close()
	}
	res, err := j.solveOften(ctx)
	if err != nil {
		return res, j.explain(ctx, err)
	}
	desc, err := res.descriptor()
	if err != nil {
		return res, err
	}
	for _, f := range j.outputs.finish {
		if err := f(ctx, desc); err != nil {
			return res, err
		}
	}
	if err := j.deliverWasm(ctx, res); err != nil {
		return res, err
	}
	return res, nil
}

// solve runs the job on a connected daemon. touched is called once something has
// happened that must not happen twice.
func (j *job) solve(ctx context.Context, c *client.Client, touched func()) (*Result, error) {
	res := &Result{}
	sink := j.sink(res)
	for _, w := range slices.Concat(j.warnings, j.run.told()) {
		sink(solver.Event{Kind: solver.Warning, Time: time.Now(), Warning: &solver.WarningInfo{Level: 1, Short: w}})
	}
	tracker := &solver.Tracker{Events: sink, Build: j.name}
	var buildErr error
	g, err := j.prepared(ctx, c)
	if err != nil {
		return res, err
	}
	run := func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
		if g != nil && unsupported(g, func(id string) error { return supportsLLB(gw, id) }) == "" {
			r, err := dockerfile.Solve(ctx, gw, g, func(ctx context.Context, req dockerfile.SolveRequest) ([]gwclient.Reference, error) {
				res.Graph, res.prepared = req.Graph, true
				return j.solveGraph(ctx, req, tracker)
			})
			buildErr = err
			return r, err
		}
		gw = j.client(gw)
		f := dockerfile.Frontend{Options: newComposer(j, gw, func(w solver.WarningInfo) {
			sink(solver.Event{Kind: solver.Warning, Time: time.Now(), Warning: &w})
		}).options(), Solve: func(ctx context.Context, req dockerfile.SolveRequest) ([]gwclient.Reference, error) {
			res.Graph = req.Graph
			return j.solveGraph(ctx, req, tracker)
		}}
		r, err := f.Build(ctx, gw)
		buildErr = err
		return r, err
	}
	if g != nil {
		tracker.Warn(j.compiled.warnings)
		for _, w := range j.compiled.told {
			sink(solver.Event{Kind: solver.Warning, Time: time.Now(), Warning: &w})
		}
	}
	status := make(chan *client.SolveStatus, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range status {
			touched()
			tracker.Status(s)
		}
	}()
	resp, err := onDaemon(ctx, c, j.solveOpt(g == nil), run, status)
	<-done
	tracker.Close()
	counts := tracker.Counts()
	res.Stages = StageCounts{Done: counts.Done, Cached: counts.Cached, Failed: counts.Failed, Skipped: counts.Skipped}
	if err != nil {
		// What our build function returned has been through gRPC in err; the
		// original still has its types.
		if buildErr != nil && ctx.Err() == nil {
			err = buildErr
		}
		return res, err
	}
	res.fill(resp.ExporterResponse, j.outputs)
	j.noteBuilt(res)
	return res, nil
}

// sink collects warnings for the result and passes events on, one at a time, with
// the user's names of files.
func (j *job) sink(res *Result) solver.Sink {
	var mu sync.Mutex
	return func(ev solver.Event) {
		mu.Lock()
		defer mu.Unlock()
		if ev.Warning != nil {
			w := *ev.Warning
			w.Pos = j.shown(w.Pos)
			ev.Warning = &w
			res.Warnings = append(res.Warnings, w)
		}
		j.noteUnrunnable(ev)
		if j.ends != nil && !j.ends.pass(ev) {
			return
		}
		if j.req.Events != nil {
			j.req.Events(ev)
		}
	}
}

// client is the gateway as frontends see it: build files come from the disk, names
// of images as the pull mode has them.
func (j *job) client(gw gwclient.Client) gwclient.Client {
	return &frontend.Files{Client: j.imageMemo(gw), Dirs: j.dirs, Texts: j.texts, Replace: j.nestedIgnore(j.contextDir, j.dirs["dockerfile"])}
}

// setCompiled takes over what was compiled before the daemon is asked, nil where that
// failed. An SBOM needs states of stages that a graph does not have, so a build with
// one is compiled again.
func (j *job) setCompiled(k *keys) {
	j.compiled = k
	if k != nil && j.attrs["attest:sbom"] == "" {
		j.known = k.graph
	}
}

// prepared is the graph for the daemon of c where it was compiled already; nil where
// that is left to the build function.
func (j *job) prepared(ctx context.Context, c *client.Client) (*graph.Graph, error) {
	if j.known == nil {
		return nil, nil
	}
	j.run.sources.addStores(j.layouts)
	j.run.sources.addStores(map[string]content.Store{filesID: j.run.files})
	if s, err := j.engine.Store(); err == nil {
		j.run.sources.addStores(map[string]content.Store{storeID: s.Content()})
	}
	if j.builtBy = j.run.builtBy(ctx, c); j.builtBy != nil {
		j.taken = j.substitutes(ctx)
	}
	sess, err := j.run.sources.session(c, j.engine.clientKey())
	if err != nil {
		return nil, err
	}
	return j.forDaemon(sess)
}

// supportsLLB reports whether a daemon knows a capability of LLB.
func supportsLLB(gw gwclient.Client, id string) error {
	caps := gw.BuildOpts().LLBCaps
	return caps.Supports(apicaps.CapID(id))
}

func (j *job) solveGraph(ctx context.Context, req dockerfile.SolveRequest, tracker *solver.Tracker) ([]gwclient.Reference, error) {
	if err := j.checkEntitlements(req.Graph); err != nil {
		return nil, err
	}
	var exec solver.Executor = solver.Gateway{Client: req.Client, CacheImports: req.CacheImports}
	if j.retry != nil {
		j.retry.Exec, j.retry.Tracker = exec, tracker
		exec = j.retry
	}
	s := solver.Solver{
		Exec:     exec,
		Jobs:     j.req.Jobs,
		FailFast: j.req.FailFast,
		Tracker:  tracker,
	}
	results, err := s.Solve(ctx, req.Graph)
	if err != nil {
		return nil, err
	}
	outputs := req.Graph.Outputs()
	refs := make([]gwclient.Reference, len(outputs))
	for i, o := range outputs {
		refs[i] = results[o.ID]
	}
	if j.isWasmArtifact() && len(refs) == 1 && j.compiled != nil && j.compiled.base != "" {
		j.statWasm(ctx, refs[0])
	}
	return refs, nil
}

// fill takes over what the exporters report.
func (r *Result) fill(resp map[string]string, o outputs) {
	r.Metadata = maps.Clone(resp)
	r.Digest = digest.Digest(resp[exptypes.ExporterImageDigestKey])
	r.ConfigDigest = digest.Digest(resp[exptypes.ExporterImageConfigDigestKey])
	if d, err := base64.StdEncoding.DecodeString(resp[exptypes.ExporterImageDescriptorKey]); err == nil && len(d) > 0 {
		r.Descriptor = d
	}
	if names := resp[exptypes.ExporterImageNameKey]; names != "" {
		r.Tags = strings.Split(names, ",")
	} else if o.store != nil {
		r.Tags = slices.Clone(o.names)
	}
}

func (r *Result) descriptor() (ocispecs.Descriptor, error) {
	var desc ocispecs.Descriptor
	if len(r.Descriptor) == 0 {
		return desc, nil
	}
	if err := json.Unmarshal(r.Descriptor, &desc); err != nil {
		return desc, fmt.Errorf("reading the daemon's image descriptor: %w", err)
	}
	return desc, nil
}

// Plan compiles what req asks for and returns its graph without building it.
// Base images are resolved, nothing else is fetched; a daemon is asked only where the
// build cannot be compiled without one. The graph is nil where an external frontend
// would do the build.
func (e *Engine) Plan(ctx context.Context, req Request) (g *graph.Graph, err error) {
	err = e.withPlan(ctx, req, func(_ *job, _ *keys, planned *graph.Graph) { g = planned })
	return g, err
}

// withPlan compiles what req asks for. The keys are nil where a daemon had to be asked.
func (e *Engine) withPlan(ctx context.Context, req Request, f func(*job, *keys, *graph.Graph)) error {
	r, err := e.newRun(req)
	if err != nil {
		return err
	}
	defer r.close()
	j, err := r.prepareCall(req)
	if err != nil {
		return err
	}
	defer j.close()
	if err := e.learnPlatform(ctx); err != nil {
		return err
	}
	if k, err := j.compileKeys(ctx); err == nil {
		f(j, k, k.graph)
		return nil
	}
	var g *graph.Graph
	err = j.gateway(ctx, func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
		var err error
		g, err = dockerfile.Compile(ctx, gw, newComposer(j, gw, nil).options())
		return gwclient.NewResult(), err
	})
	if err == nil {
		f(j, nil, g)
	}
	return err
}

// gateway runs f as a build function without outputs.
func (j *job) gateway(ctx context.Context, f gwclient.BuildFunc) error {
	ctx, release := j.locals.watch(ctx)
	defer release()
	err := j.engine.withClient(ctx, func(c *client.Client, touched func()) error {
		if j.once {
			touched()
		}
		var buildErr error
		_, err := onDaemon(ctx, c, j.solveOpt(true), func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
			r, err := f(ctx, j.client(gw))
			buildErr = err
			return r, err
		}, nil)
		if err != nil && buildErr != nil && ctx.Err() == nil {
			return buildErr
		}
		return err
	})
	if err != nil {
		return j.explain(ctx, err)
	}
	return nil
}
