package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/convertllb"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// SolveRequest is a compiled build that waits to be solved.
type SolveRequest struct {
	// Client is the gateway to solve with.
	Client gwclient.Client
	// Graph holds every stage the outputs need. Its outputs are the target of the
	// build for each platform, in the order the platforms were asked for.
	Graph *graph.Graph
	// CacheImports are the caches the caller wants to be looked at.
	CacheImports []gwclient.CacheOptionsEntry
}

// SolveFunc solves a graph and returns one reference per output, in order; the
// reference of an empty file system is nil.
type SolveFunc func(ctx context.Context, req SolveRequest) ([]gwclient.Reference, error)

// Frontend builds Dockerfiles through a BuildKit gateway. The zero value behaves
// as BuildKit's own frontend does.
type Frontend struct {
	// Solve solves the compiled graph; nil hands the definition of each output to
	// BuildKit and leaves the rest to it.
	Solve SolveFunc
	Options
}

// Options say how a Dockerfile is compiled where more is known than frontend
// attributes can tell. The zero value is what BuildKit's frontend does.
type Options struct {
	// Name is what positions call the build file; empty is its base name.
	Name string
	// Convert gives the Dockerfile that the text of the build file stands for; nil,
	// nil means that the text is one. target is the stage asked for, "" for the last.
	// A nil func converts nothing.
	Convert func(ctx context.Context, target string, text []byte) (*frontend.Text, error)
	// Nested finds the stage that an image name in the file stands for, when that
	// is a build and not an image; nil, nil means it is an image. It is called once
	// for each name and platform that the target needs. A nil func finds none.
	Nested func(ctx context.Context, ref Reference) (*graph.Stage, error)
	// Resolve looks up an image by a short name (see [Short]), as the file has it, and
	// says by which reference it was found; that is what the build then reads. Images
	// of other names are the client's to look up, and with a nil func all are.
	Resolve func(ctx context.Context, name string, opt sourceresolver.Opt) (ref string, dgst digest.Digest, config []byte, err error)
	// Local renames local sources, so that builds of several directories can share
	// a session; nil keeps the names.
	Local func(name string) string
	// Subdir makes a directory of the local build context the build context; the
	// client reads build file and ignore file from there (see frontend.Subdir). Empty
	// is the whole.
	Subdir string
}

// Reference is a name in FROM, COPY --from or RUN --mount=from that is no stage of
// the file.
type Reference struct {
	// Name is as written, with arguments expanded.
	Name string
	// Platform is what it is needed for; nil is the default platform.
	Platform *ocispecs.Platform
	Kind     graph.InputKind
	Pos      graph.Pos
	// InFrom: some FROM that the target needs has the name, whatever Kind is.
	InFrom bool
}

// Build is a gateway build function that builds the Dockerfile which the
// client's options and inputs describe.
func Build(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
	return Frontend{}.Build(ctx, c)
}

// Build reads, lowers and solves the Dockerfile that the client's options and
// inputs describe, or answers the subrequest they ask for. Mistakes in the
// Dockerfile carry their place as BuildKit source errors (solver/errdefs.Source).
func (f Frontend) Build(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
	b, res, err := f.open(ctx, c)
	if res != nil || err != nil {
		return res, err
	}
	res, ok, err := b.subrequest(ctx)
	if ok || err != nil {
		return res, err
	}
	res, err = b.run(ctx)
	return res, b.locate(err)
}

// Compile lowers the Dockerfile without solving it: the graph's outputs are the
// targets for each platform asked for. It returns nil where the Dockerfile asks
// for an external frontend, of which nothing is known before it runs.
func Compile(ctx context.Context, c gwclient.Client, o Options) (*graph.Graph, error) {
	b, err := newBuild(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if _, ok := b.external(); ok {
		return nil, nil
	}
	if _, err := b.compile(ctx); err != nil {
		return nil, b.locate(err)
	}
	return b.graph()
}

// build is one run of the frontend.
type build struct {
	Options
	// converted is what the build file was converted to; nil for a Dockerfile.
	converted *frontend.Text

	solve  SolveFunc
	client *inputClient
	ui     *dockerui.Client
	opts   map[string]string // those of client
	src    *dockerui.Source
	// text is the Dockerfile.
	text    []byte
	outputs []*compiled
}

// open reads the Dockerfile. The result is set when another frontend has
// answered already.
func (f Frontend) open(ctx context.Context, c gwclient.Client) (*build, *gwclient.Result, error) {
	mayForward, capsErr := checkCaps(c.BuildOpts().Opts["frontend.caps"])
	if capsErr != nil && !mayForward {
		return nil, nil, capsErr
	}
	b, err := newBuild(ctx, c, f.Options)
	if err != nil {
		return nil, nil, err
	}
	b.solve = f.Solve
	if b.solve == nil {
		b.solve = solveOutputs
	}
	if ext, ok := b.external(); ok {
		res, err := b.forward(ctx, ext)
		return nil, res, err
	}
	if capsErr != nil {
		return nil, nil, capsErr
	}
	return b, nil, nil
}

// convertOpt is what every lowering of this build starts from.
func (b *build) convertOpt(ctx context.Context) dockerfile2llb.ConvertOpt {
	return dockerfile2llb.ConvertOpt{
		Config:       b.ui.Config,
		Client:       b.ui,
		SourceMap:    b.src.SourceMap,
		MetaResolver: b.client,
		Warn: func(rule, description, url, msg string, location []parser.Range) {
			b.src.Warn(ctx, linter.LintFormatShort(rule, msg, b.pos(location).Line), gwclient.WarnOpts{
				Level:  1,
				Detail: [][]byte{[]byte(description)},
				URL:    url,
				Range:  b.ranges(location),
			})
		},
	}
}

// subrequest answers questions about the Dockerfile; ok is false when there is
// none and the Dockerfile is to be built.
func (b *build) subrequest(ctx context.Context) (res *gwclient.Result, ok bool, err error) {
	opt := b.convertOpt(ctx)
	return b.ui.HandleSubrequest(ctx, dockerui.RequestHandler{
		Outline: func(ctx context.Context) (*outline.Outline, error) {
			return dockerfile2llb.Dockerfile2Outline(ctx, b.text, opt)
		},
		ListTargets: func(ctx context.Context) (*targets.List, error) {
			return listTargets(b.text)
		},
		Lint: func(ctx context.Context) (*lint.LintResults, error) {
			return dockerfile2llb.DockerfileLint(ctx, b.text, opt)
		},
		ConvertLLB: func(ctx context.Context) (*convertllb.Result, error) {
			return dockerfile2llb.DockerfileConvertLLB(ctx, b.text, opt)
		},
	})
}

// run compiles for every platform, solves, and puts the result together.
func (b *build) run(ctx context.Context) (*gwclient.Result, error) {
	scan, err := b.scanner(ctx)
	if err != nil {
		return nil, err
	}
	// All platforms are compiled before any is solved: one graph then holds what
	// they share, and a mistake shows before work begins.
	outputs, err := b.compile(ctx)
	if err != nil {
		return nil, err
	}
	g, err := b.graph()
	if err != nil {
		return nil, err
	}
	refs, err := b.solve(ctx, SolveRequest{Client: b.client, Graph: g, CacheImports: b.ui.CacheImports})
	if err != nil {
		return nil, err
	}
	if len(refs) != len(outputs) {
		return nil, fmt.Errorf("solving gave %d results for %d outputs", len(refs), len(outputs))
	}
	rb, err := b.ui.Build(ctx, func(_ context.Context, _ *ocispecs.Platform, i int) (*dockerui.BuildResult, error) {
		o := outputs[i].result
		return &dockerui.BuildResult{Reference: refs[i], Image: o.Image, BaseImage: o.BaseImage, Epoch: o.Epoch}, nil
	})
	if err != nil {
		return nil, err
	}
	if scan != nil {
		if err := b.attest(ctx, scan, rb); err != nil {
			return nil, err
		}
	}
	return rb.Finalize()
}

// compile lowers the target for each platform asked for, or once for the default one.
func (b *build) compile(ctx context.Context) ([]*compiled, error) {
	defer runtime.KeepAlive(ballast(len(b.text)))
	wanted := make([]*ocispecs.Platform, 0, 1)
	for _, p := range b.ui.TargetPlatforms {
		wanted = append(wanted, &p)
	}
	if len(wanted) == 0 {
		wanted = append(wanted, nil)
	}
	b.outputs = make([]*compiled, len(wanted))
	eg, ctx := errgroup.WithContext(ctx)
	for i, p := range wanted {
		eg.Go(func() error {
			// Warnings do not depend on the platform: the first one speaks for all.
			out, err := b.compileTarget(ctx, p, i == 0)
			b.outputs[i] = out
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	return b.outputs, nil
}

// ballast is memory that is never touched, held while a file of n bytes is compiled. To
// compile allocates a thousand times the size of the file, a third of which lives to the
// end, and the collector goes through all that lives each time it has doubled, from
// next to nothing: a tenth of the time for 10,000 stages. It starts from here instead. What
// is paid is garbage that lies around for longer, at most as much as this.
func ballast(n int) *strings.Builder {
	var b strings.Builder // which does not clear what it allocates, and so does not touch it
	b.Grow(min(200*n, 128<<20))
	return &b
}

func (b *build) graph() (*graph.Graph, error) {
	stages := make([]*graph.Stage, len(b.outputs))
	for i, o := range b.outputs {
		stages[i] = o.stage
	}
	return graph.New(stages...)
}

// platformID is the key under which BuildKit files per-platform results.
func platformID(p *ocispecs.Platform) string {
	if p == nil {
		return platforms.FormatAll(platforms.Normalize(platforms.DefaultSpec()))
	}
	return platforms.FormatAll(platforms.Normalize(*p))
}

// solveOutputs gives the definition of each output to BuildKit, all at once.
func solveOutputs(ctx context.Context, req SolveRequest) ([]gwclient.Reference, error) {
	outputs := req.Graph.Outputs()
	refs := make([]gwclient.Reference, len(outputs))
	var mu sync.Mutex
	var errs []error
	eg, ctx := errgroup.WithContext(ctx)
	for i, s := range outputs {
		eg.Go(func() error {
			res, err := req.Client.Solve(ctx, gwclient.SolveRequest{
				Definition:   s.Definition(),
				CacheImports: req.CacheImports,
			})
			if err == nil {
				refs[i], err = res.SingleRef()
			}
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, errors.Join(errs[:1]...)
	}
	return refs, nil
}

// Solve solves a graph that [Compile] has made with the options and inputs of c, and
// puts the result together as [Frontend.Build] would. Of attestations that are made
// by the frontend, none is.
func Solve(ctx context.Context, c gwclient.Client, g *graph.Graph, solve SolveFunc) (*gwclient.Result, error) {
	ui, err := dockerui.NewClient(c)
	if err != nil {
		return nil, err
	}
	refs, err := solve(ctx, SolveRequest{Client: c, Graph: g, CacheImports: ui.CacheImports})
	if err != nil {
		return nil, err
	}
	outputs := g.Outputs()
	if len(refs) != len(outputs) {
		return nil, fmt.Errorf("solving gave %d results for %d outputs", len(refs), len(outputs))
	}
	rb, err := ui.Build(ctx, func(_ context.Context, _ *ocispecs.Platform, i int) (*dockerui.BuildResult, error) {
		if i >= len(outputs) {
			return nil, fmt.Errorf("the graph has %d outputs, and another platform is asked for", len(outputs))
		}
		s := outputs[i]
		r := &dockerui.BuildResult{Reference: refs[i], Epoch: s.Epoch}
		if err := json.Unmarshal(s.Config, &r.Image); err != nil {
			return nil, fmt.Errorf("reading the image config of stage %q: %w", s.Name, err)
		}
		if s.BaseConfig != nil {
			if err := json.Unmarshal(s.BaseConfig, &r.BaseImage); err != nil {
				return nil, fmt.Errorf("reading the base image config of stage %q: %w", s.Name, err)
			}
		}
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	return rb.Finalize()
}
