package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/source"
)

// keys is a build compiled before any daemon is asked, and what its results are
// known by.
type keys struct {
	graph *graph.Graph
	// base covers the outputs of the graph and what the request says about the bytes
	// of every output; "" where something has no key.
	base digest.Digest
	// stages are the keys of the stages, by ID, with what they are made of.
	stages map[digest.Digest]stageKey
	// why there is no base.
	why error
	// warnings are what the linter said.
	warnings []*client.VertexWarning
	told     []solver.WarningInfo
	// traced and outputs stand for graph and stages where these were not compiled because
	// they would be the same as before.
	traced  []tracedStage
	outputs []graph.Key
	// inputs are what the compilation has asked.
	inputs *inputs
	// files are the paths of build files, ignore files and what else the compilation
	// has read or looked for.
	files map[string]bool
}

type stageKey struct {
	key   graph.Key
	parts []graph.Part
}

// compileKeys compiles the request and computes the keys of its stages. The error
// is errNeedsDaemon, or what is wrong with the build; a build that has no key is no
// error.
func (j *job) compileKeys(ctx context.Context) (*keys, error) {
	o := j.newOffline()
	k := &keys{stages: map[digest.Digest]stageKey{}, inputs: &inputs{}}
	var mu sync.Mutex
	c := newComposer(j, o, func(w solver.WarningInfo) {
		mu.Lock()
		defer mu.Unlock()
		k.told = append(k.told, w)
	})
	c.asked, c.inputs, c.units = o.ask, k.inputs, j.run.units
	c.gateway = func(j *job) gwclient.Client { return j.newOffline() }
	g, err := c.compileAll(ctx)
	if err != nil {
		k.warnings = o.vertexWarnings()
		j.failed = k
		return nil, o.tag(err)
	}
	if j.run.unsure.Load() && readsGit(g) {
		return nil, errNeedsDaemon
	}
	k.graph = g
	k.warnings = o.vertexWarnings()
	k.files = o.asked
	j.lookUpGit(ctx, g)
	if err := j.checkOffline(g); err != nil {
		return nil, err
	}
	if err := j.keyStages(ctx, k, j.fixSource); err != nil {
		var no *graph.NoKeyError
		if !errors.As(err, &no) {
			return nil, err
		}
		k.why = no
		return k, nil
	}
	k.base, err = j.baseKey(ctx, k)
	return k, err
}

// compileAll compiles the outermost build for all its platforms.
func (c *composer) compileAll(ctx context.Context) (*graph.Graph, error) {
	u := c.job.outermost()
	var stages []*graph.Stage
	for p := range strings.SplitSeq(u.platform, ",") {
		u.platform = p
		done, err := c.once(ctx, u, nil)
		if err != nil {
			return nil, err
		}
		stages = append(stages, done.stage)
	}
	return graph.New(stages...)
}

// keyStages computes the keys of all stages of k. pin fixes sources that can change.
func (j *job) keyStages(ctx context.Context, k *keys, pin func(graph.Source) (graph.Source, error)) error {
	keyer := &graph.Keyer{
		Local: func(ctx context.Context, src graph.Source, take graph.Take) (digest.Digest, error) {
			return j.localDigest(ctx, src, take, k.inputs)
		},
		Pin: func(src graph.Source) (graph.Source, error) {
			if kind, ref := lockable(src); kind != "" {
				if _, ok := j.lock.Get(kind, ref, ""); !ok {
					k.inputs.loosen() // it was looked up
				}
			}
			return pin(src)
		},
	}
	for _, s := range k.graph.Stages() {
		key, parts, err := keyer.Key(ctx, s)
		if err != nil {
			return err
		}
		k.stages[s.ID] = stageKey{key, parts}
	}
	return nil
}

// bytesAttrs are the frontend attributes that say something about the bytes of an
// output which no stage does.
var bytesAttrs = []string{"attest:sbom", "attest:provenance", "build-arg:BUILDKIT_INLINE_CACHE", "build-arg:BUILDKIT_MULTI_PLATFORM"}

// baseKey covers what all outputs of the request have in common.
func (j *job) baseKey(ctx context.Context, k *keys) (digest.Digest, error) {
	h := graph.NewHasher("zlayer.output.v1")
	outputs := k.graph.Outputs()
	h.Int(len(outputs))
	for _, s := range outputs {
		h.String(k.stages[s.ID].key.String())
	}
	h.String(j.attrs["platform"])
	attrs := map[string]string{}
	for _, name := range bytesAttrs {
		if v, ok := j.attrs[name]; ok {
			attrs[name] = v
		}
	}
	h.Map(attrs)
	scanner, err := j.scannerDigest(ctx)
	if err != nil {
		return "", err
	}
	h.String(scanner)
	if scanner != "" {
		k.inputs.note(question{Kind: askScanner, Build: j.name}, found(scanner, "", nil))
	}
	inline := 0
	for _, c := range j.cacheTo {
		if c.Type == "inline" {
			inline = 1
		}
	}
	h.Int(inline)
	return h.Digest(), nil
}

// localDigest is the content of what an operation takes out of a local directory. It is
// noted in in.
func (j *job) localDigest(ctx context.Context, src graph.Source, take graph.Take, in *inputs) (digest.Digest, error) {
	dir, f, err := j.viewed(src)
	if err != nil {
		return "", err
	}
	view, err := j.trees.View(dir, f)
	if err != nil {
		return "", err
	}
	c, err := view.Digest(ctx, selection(take))
	if err != nil {
		return "", inputErrorf("reading a local directory: %w", err)
	}
	in.noteTree(dir, f, selection(take), c.Digest)
	return c.Digest, nil
}

func selection(t graph.Take) source.Selection {
	return source.Selection{
		Path: t.Path, Wildcard: t.Wildcard, FollowSymlink: t.FollowSymlink, DirContents: t.DirContents,
		Include: t.Include, Exclude: t.Exclude,
	}
}

// view is a local source as the daemon would be shown it.
func (j *job) view(src graph.Source) (*source.View, error) {
	dir, f, err := j.viewed(src)
	if err != nil {
		return nil, err
	}
	return j.trees.View(dir, f)
}

// viewed is the directory of a local source, and what of it the daemon would be shown.
func (j *job) viewed(src graph.Source) (string, source.Filter, error) {
	dir, ok := j.locals.dirOf(src.Ref)
	if !ok {
		return "", source.Filter{}, fmt.Errorf("local directory %s: %w", src.Ref, errNeedsDaemon)
	}
	if src.Attrs[pb.AttrMetadataTransfer] != "" {
		return "", source.Filter{}, fmt.Errorf("local directory %s is transferred in part: %w", dir, errNeedsDaemon)
	}
	f, err := source.FilterOf(src.Attrs)
	return dir, f, err
}

// settleLocals gives the local directories of builds their names for the daemon: a
// new one when a file has changed in a way that the daemon would not see. It comes
// after all keys of the call. Directories of a build that could not be compiled are
// looked at as a whole.
func (r *run) settleLocals(ctx context.Context, jobs []*job) {
	dirs := map[string]bool{}
	for _, j := range jobs {
		if j.compiled == nil {
			for _, dir := range j.locals.all() {
				_, _ = r.trees.View(dir, source.Filter{})
			}
		} else {
			for _, s := range j.compiled.graph.Stages() {
				for _, src := range s.Sources {
					if dir, ok := j.locals.dirOf(src.Ref); ok && src.Scheme == "local" {
						// What cannot be read will stop the build when it is sent.
						_, _ = j.view(src)
						dirs[dir] = true
					}
				}
			}
		}
		for _, dir := range j.locals.all() {
			dirs[dir] = true
		}
	}
	ids := map[string]string{}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		ids[dir] = r.trees.SyncID(ctx, dir)
	}
	r.sources.dirs.settle(ids)
	for _, j := range jobs {
		j.locals.settle(ids)
	}
}

// changedSince lists files that were edited since they were looked at.
func (j *job) changedSince(ctx context.Context) ([]string, error) {
	return j.trees.Changed(ctx)
}

// vertexWarnings are the warnings of a compilation in the form of the daemon's.
func (o *offline) vertexWarnings() []*client.VertexWarning {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []*client.VertexWarning
	for _, w := range o.warnings {
		out = append(out, &client.VertexWarning{
			Vertex: w.digest, Level: w.opts.Level, Short: []byte(w.msg), Detail: w.opts.Detail, URL: w.opts.URL,
			SourceInfo: w.opts.SourceInfo, Range: w.opts.Range,
		})
	}
	return out
}
