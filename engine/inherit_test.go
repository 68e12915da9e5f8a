package engine

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/solver"
)

// notedGateway notes what it is asked.
type notedGateway struct {
	imageGateway
	mu     sync.Mutex
	images map[string]string // reference to platform and mode of its look-up
	solved []*pb.Definition
}

func (g *notedGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	platform := ""
	if p := opt.ImageOpt.Platform; p != nil {
		platform = p.OS + "/" + p.Architecture
	}
	g.images[ref] = platform + " " + opt.ImageOpt.ResolveMode
	return g.imageGateway.ResolveImageConfig(ctx, ref, opt)
}

func (g *notedGateway) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.solved = append(g.solved, req.Definition)
	return g.imageGateway.Solve(ctx, req)
}

// inheritFiles nest twice; the deepest one has the step that is looked at.
var inheritFiles = map[string]string{
	"ZImagefile":     "build: {context: mid, args: {GIVEN: mid}}\n",
	"mid/ZImagefile": "args: {GIVEN: none}\nbuild: {context: deep, args: {GIVEN: \"$GIVEN-deep\"}}\n",
	"mid/deep/Dockerfile": "FROM deep/base\nARG GIVEN\nARG OWN=default\n" +
		"RUN --mount=type=secret,id=token echo $GIVEN $OWN\n",
}

// inheritArgs are build arguments of the outermost build: OWN is its own, the others say
// how to build.
var inheritArgs = map[string]string{
	"OWN": "outer", "GIVEN": "outer", "SOURCE_DATE_EPOCH": "1", "HTTP_PROXY": "http://proxy", "no_proxy": "local", "BUILDKIT_CACHE_MOUNT_NS": "ns",
}

// TestNestedInherits: what says how to build holds for nested builds at any depth; what
// says what to build does not.
func TestNestedInherits(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, inheritFiles)
	req := Request{
		Context: dir, BuildArgs: inheritArgs, Platforms: []string{"linux/arm64"}, NoCache: true, Pull: PullAlways,
		Secrets: []Secret{{ID: "token", Value: []byte("x")}}, DefaultRegistry: "registry.example",
		Network: "none", AddHosts: []string{"h=10.0.0.1"}, ShmSize: 1 << 20, Ulimits: []string{"nofile=5"}, CgroupParent: "group",
		CacheMounts: []CacheMount{{Target: "/cache"}}, Labels: map[string]string{"outer": "1"},
	}
	r, err := openBare(t).newRun(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	j, err := r.prepareCall(req)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	gw := &notedGateway{imageGateway: imageGateway{diskGateway: diskGateway{opts: j.attrs}, os: "linux"}, images: map[string]string{}}
	g, err := newComposer(j, gw, func(solver.WarningInfo) {}).compileAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"registry.example/deep/base:latest": "linux/arm64 pull"}; !maps.Equal(gw.images, want) {
		t.Errorf("images were looked up as %v, want %v", gw.images, want)
	}
	out := g.Outputs()[0]
	exec := checkInherited(t, out.Definition())
	if !hasCache(exec, "/cache") {
		t.Error("the default cache is not there")
	}
	if out.Epoch == nil || out.Epoch.Unix() != 1 {
		t.Errorf("the epoch is %v", out.Epoch)
	}
}

// TestGatewayNestedInherits is the same inside of BuildKit.
func TestGatewayNestedInherits(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, inheritFiles)
	opts := map[string]string{
		"filename": "ZImagefile", "platform": "linux/arm64", "no-cache": "", "image-resolve-mode": "pull", "force-network-mode": "none",
		"add-hosts": "h=10.0.0.1", "shm-size": "1048576", "ulimit": "nofile=5:5", "cgroup-parent": "group", "label:outer": "1",
	}
	for k, v := range inheritArgs {
		opts["build-arg:"+k] = v
	}
	gw := &notedGateway{imageGateway: imageGateway{diskGateway: diskGateway{opts: opts}, os: "linux"}, images: map[string]string{}}
	if _, err := GatewayBuild(t.Context(), &frontend.Files{Client: gw, Dirs: map[string]string{"context": dir, "dockerfile": dir}}); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"docker.io/deep/base:latest": "linux/arm64 pull"}; !maps.Equal(gw.images, want) {
		t.Errorf("images were looked up as %v, want %v", gw.images, want)
	}
	checkInherited(t, gw.solved[len(gw.solved)-1])
}

// checkInherited checks the step of the deepest build.
func checkInherited(t *testing.T, def *pb.Definition) *pb.ExecOp {
	t.Helper()
	var exec *pb.ExecOp
	for _, dt := range def.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			t.Fatal(err)
		}
		e := op.GetExec()
		if e == nil {
			continue
		}
		if exec != nil {
			t.Fatal("there are two steps")
		}
		exec = e
		if p := op.Platform; p.GetArchitecture() != "arm64" {
			t.Errorf("the step is for %v", p)
		}
		if m := def.Metadata[string(digest.FromBytes(dt))]; !m.GetIgnoreCache() {
			t.Error("the step may come from the cache")
		}
	}
	if exec == nil {
		t.Fatal("there is no step")
	}
	m := exec.Meta
	if env := strings.Join(m.Env, " "); !strings.Contains(env, "GIVEN=mid-deep") || !strings.Contains(env, "OWN=default") {
		t.Errorf("the step's environment is %q", m.Env)
	}
	if p := m.ProxyEnv; p.GetHttpProxy() != "http://proxy" || p.GetNoProxy() != "local" {
		t.Errorf("the proxies are %v", p)
	}
	if exec.Network != pb.NetMode_NONE {
		t.Errorf("the network is %v", exec.Network)
	}
	if len(m.ExtraHosts) != 1 || m.ExtraHosts[0].Host != "h" || len(m.Ulimit) != 1 || m.Ulimit[0].Soft != 5 || m.CgroupParent != "group" {
		t.Errorf("hosts are %v, limits %v, the group %q", m.ExtraHosts, m.Ulimit, m.CgroupParent)
	}
	if !slices.ContainsFunc(exec.Mounts, func(m *pb.Mount) bool { return m.SecretOpt.GetID() == "token" }) {
		t.Error("the secret is not there")
	}
	if !slices.ContainsFunc(exec.Mounts, func(m *pb.Mount) bool { return m.Dest == "/dev/shm" && m.TmpfsOpt.GetSize() == 1<<20 }) {
		t.Error("the size of /dev/shm is not there")
	}
	return exec
}

// TestNestedRetries: look-ups of nested builds are tried again as often as the request
// says.
func TestNestedRetries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"ZImagefile": "build: deep\n", "deep/Dockerfile": "FROM 127.0.0.1:1/base\n"})
	tries := 0
	req := Request{Context: dir, Retries: 1, Events: func(ev solver.Event) {
		if ev.Kind == solver.Retrying {
			tries++
		}
	}}
	if _, err := openBare(t).Why(t.Context(), req, ""); err == nil {
		t.Error("an image was found where nobody listens")
	}
	if tries != 1 {
		t.Errorf("tried again %d times, want 1", tries)
	}
}
