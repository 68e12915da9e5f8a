package engine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/zlayer-dev/zlayer/frontend"
)

// lockingGateway notes what a frontend asks of BuildKit.
type lockingGateway struct {
	imageGateway
	// remote are the files of a build context that is not the client's.
	remote map[string]string
	inputs map[string]llb.State

	mu       sync.Mutex
	resolved []string
	rules    map[string]string // of the policies, with checksums
	solves   int
}

func (g *lockingGateway) Inputs(context.Context) (map[string]llb.State, error) { return g.inputs, nil }

func (g *lockingGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	g.mu.Lock()
	g.resolved = append(g.resolved, ref)
	g.mu.Unlock()
	return g.imageGateway.ResolveImageConfig(ctx, ref, opt)
}

func (g *lockingGateway) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g.mu.Lock()
	g.solves++
	for _, p := range req.SourcePolicies {
		for _, r := range p.Rules {
			g.rules[r.Selector.Identifier] = r.Updates.Identifier + " " + r.Updates.Attrs["http.checksum"]
		}
	}
	g.mu.Unlock()
	if g.remote != nil {
		res := gwclient.NewResult()
		res.SetRef(&textRef{files: g.remote})
		return res, nil
	}
	return g.imageGateway.Solve(ctx, req)
}

// textRef is a build result that has files and nothing else.
type textRef struct {
	gwclient.Reference
	files map[string]string
}

func (r *textRef) ReadFile(_ context.Context, req gwclient.ReadRequest) ([]byte, error) {
	text, ok := r.files[strings.TrimPrefix(req.Filename, "/")]
	if !ok {
		return nil, errors.New("open " + req.Filename + ": no such file or directory")
	}
	return []byte(text), nil
}

func (r *textRef) StatFile(_ context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	if _, ok := r.files[strings.TrimPrefix(req.Path, "/")]; !ok {
		return nil, fs.ErrNotExist
	}
	return &fstypes.Stat{Path: req.Path, Mode: 0o644}, nil
}

var (
	lockedCommit = strings.Repeat("c", 40)
	lockedTo     = map[string]string{
		"a": digest.FromString("a").String(), "b": digest.FromString("b").String(), "http": digest.FromString("http").String(),
	}
	lockText = "zlayer-lock 1\n" +
		"git https://example.com/r.git#main " + lockedCommit + "\n" +
		"http https://example.com/t.tgz " + lockedTo["http"] + "\n" +
		"image docker.io/library/base:1 linux/amd64 " + lockedTo["a"] + "\n" +
		"image docker.io/library/base:1 linux/arm64 " + lockedTo["b"] + "\n" +
		"image docker.io/library/one:latest linux/amd64 " + lockedTo["a"] + "\n"
)

func newLockingGateway(opts map[string]string) *lockingGateway {
	all := map[string]string{"filename": "Dockerfile", "platform": "linux/amd64"}
	maps.Copy(all, opts)
	return &lockingGateway{imageGateway: imageGateway{diskGateway: diskGateway{opts: all}, os: "linux"}, rules: map[string]string{}}
}

func (g *lockingGateway) build(t *testing.T, dir string) error {
	t.Helper()
	var gw gwclient.Client = g
	if dir != "" {
		gw = &frontend.Files{Client: g, Dirs: map[string]string{"context": dir, "dockerfile": dir}}
	}
	_, err := GatewayBuild(t.Context(), gw)
	return err
}

func (g *lockingGateway) check(t *testing.T, resolved []string, rules map[string]string) {
	t.Helper()
	slices.Sort(g.resolved)
	slices.Sort(resolved)
	if d := cmp.Diff(resolved, slices.Compact(g.resolved)); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
	if d := cmp.Diff(rules, g.rules); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
}

func TestGatewayHoldsToTheLock(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"zlayer.lock":     lockText,
		".dockerignore":   "zlayer.lock\n",
		"ZImagefile":      "stages:\n  n: {build: n}\n  arm: {base: 'base:1', platform: linux/arm64}\n  out:\n    base: base:1\n    steps:\n      - {copy: /a, from: n, to: /a}\n      - {copy: /a, from: arm, to: /b}\n      - {copy: /a, from: other, to: /c}\n",
		"n/Dockerfile":    "FROM one\nADD https://example.com/r.git#main:sub /r\nADD https://example.com/t.tgz /t\nADD https://example.com/u.tgz /u\n",
		"named/ignore-me": "",
	})
	g := newLockingGateway(map[string]string{"filename": "ZImagefile"})
	if err := g.build(t, dir); err != nil {
		t.Fatal(err)
	}
	base := "docker.io/library/base:1@"
	g.check(t, []string{"docker.io/library/one:latest@" + lockedTo["a"], base + lockedTo["a"], base + lockedTo["b"], "docker.io/library/other:latest"},
		map[string]string{
			"docker-image://docker.io/library/one:latest": "docker-image://docker.io/library/one:latest@" + lockedTo["a"] + " ",
			"git://example.com/r.git#main:sub":            "git://example.com/r.git#" + lockedCommit + ":sub ",
			"https://example.com/t.tgz":                   "https://example.com/t.tgz " + lockedTo["http"],
		})

	writeFiles(t, dir, map[string]string{"zlayer.lock": "zlayer-lock 1\nimage docker.io/library/base:1\n"})
	err := newLockingGateway(map[string]string{"filename": "ZImagefile"}).build(t, dir)
	if err == nil || !strings.HasPrefix(err.Error(), "zlayer.lock:2: ") {
		t.Fatalf("got %v", err)
	}
	if srcs := errdefs.Sources(err); len(srcs) != 1 || !strings.Contains(string(srcs[0].Info.Data), "zlayer-lock 1") {
		t.Errorf("the error has no excerpt: %v", srcs)
	}
}

func TestGatewayWithoutLock(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM base:1\nADD https://example.com/t.tgz /t\n"})
	g := newLockingGateway(nil)
	if err := g.build(t, dir); err != nil {
		t.Fatal(err)
	}
	g.check(t, []string{"docker.io/library/base:1"}, map[string]string{})
}

// The lock file of a repository is in the build context, so what the context is cannot
// be held to it.
func TestGatewayHoldsToTheLockOfARepository(t *testing.T) {
	files := map[string]string{
		"zlayer.lock": strings.ReplaceAll(lockText, "r.git", "context.git") + "git https://example.com/r.git#main " + lockedCommit + "\n",
		"Dockerfile":  "FROM base:1\nCOPY a /a\nADD https://example.com/r.git#main /r\n",
	}
	want := map[string]string{
		"docker-image://docker.io/library/one:latest": "docker-image://docker.io/library/one:latest@" + lockedTo["a"] + " ",
		"git://example.com/r.git#main":                "git://example.com/r.git#" + lockedCommit + " ",
	}
	for what, opts := range map[string]map[string]string{
		"root": nil, "a directory of it": {"contextsubdir": "sub"}, "under another name": {"contextkey": "elsewhere"},
	} {
		g := newLockingGateway(opts)
		key := "context"
		if k := opts["contextkey"]; k != "" {
			key = k
		}
		g.opts[key] = "https://example.com/context.git#main"
		g.remote = files
		if err := g.build(t, ""); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		t.Run(what, func(t *testing.T) { g.check(t, []string{"docker.io/library/base:1@" + lockedTo["a"]}, want) })
	}

	g := newLockingGateway(nil)
	g.remote = files
	g.inputs = map[string]llb.State{"context": llb.Image("one"), "dockerfile": llb.Scratch().File(llb.Mkfile("/Dockerfile", 0o644, []byte(files["Dockerfile"])))}
	if err := g.build(t, ""); err != nil {
		t.Fatal(err)
	}
	delete(want, "docker-image://docker.io/library/one:latest") // the context itself
	g.check(t, []string{"docker.io/library/base:1@" + lockedTo["a"]}, want)
}

// noContext has a build file and no build context.
type noContext struct{ *lockingGateway }

func (g noContext) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	list, err := definitionSources(req.Definition)
	if err != nil {
		return nil, err
	}
	for _, src := range list {
		if src.Scheme == "local" && src.Ref == "context" {
			res := gwclient.NewResult()
			res.SetRef(noRef{})
			return res, nil
		}
	}
	return g.lockingGateway.Solve(ctx, req)
}

// noRef is a result that turns out not to be there when it is read.
type noRef struct{ gwclient.Reference }

var errNoContext = errors.New(`rpc error: code = NotFound desc = no access allowed to dir "context"`)

func (noRef) ReadFile(context.Context, gwclient.ReadRequest) ([]byte, error) {
	return nil, errNoContext
}

func (noRef) StatFile(context.Context, gwclient.StatRequest) (*fstypes.Stat, error) {
	return nil, errNoContext
}

func TestGatewayWithoutContext(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM base:1\n"})
	g := newLockingGateway(nil)
	gw := &frontend.Files{Client: noContext{g}, Dirs: map[string]string{"dockerfile": dir}}
	if _, err := GatewayBuild(t.Context(), gw); err != nil {
		t.Fatal(err)
	}
	g.check(t, []string{"docker.io/library/base:1"}, map[string]string{})

	if err := noLock(errors.New("connection reset")); err == nil {
		t.Error("a lock file that cannot be read was taken for none")
	}
}
