package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// A trace is what a compilation came to, with all that it has asked the world: as long
// as the request is the same and every question still has the same answer, it would come
// to the same again, and need not be done to know the keys of what it builds. Traces are
// of one machine; that one is lost costs a compilation.
type trace struct {
	Version int
	Inputs  []answered
	Base    digest.Digest
	Stages  []tracedStage
	Outputs []graph.Key
	Lint    []*client.VertexWarning
	Told    []solver.WarningInfo
}

// traceVersion is counted up when older traces must not be believed.
const traceVersion = 2

// tracedStage is a stage as far as those need it who are told of a build that had nothing
// to do.
type tracedStage struct {
	ID       digest.Digest
	Key      graph.Key
	Name     string
	Pos      graph.Pos
	Platform ocispecs.Platform
	Head     digest.Digest
	// Steps are the steps that the linter may have spoken of.
	Steps []digest.Digest
}

// traces keeps the traces of a machine, each as the parts of a record.
type traces struct {
	store *memo.Dir
	// tool tells compilers apart: this program, as it is on disk.
	tool string
}

// Bounds of what is kept.
const (
	maxTraceAge  = 30 * 24 * time.Hour
	maxTraceSize = 128 << 20
)

// openTraces gives the traces of the engine's machine; nil where there are none, or where
// nothing is looked up anyway.
func (e *Engine) openTraces(spec []string) *traces {
	dir := e.stateDir()
	if len(spec) == 0 {
		spec = e.memoSpec()
	}
	if dir == "" || slices.Contains(spec, "off") {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	fi, err := os.Stat(self)
	if err != nil {
		return nil
	}
	return &traces{
		store: &memo.Dir{Path: filepath.Join(dir, "traces"), MaxAge: maxTraceAge, MaxSize: maxTraceSize},
		tool:  fmt.Sprint(e.cfg.Version, " ", self, " ", fi.Size(), " ", fi.ModTime().UnixNano()),
	}
}

// get gives the trace that is kept under a key, nil without one, or where it cannot be
// read.
func (t *traces) get(ctx context.Context, key digest.Digest) *trace {
	rec, err := t.store.GetWhole(ctx, key)
	if err != nil {
		return nil
	}
	tr := decodeTrace(rec.Parts)
	if tr == nil || tr.Base == "" {
		return nil
	}
	return tr
}

// put keeps a trace. That it cannot be kept costs a compilation, no more.
func (t *traces) put(ctx context.Context, key digest.Digest, tr *trace) {
	data, err := tr.encode()
	if err != nil {
		return
	}
	_ = t.store.Put(ctx, &memo.Record{Key: key, Kind: memo.KindNone, Created: time.Now(), Parts: data})
}

// lazyKey is a key that is computed once.
type lazyKey struct {
	once sync.Once
	key  digest.Digest
}

// traceKey covers all that a compilation of the job takes from the request, the
// configuration and the process; "" where something else is part of it.
func (j *job) traceKey() digest.Digest {
	j.traced.once.Do(func() { j.traced.key = j.newTraceKey() })
	return j.traced.key
}

func (j *job) newTraceKey() digest.Digest {
	t := j.run.traces
	local := j.contextDir != "" || j.program != nil
	if t == nil || !local || j.inMemory || j.broken != nil || len(j.layouts) > 0 || j.req.lockAnew || j.req.lockLater {
		return ""
	}
	if j.program != nil && len(j.program.States) > 0 {
		return ""
	}
	req, err := j.plainRequest()
	if err != nil {
		return ""
	}
	wd, err := j.run.directory()
	if err != nil {
		return ""
	}
	parts := map[string]string{
		"tool": t.tool, "request": req, "name": j.name, "directory": wd,
		"context": j.contextDir, "file": j.shownFile, "read": j.readFile, "root": j.root(),
		"platform": platforms.FormatAll(j.run.platform()), "lock": j.run.lockDigest(j.lock),
		"normalize": fmt.Sprint(j.run.normalize), "batch": fmt.Sprint(j.run.batch),
	}
	images := map[string]string{}
	for name, p := range j.images {
		images[name] = p.name
	}
	nested := map[string]string{}
	for name, u := range j.nested {
		nested[name] = u.key()
	}
	for kind, v := range map[string]any{
		"attrs": j.attrs, "dirs": j.dirs, "builds": j.buildDirs, "texts": j.texts, "images": images, "nested": nested,
		"allowed": j.readAllowed, "entitlements": j.entitlements, "cache to": j.cacheTo,
	} {
		text, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		parts[kind] = string(text)
	}
	if j.program != nil {
		text, err := json.Marshal(j.program.Text)
		if err != nil {
			return ""
		}
		parts["program"] = string(text)
	}
	for _, text := range parts {
		if !plain(text) {
			return "" // two requests may look alike
		}
	}
	h := graph.NewHasher("zlayer.trace.v1")
	h.Map(parts)
	return h.Digest()
}

// plainRequest is the request without what has no bearing on its compilation and cannot
// be written down, or must not be.
func (j *job) plainRequest() (string, error) {
	r := struct {
		Request
		// These stand before those of the request.
		Stage, Stdin, Events, Secrets struct{}
	}{Request: j.req}
	r.Outputs = slices.Clone(r.Outputs)
	for i := range r.Outputs {
		r.Outputs[i].Writer = nil
	}
	text, err := json.Marshal(r)
	return string(text), err
}

// recompile gives the keys of the job from its trace; nil where that is not to be had, or
// where something has changed since.
func (j *job) recompile(ctx context.Context) *keys {
	if j.req.NoCache || len(j.req.NoCacheFilter) > 0 {
		return nil
	}
	key := j.traceKey()
	if key == "" {
		return nil
	}
	tr := j.run.traces.get(ctx, key)
	if tr == nil || !j.run.unchanged(ctx, tr.Inputs) {
		return nil
	}
	k := &keys{base: tr.Base, warnings: tr.Lint, told: tr.Told, traced: tr.Stages, outputs: tr.Outputs}
	return k
}

// unchanged reports whether all questions have the answers that they had.
func (r *run) unchanged(ctx context.Context, list []answered) bool {
	// Registries are far: what is asked of them is asked at once.
	far := slices.IndexFunc(list, func(a answered) bool { return a.Kind == askImage || a.Kind == askShort || a.Kind == askScanner })
	if far < 0 {
		far = len(list)
	}
	for _, a := range list[:far] {
		if r.asker.answer(ctx, a.question) != a.Answer {
			return false
		}
	}
	same := make([]bool, len(list)-far)
	var eg errgroup.Group
	for n, a := range list[far:] {
		eg.Go(func() error {
			same[n] = r.asker.answer(ctx, a.question) == a.Answer
			return nil
		})
	}
	_ = eg.Wait()
	return !slices.Contains(same, false)
}

// keepTrace keeps what a compilation came to.
func (j *job) keepTrace(ctx context.Context, k *keys) {
	key := j.traceKey()
	if key == "" || k.base == "" || k.inputs == nil || k.inputs.loose {
		return
	}
	tr := &trace{Version: traceVersion, Inputs: k.inputs.all(), Base: k.base, Outputs: k.outputKeys(), Lint: k.warnings, Told: k.told}
	for _, s := range k.graph.Stages() {
		ts := tracedStage{ID: s.ID, Key: k.stages[s.ID].key, Name: s.Name, Pos: s.Pos, Platform: s.Platform, Head: s.Head}
		if len(k.warnings) > 0 {
			for _, step := range s.Steps {
				ts.Steps = append(ts.Steps, step.Digest)
			}
		}
		tr.Stages = append(tr.Stages, ts)
	}
	j.run.traces.put(ctx, key, tr)
}

// shownStages are the stages for those who are told of them.
func (k *keys) shownStages() []*graph.Stage {
	if k.graph != nil {
		return k.graph.Stages()
	}
	list := make([]*graph.Stage, len(k.traced))
	for n, s := range k.traced {
		list[n] = &graph.Stage{Spec: graph.Spec{Name: s.Name, Pos: s.Pos, Platform: s.Platform}, ID: s.ID, Head: s.Head}
		for _, d := range s.Steps {
			list[n].Steps = append(list[n].Steps, graph.Step{Digest: d})
		}
	}
	return list
}

// stageKeys are the keys of all stages, inputs before those that read them.
func (k *keys) stageKeys() []graph.Key {
	var list []graph.Key
	if k.graph == nil {
		for _, s := range k.traced {
			list = append(list, s.Key)
		}
		return list
	}
	for _, s := range k.graph.Stages() {
		list = append(list, k.stages[s.ID].key)
	}
	return list
}

// outputKeys are the keys of what the build gives.
func (k *keys) outputKeys() []graph.Key {
	if k.graph == nil {
		return k.outputs
	}
	var list []graph.Key
	for _, s := range k.graph.Outputs() {
		list = append(list, k.stages[s.ID].key)
	}
	return list
}

// lockDigest tells lock files apart; nil is none.
func (r *run) lockDigest(f *lock.File) string {
	if f == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.lockSums[f]
	if !ok {
		d = digest.FromBytes(f.Format())
		if r.lockSums == nil {
			r.lockSums = map[*lock.File]digest.Digest{}
		}
		r.lockSums[f] = d
	}
	return d.String()
}
