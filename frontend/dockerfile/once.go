package dockerfile

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// onceWillDo reports whether one lowering can give both the target and the stages below
// it. It cannot where the argument that it takes would be seen: by the file, which may
// use it, or by the user, who asked for an SBOM or gave it; nor where the context is to
// be another than the lowering asks for.
func (c *compiler) onceWillDo() bool { return c.onceMayDo() && c.file.plain }

// onceMayDo is the part of it that does not depend on the file.
func (c *compiler) onceMayDo() bool {
	_, given := c.ui.BuildArgs[scanStageArg]
	return !given && c.ui.SBOM == nil && c.Subdir == ""
}

// compileOnce lowers the target and every stage below it at once: BuildKit hands out the
// states of stages by name when told that their files are to be scanned for an SBOM,
// which an argument says that is no part of any environment. Stages that share their
// name or stand for a named context have no entry: they stay part of their readers. So
// does a stage with an operation that the target has not, since what the target does not
// contain must not be built.
//
// It returns nil where that is not certain to be what the Dockerfile itself gives; so
// it is for every mistake, which is then told in the words for the file as it is.
func (c *compiler) compileOnce(ctx context.Context, target *decl, warn bool) (*compiled, error) {
	l := c.ahead
	if l == nil || !bytes.Equal(l.text, c.file.scanned) {
		l.drop()
		l = c.lower(ctx, c.file.scanned, warn)
	}
	opt := c.convertOpt(ctx)
	order := c.reachable(target)
	res, warnings, err := l.finish(opt.MetaResolver)
	if err != nil || slices.ContainsFunc(warnings, warning.showsScanArg) || showsScanArg(res) {
		return nil, nil
	}
	for _, w := range warnings {
		opt.Warn(w.rule, w.description, w.url, w.msg, c.file.unshifted(w.location))
	}
	order, ops, results, err := c.marshalStages(ctx, res, order, c.rename(nil))
	if err != nil {
		return nil, err
	}
	// The image is a part of what the lowering was about, and the state leads to the rest of
	// it; with thousands of stages that is most of the memory.
	image := *res.Image
	c.whole = &dockerfile2llb.Result{Image: &image, BaseImage: res.BaseImage, Epoch: res.Epoch, IsIgnoreCache: res.IsIgnoreCache}
	top := yield{ops, results[0]}
	stages, err := c.stages(order, ops, results[1:], top, res.Epoch)
	if err != nil {
		return nil, err
	}
	return c.finish(target, top, stages)
}

// warning is what the lowering has to say about the Dockerfile.
type warning struct {
	rule, description, url, msg string
	location                    []parser.Range
}

// showsScanArg: the message suggests the argument that is not the file's.
func (w warning) showsScanArg() bool { return strings.Contains(w.msg, scanStageArg) }

// showsScanArg reports whether the history of an image has the argument, which a
// trigger of its base image can declare.
func showsScanArg(res *dockerfile2llb.Result) bool {
	for _, h := range res.Image.History {
		if strings.Contains(h.CreatedBy, scanStageArg) {
			return true
		}
	}
	return false
}

// rename is the change that gives local sources the names that Options.Local has for
// them, or only those whose names are in only, if that is not nil; nil for none. Those of
// nested builds have theirs.
func (c *compiler) rename(only map[string]bool) graph.ChangeOp {
	if c.Local == nil || only != nil && len(only) == 0 {
		return nil
	}
	theirs := c.theirs()
	return func(was digest.Digest, op *pb.Op) (bool, error) {
		src := op.GetSource()
		if src == nil || theirs[was] {
			return false, nil
		}
		name, ok := strings.CutPrefix(src.Identifier, "local://")
		if !ok || only != nil && !only[name] {
			return false, nil
		}
		as := c.Local(name)
		src.Identifier = "local://" + as
		return as != name, nil
	}
}

// theirs are the operations of nested builds.
func (c *compiler) theirs() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for _, s := range c.nested {
		if s == nil {
			continue
		}
		for d := range s.Ops.Below(s.Head) {
			all[d] = true
		}
	}
	return all
}
