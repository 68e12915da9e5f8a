package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/zlayer-dev/zlayer/frontend/pipeline"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// PipelineRequest says which pipeline to load, and what the caller wants otherwise.
type PipelineRequest struct {
	// File is the pipeline file; empty is the one in the working directory.
	File string
	// Set are assignments, of variables (NAME=VALUE) and of fields of images
	// (IMAGE.FIELD=VALUE).
	Set []string
	// Only are the images, matrices and groups to build, Except those to leave out. What
	// is built depends on comes along.
	Only, Except []string
	// Platforms, if not empty, are those of all images.
	Platforms []string
	// Push, if not nil, says of all images whether they are pushed; an image that says
	// "push: false" is not in any case.
	Push *bool
	// LookupEnv finds the environment variables that the pipeline asks for; nil is none.
	LookupEnv func(name string) (string, bool)
}

// Pipeline is a pipeline in which everything is resolved: what there is to build.
type Pipeline struct {
	plan *pipeline.Plan
	// texts are the files of the pipeline, for excerpts.
	texts map[string][]byte
}

// PipelineImage is an image of a pipeline.
type PipelineImage struct {
	Name string
	// Tags are what it is called; Platforms are empty for the daemon's own.
	Tags, Platforms []string
	// DependsOn are the images that the pipeline says have to be there before.
	DependsOn []string
	// Along: it was not asked for, but one that was needs it.
	Along bool
	Pos   graph.Pos
}

// PipelineOptions say how to build a pipeline.
type PipelineOptions struct {
	// Jobs, FailFast and Events are as in [BatchRequest], Root and LockFile too; the root
	// is the git work tree, or the directory of the pipeline file.
	Jobs           int
	FailFast       bool
	Events         solver.Sink
	Root, LockFile string
	// NoCache and those after it hold for all images, as in [Request].
	NoCache, Locked, Offline, NormalizeModes, NestedIgnore bool
	// DefaultRegistry and Allow are as in [Request].
	DefaultRegistry string
	Allow           []string
	// Pull goes before what the pipeline says of images.
	Pull PullMode
	// Retries, if not nil, are those of all images.
	Retries *int
	// Memo goes before the cache of the pipeline, and that before [Config.Memo].
	Memo []string
}

// LoadPipeline reads a pipeline and resolves it. Nothing but files is looked at. Mistakes
// are graph.PosErrors, all at once.
func LoadPipeline(req PipelineRequest) (*Pipeline, error) {
	file := req.File
	if file == "" {
		var err error
		if file, err = pipeline.Find("."); err != nil {
			return nil, err
		}
		if file == "" {
			return nil, inputErrorf("there is no pipeline file here (%s): name one with -f", pipeline.Names()[0])
		}
	}
	plan, err := pipeline.Load(pipeline.Options{
		File: file, Set: req.Set, Platforms: req.Platforms, Push: req.Push, LookupEnv: req.LookupEnv,
		Selection: pipeline.Selection{Only: req.Only, Except: req.Except},
	})
	if err != nil {
		return nil, asInput(err)
	}
	return &Pipeline{plan: plan, texts: map[string][]byte{}}, nil
}

// JSON is the plan for people and programs: the same pipeline gives the same bytes.
// Secrets are not in it.
func (p *Pipeline) JSON() []byte { return p.plan.JSON() }

// Warnings are about what has no effect.
func (p *Pipeline) Warnings() []*graph.PosError { return p.plan.Warnings }

// Groups are the groups with the names of their images.
func (p *Pipeline) Groups() map[string][]string { return maps.Clone(p.plan.Groups) }

// Images are what is to be built, each after those it is known to depend on.
func (p *Pipeline) Images() []PipelineImage { return pipelineImages(p.plan.Images) }

// Rest are the images that were not selected.
func (p *Pipeline) Rest() []PipelineImage { return pipelineImages(p.plan.Rest) }

func pipelineImages(list []pipeline.Image) []PipelineImage {
	out := make([]PipelineImage, len(list))
	for n, i := range list {
		out[n] = PipelineImage{Name: i.Name, Tags: i.Tags, Platforms: i.Platforms, DependsOn: i.DependsOn, Along: i.Along, Pos: i.Pos}
	}
	return out
}

// BuildPipeline builds a pipeline, see [Engine.BuildAll].
func (e *Engine) BuildPipeline(ctx context.Context, p *Pipeline, o PipelineOptions) (*BatchResult, error) {
	req, err := e.pipelineBatch(p, o)
	if err != nil {
		return nil, err
	}
	req.courseFile = e.lastPipelineFile(p)
	return e.BuildAll(ctx, req)
}

// pipelineBuilds are the builds of a pipeline, to be asked about; change may change their
// requests. Its caller closes them and their run.
func (e *Engine) pipelineBuilds(p *Pipeline, o PipelineOptions, change func(*Request)) (*batch, error) {
	req, err := e.pipelineBatch(p, o)
	if err != nil {
		return nil, err
	}
	for i := range req.Builds {
		if change != nil {
			change(&req.Builds[i].Request)
		}
	}
	return e.newBatch(req)
}

// pipelineBatch turns a pipeline into builds.
func (e *Engine) pipelineBatch(p *Pipeline, o PipelineOptions) (BatchRequest, error) {
	c := &pipelineConverter{Pipeline: p, options: o, windows: e.cfg.Addr != "", waits: map[string][]string{}}
	req := BatchRequest{
		Root: o.Root, LockFile: o.LockFile, Jobs: o.Jobs, FailFast: o.FailFast, Events: o.Events,
		PushAfterAll: p.plan.Push.AfterAll, Memo: o.Memo,
	}
	if req.Root == "" {
		req.Root = workTree(filepath.Dir(p.plan.File))
	}
	if len(req.Memo) == 0 {
		req.Memo = memoOf(p.plan.Cache)
	}
	var errs []error
	for n := range p.plan.Images {
		img := &p.plan.Images[n]
		if err := c.check(img); err != nil {
			errs = append(errs, err)
			continue
		}
		req.Builds = append(req.Builds, c.build(img))
	}
	if len(errs) > 0 {
		return req, list(errs)
	}
	for n := range p.plan.Rest {
		img := &p.plan.Rest[n]
		b := c.build(img)
		b.Aside, b.Tags, b.DependsOn = true, nil, nil
		b.broken = c.check(img)
		req.Builds = append(req.Builds, b)
	}
	return req, nil
}

// workTree is the git work tree that a directory is in, or else the directory.
func workTree(dir string) string {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, ".git")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

// pipelineConverter makes builds of images.
type pipelineConverter struct {
	*Pipeline
	options PipelineOptions
	// windows: the daemon may be able to build for it.
	windows bool
	// waits are the results of waitsFor.
	waits map[string][]string
}

// check finds the mistakes that can be pointed at in the pipeline file.
func (c *pipelineConverter) check(img *pipeline.Image) error {
	at := func(field, format string, args ...any) error {
		return c.at(img, field, inputErrorf(img.Name+": "+format, args...))
	}
	if img.OS == "windows" && !c.windows {
		return at("os", "images for windows need a BuildKit on Windows, and the embedded one runs on Linux: name another with --addr, or leave the image out with --except %s", img.Name)
	}
	if isRemote(img.Context) {
		return nil
	}
	if fi, err := os.Stat(img.Context); err != nil || !fi.IsDir() {
		return at("context", "build context %s is not a directory", shownPath(img.Context))
	}
	if img.File != "" && !isFile(img.File) {
		return at("file", "build file %s does not exist", shownPath(img.File))
	}
	for n, s := range img.Secrets {
		if s.File == "" {
			continue
		}
		if _, err := os.Stat(s.File); err != nil {
			return at(fmt.Sprintf("secrets.%d", n), "the file of secret %s: %w", s.ID, err)
		}
	}
	return nil
}

// at gives an error the place of a field.
func (c *pipelineConverter) at(img *pipeline.Image, field string, err error) error {
	pos := img.At(field)
	if pos.IsZero() {
		return err
	}
	text, ok := c.texts[pos.File]
	if !ok {
		// Without it there is no excerpt, and no other harm.
		text, _ = os.ReadFile(pos.File)
		c.texts[pos.File] = text
	}
	return &graph.PosError{Pos: pos, Err: err, Source: text}
}

// build makes a build of an image.
func (c *pipelineConverter) build(img *pipeline.Image) BatchBuild {
	o := c.options
	r := Request{
		Context: img.Context, File: img.File, Target: img.Target, Platforms: img.Platforms, BuildArgs: img.BuildArgs,
		BuildContexts: img.Contexts, Labels: img.Labels, Annotations: img.Annotations, Vars: img.Vars,
		NoCache: img.NoCache || o.NoCache, Pull: cmp.Or(o.Pull, PullMode(img.Pull)), Retries: img.Retries, Tags: img.Tags,
		Locked: o.Locked, Offline: o.Offline, NormalizeModes: o.NormalizeModes, NestedIgnore: o.NestedIgnore,
		DefaultRegistry: o.DefaultRegistry, Allow: o.Allow,
	}
	if o.Retries != nil {
		r.Retries = *o.Retries
	}
	if len(r.Platforms) == 0 && img.OS == "windows" {
		r.Platforms = []string{"windows/amd64"}
	}
	setPipelineAccess(&r, img)
	setPipelineOutputs(&r, img)
	b := BatchBuild{
		NamedRequest: NamedRequest{Name: img.Name, Request: r}, Names: img.Names,
		DependsOn: c.waitsFor(img.Name), Images: img.ImageContexts, At: img.Pos,
	}
	if img.Along {
		b.Tags, b.Annotations, b.Push = nil, nil, false
		b.Outputs = []Output{{Type: OutputCacheOnly}}
		b.Aside = !c.waitedFor(img)
	}
	return b
}

// waitsFor lists the images that one has to wait for: those of depends_on, also of
// images that it copies from. What is read from an image context needs no waiting.
func (c *pipelineConverter) waitsFor(name string) []string {
	if w, ok := c.waits[name]; ok {
		return w
	}
	img := c.plan.Image(name)
	var w []string
	for _, d := range img.DependsOn {
		if !readsImage(img, d) {
			w = append(w, d)
			continue
		}
		w = append(w, c.waitsFor(d)...)
	}
	slices.Sort(w)
	w = slices.Compact(w)
	c.waits[name] = w
	return w
}

// readsImage reports whether an image has another as a named context.
func readsImage(img *pipeline.Image, name string) bool {
	for n := range maps.Values(img.ImageContexts) {
		if n == name {
			return true
		}
	}
	return false
}

// waitedFor reports whether an image that came along has to be built for itself, and
// not only where others read it.
func (c *pipelineConverter) waitedFor(img *pipeline.Image) bool {
	for n := range c.plan.Images {
		if slices.Contains(c.waitsFor(c.plan.Images[n].Name), img.Name) {
			return true
		}
	}
	return false
}

// setPipelineAccess is what steps may use.
func setPipelineAccess(r *Request, img *pipeline.Image) {
	for _, m := range img.CacheMounts {
		if m.Sharing == "" {
			m.Sharing = "locked"
		}
		r.CacheMounts = append(r.CacheMounts, CacheMount(m))
	}
	for _, s := range img.Secrets {
		sec := Secret{ID: s.ID, File: s.File, Env: s.Env}
		if s.HasValue {
			sec.Value = append([]byte{}, s.Value...)
		}
		r.Secrets = append(r.Secrets, sec)
	}
	for _, s := range img.SSH {
		r.SSH = append(r.SSH, SSHAgent(s))
	}
	for _, c := range img.CacheFrom {
		r.CacheFrom = append(r.CacheFrom, CacheEntry(c))
	}
	for _, c := range img.CacheTo {
		r.CacheTo = append(r.CacheTo, CacheEntry(c))
	}
}

// setPipelineOutputs is where an image goes: into the store unless it says otherwise,
// and to registries.
func setPipelineOutputs(r *Request, img *pipeline.Image) {
	for _, o := range img.Outputs {
		r.Outputs = append(r.Outputs, Output{Type: OutputType(o.Type), Dest: o.Dest, Attrs: o.Attrs})
	}
	if len(r.Outputs) == 0 {
		r.Outputs = []Output{{Type: OutputStore}}
	}
	r.Push = img.Push
	if r.Push && !slices.ContainsFunc(r.Outputs, func(o Output) bool { return o.Type == OutputImage }) {
		r.Outputs = append(r.Outputs, Output{Type: OutputImage, Attrs: map[string]string{"push": "true"}})
	}
	if img.Format == "" {
		return
	}
	oci := fmt.Sprint(img.Format == "oci")
	for n, o := range r.Outputs {
		switch o.Type {
		case OutputStore, OutputImage, OutputOCI:
			if o.Attrs["oci-mediatypes"] == "" {
				r.Outputs[n].Attrs = withAttr(o.Attrs, "oci-mediatypes", oci)
			}
		default:
		}
	}
}

// memoOf is the cache of a pipeline in the form of the flag --memo; nil for none.
func memoOf(c pipeline.CachePlan) []string {
	switch c.Type {
	case "memory":
		return []string{"off"} // what is kept in memory ends with the call
	case "persistent":
		if c.Path == "" {
			return []string{"local"}
		}
		return []string{"local=" + c.Path}
	case "registry":
		return []string{"local+registry=" + c.Ref}
	case "s3":
		s := "local+s3=bucket=" + c.Bucket
		for _, a := range []struct{ name, value string }{{"region", c.Region}, {"endpoint_url", c.Endpoint}, {"prefix", c.Prefix}} {
			if a.value != "" {
				s += "," + a.name + "=" + a.value
			}
		}
		return []string{s}
	}
	return nil
}
