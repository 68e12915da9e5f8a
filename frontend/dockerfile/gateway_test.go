package dockerfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
)

// gateway is a daemon that knows a few images and builds nothing: enough to
// compile against.
type gateway struct {
	gwclient.Client // nil: whatever is not implemented must not be called
	opts            map[string]string
	inputs          map[string]llb.State
	images          map[string]string // reference to config
	resolved        atomic.Int64
	warnings        []string
	solves          []gwclient.SolveRequest
}

const busyboxConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"busybox"}]}`

func newGateway(t *testing.T, files map[string]string, opts map[string]string) gwclient.Client {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return open(dir, opts)
}

func open(dir string, opts map[string]string) *frontend.Files {
	onbuild := strings.Replace(busyboxConfig, `"Cmd"`, `"OnBuild":["COPY app /app","RUN make"],"Cmd"`, 1)
	g := &gateway{opts: maps.Clone(opts), images: map[string]string{
		"docker.io/library/busybox:latest": busyboxConfig,
		"docker.io/library/alpine:3":       busyboxConfig,
		"docker.io/library/onbuild:latest": onbuild,
	}}
	if g.opts == nil {
		g.opts = map[string]string{}
	}
	return &frontend.Files{Client: g, Dirs: map[string]string{"context": dir, "dockerfile": dir, "assets": dir}}
}

func (g *gateway) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts:      g.opts,
		SessionID: "session",
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []gwclient.WorkerInfo{{
			ID:        "worker",
			Platforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}},
		}},
	}
}

func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return g.inputs, nil }

func (g *gateway) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	g.resolved.Add(1)
	config, ok := g.images[ref]
	if !ok {
		return "", "", nil, fmt.Errorf("%s: not found", ref)
	}
	var img map[string]any
	if err := json.Unmarshal([]byte(config), &img); err != nil {
		return "", "", nil, err
	}
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		img["architecture"], img["os"] = opt.ImageOpt.Platform.Architecture, opt.ImageOpt.Platform.OS
	}
	dt, err := json.Marshal(img)
	return ref, digest.FromString(ref), dt, err
}

func (g *gateway) Solve(_ context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g.solves = append(g.solves, req)
	return gwclient.NewResult(), nil
}

func (g *gateway) Warn(_ context.Context, _ digest.Digest, msg string, _ gwclient.WarnOpts) error {
	g.warnings = append(g.warnings, msg)
	return nil
}

func writeFile(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
