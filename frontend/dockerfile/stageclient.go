package dockerfile

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend"
)

// stageClient is the gateway as a single stage sees it: local directories are
// given as inputs, the same for every stage. Left to themselves, stages would
// each ask for the paths they read, which makes as many different sources, and
// as many transfers, of one directory.
type stageClient struct {
	inputClient
	ui *dockerui.Client
	// renamed: a source has another name than in the whole.
	renamed bool
	// left are the names of local sources that stages ask for themselves.
	left map[string]bool
}

const (
	contextInput = dockerui.DefaultLocalNameContext
	// localInput prefixes the inputs that stand for named local contexts.
	localInput = "zlayer-local-"
)

// stageClient makes the client for the stages of a build whose definition as a
// whole is def.
func (c *compiler) stageClient(ctx context.Context, def *pb.Definition) (*stageClient, error) {
	sc := &stageClient{inputClient: inputClient{Client: c.client, opts: maps.Clone(c.opts), inputs: map[string]llb.State{}}}
	locals, left, err := localStates(def, c.Options, c.theirs())
	if err != nil {
		return nil, err
	}
	sc.left = left
	sc.renamed = (c.Local != nil || c.Subdir != "") && len(locals) > 0 || c.Local != nil && len(left) > 0
	main, ok := locals[contextInput]
	if !ok {
		// A remote context, an input, one that nothing reads, or the very source of a
		// nested build.
		if main, err = c.mainContext(ctx); err != nil {
			return nil, err
		}
	}
	sc.inputs[contextInput] = main
	for _, k := range []string{contextInput, c.opts["contextkey"], "contextkey", "contextsubdir"} {
		delete(sc.opts, k)
	}
	for k, v := range sc.opts {
		name, isLocal := strings.CutPrefix(v, "local:")
		if !isLocal || !strings.HasPrefix(k, "context:") {
			continue
		}
		if st, ok := locals[name]; ok {
			sc.inputs[localInput+name] = st
			sc.opts[k] = "input:" + localInput + name
		}
	}
	sc.ui, err = dockerui.NewClient(sc)
	return sc, err
}

// mainContext is the whole build context.
func (c *compiler) mainContext(ctx context.Context) (llb.State, error) {
	st, err := c.ui.MainContext(ctx)
	if err != nil || c.Subdir == "" {
		return *cmp.Or(st, &llb.State{}), err
	}
	def, err := c.marshal(ctx, *st)
	if err != nil {
		return llb.State{}, err
	}
	locals, _, err := localStates(def, c.Options, nil)
	if err != nil {
		return llb.State{}, err
	}
	main, ok := locals[contextInput]
	if !ok {
		return llb.State{}, fmt.Errorf("directory %s of a build context that is not local cannot be read", c.Subdir)
	}
	return main, nil
}

// scope makes a directory of a state a state of its own.
func scope(st llb.State, dir string) llb.State {
	return llb.Scratch().File(
		llb.Copy(st, dir, "/", &llb.CopyInfo{CopyDirContentsOnly: true}),
		dockerui.WithInternalName("load build context "+dir))
}

// localStates rebuilds the local sources of a definition, by name, without those in
// skip; the states may have another name, and that of the build context may be
// limited to a directory. A name that occurs with different attributes is left: there is
// no one state for it.
func localStates(def *pb.Definition, o Options, skip map[digest.Digest]bool) (states map[string]llb.State, left map[string]bool, err error) {
	states, left = map[string]llb.State{}, map[string]bool{}
	seen := map[string]bool{}
	for _, dt := range def.Def {
		if len(skip) > 0 && skip[digest.FromBytes(dt)] {
			continue
		}
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, nil, err
		}
		src := op.GetSource()
		if src == nil {
			continue
		}
		name, ok := strings.CutPrefix(src.Identifier, "local://")
		if !ok {
			continue
		}
		if seen[name] {
			delete(states, name)
			left[name] = true
			continue
		}
		seen[name] = true
		as, dir := name, ""
		if o.Local != nil {
			as = o.Local(name)
		}
		if name == contextInput {
			dir = o.Subdir
		}
		if st, ok := localState(as, dir, src.Attrs, op.Platform); ok {
			if dir != "" {
				st = scope(st, dir)
			}
			states[name] = st
		} else {
			left[name] = true
		}
	}
	return states, left, nil
}

// localState makes the state that marshals to a local source with these
// attributes, whose paths are relative to dir; ok is false when there is an attribute
// it cannot express.
func localState(name, dir string, attrs map[string]string, platform *pb.Platform) (llb.State, bool) {
	var opts []llb.LocalOption
	followed := false
	for k, v := range attrs {
		switch k {
		case pb.AttrLocalSessionID:
			opts = append(opts, llb.SessionID(v))
		case pb.AttrSharedKeyHint:
			opts = append(opts, llb.SharedKeyHint(v))
		case pb.AttrLocalDiffer:
			opts = append(opts, llb.Differ(llb.DiffType(v), false))
		case pb.AttrIncludePatterns, pb.AttrFollowPaths, pb.AttrExcludePatterns:
			var list []string
			if json.Unmarshal([]byte(v), &list) != nil {
				return llb.State{}, false
			}
			for i, p := range list {
				list[i] = frontend.InDir(dir, p)
			}
			switch k {
			case pb.AttrIncludePatterns:
				opts = append(opts, llb.IncludePatterns(list))
			case pb.AttrFollowPaths:
				followed = true
				opts = append(opts, llb.FollowPaths(list))
			default:
				opts = append(opts, llb.ExcludePatterns(list))
			}
		case pb.AttrLocalUniqueID:
			// drawn anew when the state is marshalled
		default:
			return llb.State{}, false
		}
	}
	if dir != "" && !followed {
		opts = append(opts, llb.FollowPaths([]string{frontend.InDir(dir, ".")}))
	}
	if platform != nil {
		opts = append(opts, llb.Platform(platform.Spec()))
	}
	opts = append(opts, dockerui.WithInternalName("load build context"))
	return llb.Local(name, opts...), true
}
