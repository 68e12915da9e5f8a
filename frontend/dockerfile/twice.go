package dockerfile

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/zlayer-dev/zlayer/graph"
)

// compileTwice lowers the Dockerfile as it is, and once more for the stages below the
// target.
func (c *compiler) compileTwice(ctx context.Context, target *decl, warn bool) (*compiled, error) {
	opt := c.convertOpt(ctx)
	if !warn {
		opt.Warn = nil
	}
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, c.text, opt)
	if err != nil {
		return nil, place(err, c.text, c.file)
	}
	def, err := c.marshal(ctx, res.State)
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, fmt.Errorf("target stage %q could not be found", c.ui.Target)
	}
	c.whole = res
	top, stages, err := c.below(ctx, target, def)
	if err != nil {
		return nil, err
	}
	return c.finish(target, top, stages)
}

// below makes the stages that target reads, directly or not, by declaration, and
// returns what the target is made of: whole, unless sources were renamed.
//
// All stages come out of a second lowering, in which every one has a name: see
// [compiler.compileOnce], which does without where that can be.
func (c *compiler) below(ctx context.Context, target *decl, whole *pb.Definition) (yield, map[*decl]*graph.Stage, error) {
	var top yield
	var err error
	if top, err = newYield(whole); err != nil {
		return top, nil, err
	}
	sc, err := c.stageClient(ctx, whole)
	if err != nil {
		return top, nil, err
	}
	order := c.reachable(target)
	if len(order) == 0 && !sc.renamed {
		return top, nil, nil
	}
	opt := c.convertOpt(ctx)
	opt.Client, opt.Target, opt.Warn = sc.ui, target.name, nil
	opt.BuildArgs = c.stageArgs(opt.BuildArgs)
	opt.BuildArgs[scanStageArg] = "true"
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, c.file.named(), opt)
	if err != nil {
		return top, nil, fmt.Errorf("lowering the stages of %s: %w", c.src.Filename, err)
	}
	order, ops, results, err := c.marshalStages(ctx, res, order, c.rename(sc.left))
	if err != nil {
		return top, nil, err
	}
	if sc.renamed || results[0] == top.result {
		top = yield{ops, results[0]}
	}
	stages, err := c.stages(order, ops, results[1:], top, res.Epoch)
	return top, stages, err
}

// stageArgs pins the arguments whose value depends on the target or takes a
// look at a source to what they were in the whole build.
func (c *compiler) stageArgs(args map[string]string) map[string]string {
	args = maps.Clone(args)
	if args == nil {
		args = map[string]string{}
	}
	if _, given := args[stageArg]; !given {
		args[stageArg] = targetName(c.ui.Target, c.file)
	}
	if _, given := args[epochArg]; given || c.whole.Epoch != nil {
		delete(args, epochArg)
		if c.whole.Epoch != nil {
			args[epochArg] = strconv.FormatInt(c.whole.Epoch.Unix(), 10)
		}
	}
	return args
}

// targetName is the value of TARGETSTAGE in the whole build.
func targetName(target string, f *file) string {
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
