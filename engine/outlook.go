package engine

import (
	"context"
	"errors"
	"runtime"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/graph"
)

// Outlook is what [Engine.Plan] gives as a picture, with how it stands with each stage:
// memoized where an earlier build of all is remembered, unchanged where the last build
// of the target had the stage as it is, else it runs. Nothing is built. The picture is
// nil where an external frontend would do the build.
func (e *Engine) Outlook(ctx context.Context, req Request) (p *graph.Picture, err error) {
	err = e.withPlan(ctx, req, func(j *job, k *keys, g *graph.Graph) {
		switch {
		case k != nil:
			p = g.Picture()
			j.foresee(ctx, k, p)
		case g != nil:
			p = g.Picture()
		}
	})
	return p, err
}

// OutlookPipeline is [Engine.Outlook] for all images of a pipeline: one picture, in which
// the last stage of an image has the image's name. No daemon is asked; images that cannot
// be compiled without one are left out.
func (e *Engine) OutlookPipeline(ctx context.Context, p *Pipeline, o PipelineOptions) (_ *graph.Picture, err error) {
	b, err := e.pipelineBuilds(p, o, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(), b.run.close()) }()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	if err := e.learnPlatform(ctx); err != nil {
		return nil, err
	}
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range b.images {
		eg.Go(func() error {
			i.compile(ctx)
			return nil
		})
	}
	_ = eg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := b.failures(ctx); err != nil && b.anyFailed() {
		return nil, err
	}
	return b.picture(ctx)
}

// anyFailed reports whether a build cannot be compiled.
func (b *batch) anyFailed() bool {
	for _, i := range b.images {
		if i.State == BatchFailed {
			return true
		}
	}
	return false
}

// picture is that of all builds that were compiled.
func (b *batch) picture(ctx context.Context) (*graph.Picture, error) {
	var outputs []*graph.Stage
	names := map[digest.Digest]string{}
	for _, i := range b.images {
		if i.keys == nil {
			continue
		}
		for _, s := range i.keys.graph.Outputs() {
			outputs = append(outputs, s)
			if names[s.ID] == "" {
				names[s.ID] = i.Name
			}
		}
	}
	g, err := graph.New(outputs...)
	if err != nil {
		return nil, err
	}
	p := g.Picture()
	nameOutputs(p, names)
	for _, i := range b.images {
		if i.keys != nil {
			i.job.foresee(ctx, i.keys, p)
		}
	}
	return p, nil
}

// nameOutputs gives stages other names.
func nameOutputs(p *graph.Picture, names map[digest.Digest]string) {
	for i := range p.Stages {
		if n := names[p.Stages[i].ID]; n != "" {
			p.Stages[i].Name = n
		}
	}
}

// foresee says of the stages of a build how it stands with them. What several builds have
// is as the best of them says.
func (j *job) foresee(ctx context.Context, k *keys, p *graph.Picture) {
	rank := map[string]int{"": 0, graph.StateRuns: 1, graph.StateUnchanged: 2, graph.StateMemoized: 3}
	there := j.remembered(ctx, k)
	was := map[graph.Key]bool{}
	if m, _, err := j.earlier(ctx, ""); err == nil && !j.req.NoCache {
		for _, s := range m.Stages {
			was[s.Key] = true
		}
	}
	for i := range p.Stages {
		s := &p.Stages[i]
		if k.graph.Stage(s.ID) == nil {
			continue
		}
		state := graph.StateRuns
		switch key := k.stages[s.ID].key; {
		case there:
			state = graph.StateMemoized
		case key != "" && was[key]:
			state = graph.StateUnchanged
		}
		if rank[state] > rank[s.State] {
			s.State = state
		}
	}
}

// remembered reports whether the memo has all outputs of a build, which may have to be
// put back into their places. A request without outputs is asked about the image.
func (j *job) remembered(ctx context.Context, k *keys) bool {
	if k.base == "" || j.req.NoCache || len(j.req.NoCacheFilter) > 0 {
		return false
	}
	if j.isWasmArtifact() {
		_, err := j.run.memo.Get(ctx, k.wasmKey())
		return err == nil
	}
	list := j.outputs.wanted
	if len(list) == 0 {
		list = []wanted{{Output: Output{Type: OutputStore}}}
	}
	for n := range list {
		key := list[n].key(k.base)
		if key == "" && list[n].cache != nil {
			continue
		}
		if key == "" {
			return false
		}
		if _, err := j.run.memo.Get(ctx, key); err != nil {
			return false
		}
	}
	return true
}
