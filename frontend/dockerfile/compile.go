package dockerfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/graph"
)

const (
	epochArg = "SOURCE_DATE_EPOCH"
	stageArg = "TARGETSTAGE"
)

// compiled is the target for one platform.
type compiled struct {
	platform *ocispecs.Platform
	result   *dockerfile2llb.Result
	stage    *graph.Stage
}

// compileTarget lowers the target for a platform and every stage below it. A nil
// platform is the default one, which the base image may still change.
func (b *build) compileTarget(ctx context.Context, platform *ocispecs.Platform, warn bool) (*compiled, error) {
	c := &compiler{build: b, client: b.client, ui: b.ui, opts: b.opts, platform: platform}
	opt := c.convertOpt(ctx)
	var target *decl
	// A file that does not parse is left to the lowering to complain about.
	if f, err := parseFile(b.text, opt.BuildArgs, predefinedArgs(opt)); err == nil {
		if target = f.target(b.ui.Target); target != nil {
			c.file = f
			if err := c.nest(ctx, target); err != nil {
				return nil, err
			}
			opt = c.convertOpt(ctx)
		}
	}
	if !warn {
		opt.Warn = nil
	}
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, b.text, opt)
	if err != nil {
		return nil, err
	}
	def, err := b.marshal(ctx, res.State)
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, fmt.Errorf("target stage %q could not be found", b.ui.Target)
	}
	c.whole = res
	sc, err := c.stageClient(ctx, def)
	if err != nil {
		return nil, err
	}
	if sc.renamed {
		// Sources get the names they are to have only on the second pass, when it is
		// known which paths are read.
		l, err := c.lower(ctx, sc, target)
		if err != nil {
			return nil, err
		}
		res, def = l.result, l.def
	}
	stages, err := c.below(ctx, sc, target, opSet(def))
	if err != nil {
		return nil, err
	}
	stage, err := c.stage(target, res.Image.Platform, res, def, stages)
	if err != nil {
		return nil, err
	}
	return &compiled{platform: platform, result: res, stage: stage}, nil
}

// convertOpt is what every lowering for the compiler's platform starts from.
func (c *compiler) convertOpt(ctx context.Context) dockerfile2llb.ConvertOpt {
	opt := c.build.convertOpt(ctx)
	opt.Config, opt.Client = c.ui.Config, c.ui
	opt.BuildArgs = maps.Clone(opt.BuildArgs)
	opt.TargetPlatform = c.platform
	return opt
}

// marshal serialises a state. The id of local sources is that of the session
// rather than one drawn per call: stages that read the same directory then have
// the same operation, and BuildKit transfers it once.
func (b *build) marshal(ctx context.Context, st llb.State) (*pb.Definition, error) {
	def, err := st.Marshal(ctx, llb.LocalUniqueID(b.ui.BuildOpts().SessionID))
	if err != nil {
		return nil, fmt.Errorf("marshalling llb: %w", err)
	}
	out := def.ToPB()
	b.relocateAll(out)
	return out, nil
}

// compiler lowers the stages below the target for one platform.
type compiler struct {
	*build
	// client, ui and opts are the build's, or where nested builds stand for names,
	// show those as inputs.
	client   gwclient.Client
	ui       *dockerui.Client
	opts     map[string]string
	file     *file
	platform *ocispecs.Platform
	// whole is the target as lowered first, with its sources' own names.
	whole  *dockerfile2llb.Result
	nested map[nestedKey]*graph.Stage
}

// below lowers all stages that target reads, directly or not, and returns them
// by declaration. Stages that cannot be lowered on their own, because they share
// their name or stand for a named context, have no entry: they stay part of
// their readers.
//
// ops are the operations of the target: what it does not contain must not be built,
// so a stage that came out otherwise than in the whole stays part of its readers,
// too.
func (c *compiler) below(ctx context.Context, sc *stageClient, target *decl, ops map[digest.Digest]bool) (map[*decl]*graph.Stage, error) {
	order := c.reachable(target)
	if len(order) == 0 {
		return nil, nil
	}
	lowered := make([]*lowering, len(order))
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range order {
		eg.Go(func() error {
			// A stage that cannot be lowered alone, although it could be as part of the
			// whole, stays part of its readers.
			lowered[i], _ = c.lower(ctx, sc, d)
			return nil
		})
	}
	_ = eg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	stages := make(map[*decl]*graph.Stage, len(order))
	for i, d := range order {
		l := lowered[i]
		if l == nil {
			continue
		}
		// A stage with a platform of its own is that platform's, whichever target
		// platform it is lowered for: multi-platform builds share it.
		platform := l.result.Image.Platform
		if d.platform != nil {
			platform = platforms.Normalize(*d.platform)
		}
		s, err := c.stage(d, platform, l.result, l.def, stages)
		if err != nil {
			return nil, err
		}
		if s.Head == "" || ops[s.Head] {
			stages[d] = s
		}
	}
	return stages, nil
}

// opSet is the set of operations of a definition.
func opSet(def *pb.Definition) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(def.Def))
	for _, dt := range def.Def {
		set[digest.FromBytes(dt)] = true
	}
	return set
}

// reachable lists the stages below target that are lowered on their own, each
// after those it reads.
func (c *compiler) reachable(target *decl) []*decl {
	var order []*decl
	seen := map[*decl]bool{target: true}
	var walk func(d *decl)
	walk = func(d *decl) {
		for _, r := range d.reads {
			if seen[r.decl] {
				continue
			}
			seen[r.decl] = true
			if c.replaced(r.decl) {
				continue
			}
			walk(r.decl)
			if r.decl.unique {
				order = append(order, r.decl)
			}
		}
	}
	if !c.replaced(target) {
		walk(target)
	}
	return order
}

// replaced reports whether a named context takes the place of the stage.
func (c *compiler) replaced(d *decl) bool {
	if !d.named {
		return false
	}
	prefix := "context:" + d.name
	for k := range c.opts {
		if len(k) >= len(prefix) && strings.EqualFold(k[:len(prefix)], prefix) && (len(k) == len(prefix) || strings.HasPrefix(k[len(prefix):], "::")) {
			return true
		}
	}
	return false
}

// lowering is a stage lowered as a target of its own.
type lowering struct {
	result *dockerfile2llb.Result
	def    *pb.Definition
}

func (c *compiler) lower(ctx context.Context, sc *stageClient, d *decl) (*lowering, error) {
	opt := c.convertOpt(ctx)
	opt.Client = sc.ui
	opt.Target = d.name
	opt.Warn = nil
	opt.BuildArgs = c.stageArgs(opt.BuildArgs)
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, c.file.text, opt)
	if err != nil {
		return nil, err
	}
	def, err := c.marshal(ctx, res.State)
	if err != nil {
		return nil, err
	}
	return &lowering{result: res, def: def}, nil
}

// stageArgs pins the arguments whose value depends on the target or takes a
// look at a source to what they were in the whole build.
func (c *compiler) stageArgs(args map[string]string) map[string]string {
	args = maps.Clone(args)
	if args == nil {
		args = map[string]string{}
	}
	if _, given := args[stageArg]; !given {
		args[stageArg] = targetStage(c.ui.Target, c.file)
	}
	if _, given := args[epochArg]; given || c.whole.Epoch != nil {
		delete(args, epochArg)
		if c.whole.Epoch != nil {
			args[epochArg] = strconv.FormatInt(c.whole.Epoch.Unix(), 10)
		}
	}
	return args
}

// targetStage is the value of TARGETSTAGE in the whole build.
func targetStage(target string, f *file) string {
	if target == "" {
		if last := f.decls[len(f.decls)-1]; last.named {
			target = last.name
		}
	}
	if target == "" {
		return "default"
	}
	return target
}

// stage makes the graph's stage of a lowering.
func (c *compiler) stage(d *decl, platform ocispecs.Platform, res *dockerfile2llb.Result, def *pb.Definition, stages map[*decl]*graph.Stage) (*graph.Stage, error) {
	img := *res.Image
	img.Platform = platform
	config, err := json.Marshal(img)
	if err != nil {
		return nil, fmt.Errorf("encoding the image config of stage %q: %w", d.name, err)
	}
	var base []byte
	if res.BaseImage != nil {
		if base, err = json.Marshal(res.BaseImage); err != nil {
			return nil, fmt.Errorf("encoding the base image config of stage %q: %w", d.name, err)
		}
	}
	return graph.NewStage(graph.Spec{
		Name:       d.name,
		Pos:        c.pos(d.stage.Location),
		Platform:   img.Platform,
		Definition: def,
		Config:     config,
		BaseConfig: base,
		Epoch:      res.Epoch,
		Inputs:     c.inputs(d, stages),
	})
}

// inputs are the stages d reads; where it reads one that has no stage of its
// own, they are that one's inputs instead.
func (c *compiler) inputs(d *decl, stages map[*decl]*graph.Stage) []graph.Input {
	if c.replaced(d) {
		return nil
	}
	var out []graph.Input
	seen := map[*decl]bool{}
	var add func(d *decl)
	add = func(d *decl) {
		for _, n := range d.names {
			if s := c.nested[c.nestedKey(n)]; s != nil {
				out = append(out, graph.Input{Stage: s, Kind: n.kind, Pos: c.pos(n.loc)})
			}
		}
		for _, r := range d.reads {
			if s := stages[r.decl]; s != nil {
				out = append(out, graph.Input{Stage: s, Kind: r.kind, Pos: c.pos(r.loc)})
			} else if !seen[r.decl] && !c.replaced(r.decl) {
				seen[r.decl] = true
				add(r.decl)
			}
		}
	}
	add(d)
	return out
}

// predefinedArgs are the arguments every Dockerfile can use in FROM (Dockerfile
// reference, "Automatic platform ARGs in the global scope").
func predefinedArgs(opt dockerfile2llb.ConvertOpt) *llb.EnvList {
	bp := platforms.DefaultSpec()
	switch {
	case len(opt.BuildPlatforms) > 0:
		bp = opt.BuildPlatforms[0]
	case opt.TargetPlatform != nil:
		bp = *opt.TargetPlatform
	}
	tp := bp
	if opt.TargetPlatform != nil {
		tp = *opt.TargetPlatform
	}
	env := &llb.EnvList{}
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", platforms.Format(bp)},
		{"BUILDOS", bp.OS},
		{"BUILDOSVERSION", bp.OSVersion},
		{"BUILDARCH", bp.Architecture},
		{"BUILDVARIANT", bp.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(tp)},
		{"TARGETOS", tp.OS},
		{"TARGETOSVERSION", tp.OSVersion},
		{"TARGETARCH", tp.Architecture},
		{"TARGETVARIANT", tp.Variant},
	} {
		v := kv[1]
		if given, ok := opt.BuildArgs[kv[0]]; ok {
			v = given
		}
		env = env.AddOrReplace(kv[0], v)
	}
	return env
}
