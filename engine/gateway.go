package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // the codec that BuildKit speaks
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/status"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

// ServeFrontend makes this process a frontend of the BuildKit that started it, which
// is what a container of a frontend image does. It returns when the build is over.
func ServeFrontend(ctx context.Context) error {
	return grpcclient.RunFromEnvironment(ctx, GatewayBuild)
}

// GatewayBuild is a BuildKit gateway build function that builds Dockerfiles and
// ZImagefiles as an engine does, where there is no engine but only what BuildKit
// gives to a frontend. Nested builds can reach directories of the build context, and
// nothing else. It holds to the lock file at the root of the build context.
func GatewayBuild(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
	g, err := newGatewayComposer(ctx, gw)
	if err != nil {
		return nil, err
	}
	if gw, err = g.withLock(ctx); err != nil {
		return nil, withSource(err)
	}
	g.gw = gw
	opts := gw.BuildOpts().Opts
	u := gatewayUnit{file: "-f " + opts["filename"], target: opts["target"], args: prefixed(opts, "build-arg:"), platform: opts["platform"]}
	o, _ := g.options(u, gw, nil, nil)
	res, err := dockerfile.Frontend{Options: o}.Build(ctx, gw)
	return res, wholeMessage(withSource(err))
}

// wholeMessage keeps what was put before a message that has come from BuildKit: on the
// way back an error has the text of the innermost status in it.
func wholeMessage(err error) error {
	if st, ok := grpcerrors.AsGRPCStatus(err); err == nil || !ok || st.Message() == err.Error() {
		return err
	}
	return &statusError{err}
}

// statusError is an error whose status says all that it says.
type statusError struct{ error }

// GRPCStatus gives BuildKit the status.
func (e *statusError) GRPCStatus() *status.Status {
	return status.New(grpcerrors.Code(e.error), e.Error())
}

// Unwrap gives the error with its details.
func (e *statusError) Unwrap() error { return e.error }

// gatewayUnit is [unit] in a build context that is not on this machine: dir and file
// are relative to it; dir is "" for the context itself.
type gatewayUnit struct {
	dir, file string
	target    string
	args      map[string]string
	platform  string
}

func (u gatewayUnit) key() string {
	return u.unit().key()
}

func (u gatewayUnit) unit() unit {
	return unit{dir: u.dir, file: u.file, target: u.target, args: u.args, platform: u.platform}
}

// shown is what messages call the build file.
func (u gatewayUnit) shown() string { return path.Join(u.dir, u.file) }

// gatewayComposer is [composer] inside of BuildKit.
type gatewayComposer struct {
	gw gwclient.Client
	// local: the build context is a local directory of the client's, rather than
	// something that BuildKit fetches or (input) another build has made.
	local, input bool
	units        *unitTable
}

func newGatewayComposer(ctx context.Context, gw gwclient.Client) (*gatewayComposer, error) {
	g := &gatewayComposer{gw: gw, units: newUnitTable()}
	bo := gw.BuildOpts()
	if bo.Caps.Supports(gwpb.CapFrontendInputs) == nil {
		in, err := gw.Inputs(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading frontend inputs: %w", err)
		}
		_, g.input = in[contextLocal]
	}
	g.local = !g.input && bo.Opts[g.contextKey()] == ""
	return g, nil
}

// contextKey is the attribute that says where a remote build context is.
func (g *gatewayComposer) contextKey() string {
	return cmp.Or(g.gw.BuildOpts().Opts["contextkey"], contextLocal)
}

// gatewayFile is the build file of one unit.
type gatewayFile struct {
	*gatewayComposer
	unit gatewayUnit
	// client is the gateway as the unit sees it.
	client gwclient.Client
	chain  []link
	// self is the unit while it is being compiled; nil for the outermost.
	self  *composed
	shown string

	text   []byte
	builds map[string]zimage.Nested
	rules  windowsRules
}

// options is how a unit, self, is compiled; chain is the way to it.
func (g *gatewayComposer) options(u gatewayUnit, client gwclient.Client, chain []link, self *composed) (dockerfile.Options, *windowsRules) {
	f := &gatewayFile{gatewayComposer: g, unit: u, client: client, chain: chain, self: self}
	o := dockerfile.Options{Convert: f.convert, Nested: f.nested}
	f.shown = path.Base(client.BuildOpts().Opts["filename"])
	if len(chain) > 0 {
		f.shown = u.shown()
		o.Name = f.shown
		if g.local {
			o.Subdir = u.dir
		}
	}
	return o, &f.rules
}

const contextLocal = dockerui.DefaultLocalNameContext

// convert implements dockerfile.Options.Convert.
func (f *gatewayFile) convert(ctx context.Context, target string, text []byte) (*frontend.Text, error) {
	f.text = text
	name := path.Base(f.client.BuildOpts().Opts["filename"])
	if !zimage.IsZImagefile(name, text) {
		opt := zimage.Options{BuildArgs: f.unit.args, Platform: f.unit.platform, Windows: buildsWindows(f.gw)}
		f.rules.read(zimage.MayBeWindows(text, opt), func() *zimage.WindowsStages { return zimage.DockerfileStages(f.shown, text, target, opt) })
		warnings, err := zimage.CheckWindowsDockerfile(f.shown, text, target, opt)
		f.tell(ctx, "Dockerfile", warnings)
		return nil, err
	}
	file, err := zimage.Parse(f.shown, text)
	if err != nil {
		return nil, err
	}
	d, err := f.dockerfileOf(ctx, file)
	if err != nil {
		return nil, err
	}
	f.tell(ctx, "YAML", d.Warnings)
	f.rules.readZImagefile(d, target, zimage.Options{BuildArgs: f.unit.args, Platform: f.unit.platform})
	f.builds = map[string]zimage.Nested{}
	for _, b := range d.Builds {
		f.builds[normalName(b.Context)] = b
	}
	t := &frontend.Text{Original: text, Language: "YAML", Dockerfile: d.Text, Lines: d.Lines, BuildArgs: d.BuildArgs}
	if t.Target, err = d.Target(target); err != nil {
		return nil, fmt.Errorf("%s: %w", f.shown, err)
	}
	return t, nil
}

// tell passes on what is odd about the file.
func (f *gatewayFile) tell(ctx context.Context, language string, warnings []*graph.PosError) {
	for _, w := range warnings {
		_ = f.gw.Warn(ctx, digest.FromBytes(f.text), w.Err.Error(), gwclient.WarnOpts{
			Level: 1, SourceInfo: &pb.SourceInfo{Filename: f.shown, Language: language, Data: f.text}, Range: pbRanges(w.Pos),
		})
	}
}

func (f *gatewayFile) dockerfileOf(ctx context.Context, file *zimage.File) (*zimage.Dockerfile, error) {
	opt := zimage.Options{
		BuildArgs: f.unit.args,
		Platform:  f.unit.platform,
		Windows:   buildsWindows(f.gw),
		ImageWorkdir: func(ref string) (string, bool) {
			full, err := fullName(ref)
			if err != nil {
				return "", false
			}
			return workdirOf(ctx, f.gw, full, f.gw.BuildOpts().Opts["image-resolve-mode"])
		},
	}
	if file.Mode() == zimage.ModeRuntime {
		dir, err := f.contextFS(ctx)
		if err != nil {
			return nil, err
		}
		return overlayRuntime(file, dir, opt, func(err error) error { return f.at(file.Runtime.Pos, err) })
	}
	d, err := zimage.Convert(file, opt)
	if err != nil || d.Wasm == nil {
		return d, err
	}
	dir, err := f.contextFS(ctx)
	if err != nil {
		return nil, err
	}
	_, err = compileWasm(d, wasmSettings(d.Wasm), dir, wasm.Options{})
	return d, err
}

// contextFS is the unit's build context without what its ignore file leaves out.
func (f *gatewayFile) contextFS(ctx context.Context) (fs.FS, error) {
	ui, err := dockerui.NewClient(f.client)
	if err != nil {
		return nil, err
	}
	if _, err := ui.ReadEntrypoint(ctx, "YAML"); err != nil { // which knows the file's own ignore file
		return nil, err
	}
	dir := f.unit.dir
	var st *llb.State
	if f.local && dir != "" {
		patterns, err := ui.DockerIgnorePatterns(ctx)
		if err != nil {
			return nil, err
		}
		for i, p := range patterns {
			patterns[i] = frontend.InDir(dir, p)
		}
		bo := f.client.BuildOpts()
		local := llb.Local(contextLocal, llb.SessionID(bo.SessionID), llb.ExcludePatterns(patterns),
			llb.FollowPaths([]string{frontend.InDir(dir, ".")}), llb.SharedKeyHint(contextLocal),
			dockerui.WithInternalName("load build context "+dir))
		st = &local
	} else {
		if st, err = ui.MainContext(ctx); err != nil {
			return nil, err
		}
		dir = ""
	}
	def, err := st.Marshal(ctx, llb.WithCaps(f.client.BuildOpts().LLBCaps))
	if err != nil {
		return nil, err
	}
	res, err := f.gw.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	return frontend.RefFS(ctx, ref, dir), nil
}

// nested implements dockerfile.Options.Nested.
func (f *gatewayFile) nested(ctx context.Context, ref dockerfile.Reference) (*graph.Stage, error) {
	b, ok := f.builds[normalName(ref.Name)]
	if !ok {
		return nil, nil
	}
	n := gatewayUnit{target: b.Target, args: map[string]string{}}
	for k, v := range f.gw.BuildOpts().Opts {
		if k, ok := strings.CutPrefix(k, "build-arg:"); ok && howToBuild(k) {
			n.args[k] = v
		}
	}
	maps.Copy(n.args, b.Args)
	if ref.Platform != nil {
		n.platform = platforms.FormatAll(*ref.Platform)
	}
	if err := f.locate(ctx, b, &n); err != nil {
		return nil, nesting(f.at(ref.Pos, err))
	}
	chain := append(slices.Clone(f.chain), link{key: f.unit.key(), shown: f.shown, pos: ref.Pos})
	if err := checkChain(chain, n.key()); err != nil {
		return nil, f.at(ref.Pos, err)
	}
	done, err := f.units.once(ctx, n.key(), f.self, chain, func(ctx context.Context, self *composed) (*graph.Stage, error) {
		return f.compile(ctx, n, chain, self)
	})
	switch {
	case errors.Is(err, errCircle):
		return nil, f.at(ref.Pos, err)
	case err != nil:
		return nil, nestedBy(err, ref.Pos)
	}
	warnings, err := f.rules.nest(ref, &b, done.ground)
	f.tell(ctx, "YAML", warnings)
	return done.stage, err
}

// locate finds the directory and the build file of a nested build.
func (f *gatewayFile) locate(ctx context.Context, b zimage.Nested, n *gatewayUnit) error {
	n.dir = path.Join(f.unit.dir, b.Dir)
	if n.dir == ".." || strings.HasPrefix(n.dir, "../") || path.IsAbs(b.Dir) {
		return fmt.Errorf("build context %s is outside of the build context, and a frontend sees nothing else: build with zlayer, or with a context that holds both", b.Dir)
	}
	if n.dir == "." {
		n.dir = ""
	}
	if n.file = path.Clean(b.File); b.File != "" {
		return nil
	}
	dir, err := f.listing(ctx, n.dir)
	if err != nil {
		return err
	}
	shown := "./" + n.dir
	if n.file, err = zimage.FindIn(dir, shown); n.file != "" || err != nil {
		return whichFile(err)
	}
	for _, name := range buildFiles {
		if info, err := fs.Stat(dir, name); err == nil && !info.IsDir() {
			n.file = name
			return nil
		}
	}
	return fmt.Errorf("no ZImagefile, Dockerfile or Containerfile in %s of the build context", shown)
}

// listing is a directory of the build context with the build files in it.
func (f *gatewayFile) listing(ctx context.Context, dir string) (fs.FS, error) {
	if f.local {
		var names []string
		for _, n := range append([]string{zimage.FileName, zimage.FileName + ".*"}, buildFiles...) {
			names = append(names, frontend.InDir(dir, n))
		}
		ref, err := frontend.ContextFiles(ctx, f.gw, names)
		if err != nil {
			return nil, err
		}
		return frontend.RefFS(ctx, ref, dir), nil
	}
	whole := &gatewayFile{gatewayComposer: f.gatewayComposer, unit: gatewayUnit{}, client: f.gw}
	root, err := whole.contextFS(ctx)
	if err != nil || dir == "" {
		return root, err
	}
	return fs.Sub(root, dir)
}

// compile compiles a nested build.
func (g *gatewayComposer) compile(ctx context.Context, u gatewayUnit, chain []link, self *composed) (*graph.Stage, error) {
	c := g.client(u)
	o, rules := g.options(u, c, chain, self)
	gr, err := dockerfile.Compile(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if gr == nil {
		return nil, fmt.Errorf("%s asks for an external frontend by its syntax line, which a nested build cannot use: drop the line", u.shown())
	}
	self.ground = rules.ground(gr.Outputs()[0])
	return gr.Outputs()[0], nil
}

// client is the gateway as a nested build sees it.
func (g *gatewayComposer) client(u gatewayUnit) gwclient.Client {
	opts := g.gw.BuildOpts().Opts
	attrs := nestedAttrs(u.unit(), opts)
	for k, v := range opts {
		if strings.HasPrefix(k, "local-sessionid:") || k == "contextkey" || k == "cmdline" || !g.local && k == g.contextKey() {
			attrs[k] = v
		}
	}
	if g.local {
		attrs["filename"] = u.file
		return &frontend.Subdir{Client: g.gw, Opts: attrs, Dir: u.dir}
	}
	base := opts["contextsubdir"]
	attrs["filename"] = path.Join(base, u.dir, u.file)
	if sub := path.Join(base, u.dir); sub != "" {
		attrs["contextsubdir"] = sub
	}
	c := &frontend.Subdir{Client: g.gw, Opts: attrs}
	if g.input {
		c.Client = contextInputs{g.gw}
	}
	return c
}

// contextInputs takes build files out of the build context, which is an input.
type contextInputs struct{ gwclient.Client }

// Inputs implements gwclient.Client.
func (c contextInputs) Inputs(ctx context.Context) (map[string]llb.State, error) {
	in, err := c.Client.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	in = maps.Clone(in)
	in[dockerui.DefaultLocalNameDockerfile] = in[contextLocal]
	return in, nil
}

// at gives an error a position, unless it has one, and the text for its excerpt.
func (f *gatewayFile) at(pos graph.Pos, err error) error {
	var pe *graph.PosError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &graph.PosError{Pos: pos, Err: err, Source: f.text}
}

// withSource turns a mistake with a position into BuildKit's form of it, which
// crosses gRPC and is what its clients draw excerpts from.
func withSource(err error) error {
	var pe *graph.PosError
	if !errors.As(err, &pe) || len(errdefs.Sources(err)) > 0 || len(pe.Source) == 0 {
		return err
	}
	return errdefs.WithSource(err, &errdefs.Source{
		Info:   &pb.SourceInfo{Filename: pe.Pos.File, Data: pe.Source},
		Ranges: pbRanges(pe.Pos),
	})
}

func pbRanges(p graph.Pos) []*pb.Range {
	if p.Line == 0 {
		return nil
	}
	return []*pb.Range{{
		Start: &pb.Position{Line: int32(p.Line), Character: int32(max(p.Column-1, 0))},
		End:   &pb.Position{Line: int32(max(p.Line, p.EndLine))},
	}}
}

// prefixed picks the entries whose key has a prefix, without it.
func prefixed(m map[string]string, prefix string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if k, ok := strings.CutPrefix(k, prefix); ok {
			out[k] = v
		}
	}
	return out
}
