package dockerfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

const (
	epochArg = "SOURCE_DATE_EPOCH"
	stageArg = "TARGETSTAGE"
	// scanStageArg asks for the states of stages; it is no part of any environment.
	scanStageArg = "BUILDKIT_SBOM_SCAN_STAGE"
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
	c, target, err := b.compiler(ctx, platform, warn)
	defer c.ahead.drop()
	if err != nil {
		return nil, err
	}
	if target != nil && c.onceWillDo() {
		if out, err := c.compileOnce(ctx, target, warn); out != nil || err != nil {
			return out, err
		}
	}
	c.ahead.drop() // two lowerings at once would share what they are told about lint rules
	return c.compileTwice(ctx, target, warn)
}

// compiler finds the target, and the nested builds that it needs. There is no target
// where the file does not parse, which is left to the lowering to complain about. What
// the compiler has ahead must be dropped in the end, with an error, too.
func (b *build) compiler(ctx context.Context, platform *ocispecs.Platform, warn bool) (*compiler, *decl, error) {
	c := &compiler{build: b, client: b.client, ui: b.ui, opts: b.opts, platform: platform, platforms: map[*decl]ocispecs.Platform{}, keys: map[asWritten]nestedKey{}}
	c.ahead = c.lowerAhead(ctx, warn)
	opt := c.convertOpt(ctx)
	f, err := parseFile(b.text, opt.BuildArgs, predefinedArgs(opt))
	if err != nil {
		return c, nil, nil
	}
	target := f.target(b.ui.Target)
	if target == nil {
		return c, nil, nil
	}
	c.file = f
	return c, target, c.nest(ctx, target)
}

// finish makes the target of its parts.
func (c *compiler) finish(target *decl, top yield, stages map[*decl]*graph.Stage) (*compiled, error) {
	stage, err := c.targetStage(target, top, stages)
	if err != nil {
		return nil, err
	}
	return &compiled{platform: c.platform, result: c.whole, stage: stage}, nil
}

// convertOpt is what every lowering for the compiler's platform starts from.
func (c *compiler) convertOpt(ctx context.Context) dockerfile2llb.ConvertOpt {
	opt := c.build.convertOpt(ctx)
	opt.Config, opt.Client = c.ui.Config, c.ui
	if c.Resolve != nil && c.file != nil {
		opt.MetaResolver = c.shortResolver(c.client, c.file)
	}
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
	if b.converted != nil {
		out.Source = out.Source.CloneVT() // states share their positions
		b.relocateAll(out.Source)
	}
	return out, nil
}

// compiler lowers the stages below the target for one platform.
type compiler struct {
	*build
	// client, ui and opts are the build's, or where nested builds stand for names,
	// show those as inputs.
	client   *inputClient
	ui       *dockerui.Client
	opts     map[string]string
	file     *file
	platform *ocispecs.Platform
	// ahead is a lowering that has begun; nil for none.
	ahead *lowering
	// whole is the target as lowered first, with its sources' own names.
	whole  *dockerfile2llb.Result
	nested map[nestedKey]*graph.Stage
	keys   map[asWritten]nestedKey // those made so far
	// platforms are those of stages, once they are known.
	platforms map[*decl]ocispecs.Platform
}

// yield is what a stage is made of.
type yield struct {
	ops    *graph.Ops
	result graph.Result
}

// newYield is what a definition yields.
func newYield(def *pb.Definition) (yield, error) {
	ops, results, err := graph.NewOps(def, nil)
	if err != nil || len(results) == 0 {
		return yield{ops: ops}, err
	}
	return yield{ops, results[0]}, nil
}

// stages makes the stages below a target whose operations are all among the target's.
func (c *compiler) stages(order []*decl, ops *graph.Ops, results []graph.Result, top yield, epoch *time.Time) (map[*decl]*graph.Stage, error) {
	known := top.ops.Below(top.result.Digest)
	type made struct {
		decl   *decl
		result graph.Result
	}
	list := make([]made, 0, len(order))
	for i, d := range order {
		if head := results[i].Digest; head == "" || known[head] {
			list = append(list, made{d, results[i]})
		}
	}
	stages := make(map[*decl]*graph.Stage, len(list))
	all, err := graph.NewStages(len(list), func(i int, before []*graph.Stage) graph.Spec {
		if i > 0 {
			stages[list[i-1].decl] = before[i-1]
		}
		d := list[i].decl
		return graph.Spec{
			Name:     d.name,
			Pos:      c.pos(d.stage.Location),
			Platform: c.platformOf(d),
			Ops:      ops,
			Result:   list[i].result,
			Epoch:    epoch,
			Inputs:   c.inputs(d, stages),
		}
	})
	if err == nil && len(all) > 0 {
		stages[list[len(all)-1].decl] = all[len(all)-1]
	}
	return stages, err
}

// platformOf is what a stage is built for: its own platform, else that of its base,
// else the target's. Multi-platform builds share the stages that have their own.
func (c *compiler) platformOf(d *decl) ocispecs.Platform {
	var chain []*decl
	p := c.targetPlatform()
	for d != nil {
		if known, ok := c.platforms[d]; ok {
			p = known
			break
		}
		chain = append(chain, d)
		if d.platform != nil {
			p = platforms.Normalize(*d.platform)
			break
		}
		i := slices.IndexFunc(d.reads, func(r read) bool { return r.kind == graph.InputBase })
		if i < 0 {
			break
		}
		d = d.reads[i].decl
	}
	for _, d := range chain {
		c.platforms[d] = p
	}
	return p
}

// targetPlatform is the platform asked for, else the daemon's own.
func (c *compiler) targetPlatform() ocispecs.Platform {
	if c.platform != nil {
		return *c.platform
	}
	return c.ui.BuildPlatforms[0]
}

// reachable lists the stages below target that can be stages of their own, each
// after those it reads.
func (c *compiler) reachable(target *decl) []*decl {
	return slices.DeleteFunc(c.reached(target), func(d *decl) bool { return !d.unique })
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

// targetStage makes the graph's stage of the target.
func (c *compiler) targetStage(d *decl, top yield, stages map[*decl]*graph.Stage) (*graph.Stage, error) {
	img := c.whole.Image
	config, err := json.Marshal(img)
	if err != nil {
		return nil, fmt.Errorf("encoding the image config of stage %q: %w", d.name, err)
	}
	var base []byte
	if c.whole.BaseImage != nil {
		if base, err = json.Marshal(c.whole.BaseImage); err != nil {
			return nil, fmt.Errorf("encoding the base image config of stage %q: %w", d.name, err)
		}
	}
	return graph.NewStage(graph.Spec{
		Name:       d.name,
		Pos:        c.pos(d.stage.Location),
		Platform:   img.Platform,
		Ops:        top.ops,
		Result:     top.result,
		Config:     config,
		BaseConfig: base,
		Epoch:      c.whole.Epoch,
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
			if len(c.nested) == 0 {
				break // without parsing the name
			}
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
