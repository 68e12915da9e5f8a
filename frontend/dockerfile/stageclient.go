package dockerfile

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
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
	locals, err := localStates(def, c.Local)
	if err != nil {
		return nil, err
	}
	main, ok := locals[contextInput]
	if !ok {
		// A remote context, an input, or one that nothing reads.
		st, err := c.ui.MainContext(ctx)
		if err != nil {
			return nil, err
		}
		main = *st
	}
	sc.renamed = c.Local != nil && len(locals) > 0
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

// localStates rebuilds the local sources of a definition, by name; the states may
// have another name. A name that occurs with different attributes is left out:
// there is no one state for it.
func localStates(def *pb.Definition, rename func(string) string) (map[string]llb.State, error) {
	states, seen := map[string]llb.State{}, map[string]bool{}
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, err
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
			continue
		}
		seen[name] = true
		as := name
		if rename != nil {
			as = rename(name)
		}
		if st, ok := localState(as, src.Attrs, op.Platform); ok {
			states[name] = st
		}
	}
	return states, nil
}

// localState makes the state that marshals to a local source with these
// attributes; ok is false when there is an attribute it cannot express.
func localState(name string, attrs map[string]string, platform *pb.Platform) (llb.State, bool) {
	var opts []llb.LocalOption
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
			switch k {
			case pb.AttrIncludePatterns:
				opts = append(opts, llb.IncludePatterns(list))
			case pb.AttrFollowPaths:
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
	if platform != nil {
		opts = append(opts, llb.Platform(platform.Spec()))
	}
	opts = append(opts, dockerui.WithInternalName("load build context"))
	return llb.Local(name, opts...), true
}
