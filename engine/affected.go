package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source"
)

// NamedRequest is one of several builds.
type NamedRequest struct {
	// Name tells the builds of a call apart.
	Name string
	Request
}

// AffectedOptions say what has changed.
type AffectedOptions struct {
	// Since is a git commit, branch or tag: what differs from it counts, whether it has
	// been committed or not, and files that git does not know count as added.
	Since string
	// Files are paths that count as changed, absolute or relative to the working
	// directory. They need not exist.
	Files []string
}

// Affected says which builds a change touches.
type Affected struct {
	// Images are all builds, in the order they were asked for.
	Images []AffectedImage `json:"images"`
	// Levels are the names of those that are affected, in an order in which they can be
	// built: each level after those before it, the builds of one level at once.
	Levels [][]string `json:"levels"`
}

// AffectedImage says what a change touches of one build.
type AffectedImage struct {
	Name     string `json:"name"`
	Affected bool   `json:"affected"`
	// Stages are those that the change touches.
	Stages []string `json:"stages,omitempty"`
	// Needs are the other builds of the call that this one is based on or copies from.
	Needs []string `json:"needs,omitempty"`
	// Reason is why more is not known: the build did not exist before, or nothing can
	// be known of it without building.
	Reason string `json:"reason,omitempty"`
}

// Affected says which of several builds a change touches: those whose keys differ.
// Nothing is built, and no daemon is asked. Base images are looked up once, so that a
// tag that moves in between is no change; one that the lock file moves is. Permission
// bits count as git knows them.
func (e *Engine) Affected(ctx context.Context, reqs []NamedRequest, o AffectedOptions) (*Affected, error) {
	if (o.Since == "") == (len(o.Files) == 0) {
		return nil, inputErrorf("say what has changed: since a git commit, or a list of files")
	}
	if len(reqs) == 0 {
		return &Affected{}, nil
	}
	first := reqs[0].Request
	first.NormalizeModes = true
	r, err := e.newRun(first)
	if err != nil {
		return nil, err
	}
	defer r.close()
	a := &affecting{run: r, options: o}
	defer a.close()
	for _, req := range reqs {
		if err := a.add(ctx, req); err != nil {
			return nil, fmt.Errorf("%s: %w", req.Name, err)
		}
	}
	return a.result(), nil
}

// affecting is one call of Affected.
type affecting struct {
	run     *run
	options AffectedOptions
	at      *checkout
	touched map[string]bool
	images  []AffectedImage
	graphs  []*keys
}

func (a *affecting) close() {
	if a.at != nil {
		_ = a.at.close()
	}
}

// add looks at one build.
func (a *affecting) add(ctx context.Context, req NamedRequest) error {
	j, err := a.run.prepareCall(req.Request)
	if err != nil {
		return err
	}
	defer j.close()
	img := AffectedImage{Name: req.Name}
	now, err := j.compileKeys(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		// One build with a mistake must not hide what is to be known of the others;
		// whoever builds it will see the mistake.
		img.Affected, img.Reason = true, "it cannot be compiled: "+j.explain(ctx, err).Error()
		if errors.Is(err, errNeedsDaemon) {
			img.Reason = err.Error()
		}
		a.images, a.graphs = append(a.images, img), append(a.graphs, nil)
		return nil
	}
	if now.base == "" {
		img.Affected, img.Reason = true, now.why.Error()
	} else if err := a.compare(ctx, j, now, &img); err != nil {
		return err
	}
	a.images, a.graphs = append(a.images, img), append(a.graphs, now)
	return nil
}

func (a *affecting) compare(ctx context.Context, j *job, now *keys, img *AffectedImage) error {
	if a.options.Since == "" {
		return a.compareFiles(ctx, j, now, img)
	}
	if j.contextDir == "" {
		img.Affected, img.Reason = true, "its build context is no directory"
		return nil
	}
	if a.at == nil {
		var err error
		if a.at, err = newCheckout(ctx, j.contextDir, a.options.Since); err != nil {
			return err
		}
	}
	then, err := a.run.prepareCall(a.at.request(j))
	if err != nil {
		img.Affected, img.Reason = true, "it was not there before"
		return nil
	}
	defer then.close()
	was, err := then.compileKeys(ctx)
	if err != nil || was.base == "" {
		img.Affected, img.Reason = true, "it could not be built before"
		return nil
	}
	a.differ(was, now, img)
	return nil
}

// differ notes the stages whose keys another compilation has not.
func (a *affecting) differ(was, now *keys, img *AffectedImage) {
	img.Affected = was.base != now.base
	before := map[graph.Key]bool{}
	for _, s := range was.stages {
		before[s.key] = true
	}
	for _, s := range now.graph.Stages() {
		if !before[now.stages[s.ID].key] && !slices.Contains(img.Stages, s.Name) {
			img.Stages = append(img.Stages, s.Name)
		}
	}
}

// compareFiles computes the keys once more, with the files taken as changed.
func (a *affecting) compareFiles(ctx context.Context, j *job, now *keys, img *AffectedImage) error {
	if a.touched == nil {
		a.touched = map[string]bool{}
		for _, f := range a.options.Files {
			abs, err := filepath.Abs(f)
			if err != nil {
				return err
			}
			if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
				abs = filepath.Join(dir, filepath.Base(abs))
			}
			a.touched[abs] = true
		}
	}
	for f := range a.touched {
		if now.files[f] || f == j.lockPath() || now.looksFor(f) || j.req.NestedIgnore && filepath.Base(f) == ".dockerignore" && within(j.contextDir, f) {
			img.Affected = true
			for _, s := range now.graph.Stages() {
				img.Stages = append(img.Stages, s.Name)
			}
			return nil
		}
	}
	j.trees = source.Open(source.Options{NormalizeModes: true, CacheDir: a.run.treesDir(), Touched: a.touched})
	defer j.trees.Close()
	was := &keys{graph: now.graph, stages: map[digest.Digest]stageKey{}}
	if err := j.keyStages(ctx, was, j.fixSource); err != nil {
		return err
	}
	base, err := j.baseKey(ctx, was)
	if err != nil {
		return err
	}
	was.base = base
	a.differ(was, now, img)
	return nil
}

// looksFor reports whether a file could be the build file of a directory that is
// built: it may have been there before, or be looked at once it is.
func (k *keys) looksFor(path string) bool {
	name := filepath.Base(path)
	if !slices.Contains(buildFiles, name) && name != zimage.FileName && !strings.HasPrefix(name, zimage.FileName+".") {
		return false
	}
	for f := range k.files {
		if filepath.Dir(f) == filepath.Dir(path) {
			return true
		}
	}
	return false
}

// result sorts the affected builds into levels.
func (a *affecting) result() *Affected {
	owner := map[graph.Key]int{}
	for i, k := range a.graphs {
		if k == nil || k.base == "" {
			continue
		}
		for _, s := range k.graph.Outputs() {
			owner[k.stages[s.ID].key] = i
		}
	}
	level := make([]int, len(a.images))
	res := &Affected{Images: a.images, Levels: [][]string{}}
	needs := make([][]int, len(a.images))
	for i, k := range a.graphs {
		if k == nil || k.base == "" {
			continue
		}
		for _, s := range k.graph.Stages() {
			if o, ok := owner[k.stages[s.ID].key]; ok && o != i && !slices.Contains(needs[i], o) {
				needs[i] = append(needs[i], o)
				a.images[i].Needs = append(a.images[i].Needs, a.images[o].Name)
			}
		}
	}
	// A build that another one needs has fewer stages, so this ends.
	for again := true; again; {
		again = false
		for i := range a.images {
			for _, o := range needs[i] {
				if l := level[o] + 1; a.images[o].Affected && level[i] < l && l <= len(a.images) {
					level[i], again = l, true
				}
			}
		}
	}
	for i, img := range a.images {
		if !img.Affected {
			continue
		}
		for len(res.Levels) <= level[i] {
			res.Levels = append(res.Levels, []string{})
		}
		res.Levels[level[i]] = append(res.Levels[level[i]], img.Name)
	}
	res.Levels = slices.DeleteFunc(res.Levels, func(l []string) bool { return len(l) == 0 })
	return res
}
