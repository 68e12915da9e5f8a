package dockerfile

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// nestedKey is what a nested build is asked for by.
type nestedKey struct {
	name, platform string
}

// asWritten is a name as a build file has it; the platform is nil without one.
type asWritten struct {
	name     string
	platform *ocispecs.Platform
}

// nestedKey normalises a name as dockerui does when it looks for a named context. Most
// stages have names in common, and to parse one takes long.
func (c *compiler) nestedKey(n name) nestedKey {
	k, ok := c.keys[asWritten{n.name, n.platform}]
	if !ok {
		k = c.newNestedKey(n)
		c.keys[asWritten{n.name, n.platform}] = k
	}
	return k
}

func (c *compiler) newNestedKey(n name) nestedKey {
	k := nestedKey{name: n.name}
	if named, err := reference.ParseNormalizedNamed(n.name); err == nil {
		k.name = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	}
	p := n.platform
	if p == nil {
		p = c.platform
	}
	if p == nil {
		d := platforms.DefaultSpec()
		p = &d
	}
	k.platform = platforms.FormatAll(platforms.Normalize(*p))
	return k
}

// nest asks for the nested builds that target and the stages below it name, and
// shows them to the lowering as named contexts, which is how a state and its image
// config can stand for an image.
func (c *compiler) nest(ctx context.Context, target *decl) error {
	if c.Nested == nil {
		return nil
	}
	c.nested = map[nestedKey]*graph.Stage{}
	decls := append(c.reached(target), target)
	inFrom := map[string]bool{}
	for _, d := range decls {
		for _, n := range d.names {
			if n.kind == graph.InputBase {
				inFrom[c.nestedKey(n).name] = true
			}
		}
	}
	for _, d := range decls {
		for _, n := range d.names {
			k := c.nestedKey(n)
			if _, asked := c.nested[k]; asked || strings.EqualFold(n.name, "scratch") {
				continue
			}
			p := n.platform
			if p == nil {
				p = c.platform
			}
			s, err := c.Nested(ctx, Reference{Name: n.name, Platform: p, Kind: n.kind, Pos: c.pos(n.loc), InFrom: inFrom[k.name]})
			if err != nil {
				return c.nestedError(err, n.loc)
			}
			c.nested[k] = s
		}
	}
	return c.showNested(ctx)
}

// nestedError is a mistake in the file of another build, which has its place there.
type nestedError struct{ error }

// Unwrap gives the mistake.
func (e *nestedError) Unwrap() error { return e.error }

// nestedError adds to such a mistake where this file asks for the build; others have no
// place yet, or one of another kind.
func (c *compiler) nestedError(err error, loc []parser.Range) error {
	if len(errdefs.Sources(err)) == 0 {
		return err
	}
	return &nestedError{c.withSource(err, loc)}
}

// reached lists every stage below target, with or without a stage of its own.
func (c *compiler) reached(target *decl) []*decl {
	var out []*decl
	seen := map[*decl]bool{target: true}
	var walk func(d *decl)
	walk = func(d *decl) {
		for _, r := range d.reads {
			if !seen[r.decl] && !c.replaced(r.decl) {
				seen[r.decl] = true
				walk(r.decl)
				out = append(out, r.decl)
			}
		}
	}
	if !c.replaced(target) {
		walk(target)
	}
	return out
}

// showNested shows the nested builds to the lowering as inputs of its client. Where
// several platforms are compiled, which share the build's, that is another client.
func (c *compiler) showNested(ctx context.Context) error {
	nc := c.client
	if len(c.ui.TargetPlatforms) > 1 {
		nc = &inputClient{Client: c.client, opts: maps.Clone(c.opts)}
	}
	for k, s := range c.nested {
		if s == nil {
			continue
		}
		c.ahead.drop() // it does not know of the inputs
		c.ahead = nil
		if nc.inputs == nil {
			nc.inputs = map[string]llb.State{}
		}
		id := "zlayer-nested-" + strconv.Itoa(len(nc.inputs))
		nc.inputs[id] = s.State()
		nc.opts["context:"+k.name+"::"+k.platform] = "input:" + id
		meta, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: s.Config})
		if err != nil {
			return err
		}
		nc.opts["input-metadata:"+id] = string(meta)
	}
	if nc == c.client || len(nc.inputs) == 0 {
		return nil
	}
	ui, _, err := c.read(ctx, nc)
	if err != nil {
		return err
	}
	c.client, c.ui, c.opts = nc, ui, nc.opts
	return nil
}

// inputClient is a gateway with other attributes and more inputs.
type inputClient struct {
	gwclient.Client
	opts   map[string]string
	inputs map[string]llb.State
}

// BuildOpts implements gwclient.Client.
func (c *inputClient) BuildOpts() gwclient.BuildOpts {
	bo := c.Client.BuildOpts()
	bo.Opts = c.opts
	return bo
}

// Inputs implements gwclient.Client.
func (c *inputClient) Inputs(ctx context.Context) (map[string]llb.State, error) {
	in, err := c.Client.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	if len(c.inputs) == 0 {
		return in, nil
	}
	all := maps.Clone(c.inputs)
	for k, v := range in {
		if _, ours := all[k]; !ours {
			all[k] = v
		}
	}
	return all, nil
}
