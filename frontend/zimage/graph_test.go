package zimage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// graphGateway compiles; it has every image and solves nothing.
type graphGateway struct {
	gwclient.Client
	images
	opts map[string]string
	os   string
}

func (g *graphGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return g.images.ResolveImageConfig(ctx, ref, opt)
}

func (g *graphGateway) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts: g.opts, SessionID: "session",
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []gwclient.WorkerInfo{{Platforms: []ocispecs.Platform{{OS: g.os, Architecture: "amd64"}}}},
	}
}

func (g *graphGateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (g *graphGateway) Warn(context.Context, digest.Digest, string, gwclient.WarnOpts) error {
	return nil
}

// compileCase compiles a target of the case's file, "" for the last stage.
func (c *goldenCase) compileCase(t *testing.T, target string) *graph.Stage {
	t.Helper()
	opts := map[string]string{"filename": "ZImagefile"}
	if target != "" {
		opts["target"] = target
	}
	if c.opt.Platform != "" {
		opts["platform"] = c.opt.Platform
	}
	for k, v := range c.opt.BuildArgs {
		opts["build-arg:"+k] = v
	}
	g, err := dockerfile.Compile(t.Context(), c.gateway("ZImagefile", string(c.text), opts), dockerfile.Options{
		Name: "ZImagefile",
		Convert: func(_ context.Context, target string, text []byte) (*frontend.Text, error) {
			_, df, err := c.convert()
			if err != nil {
				return nil, err
			}
			t := &frontend.Text{Original: text, Language: "YAML", Dockerfile: df.Text, Lines: df.Lines, BuildArgs: df.BuildArgs}
			t.Target, err = df.Target(target)
			return t, err
		},
		Nested: func(ctx context.Context, ref dockerfile.Reference) (*graph.Stage, error) {
			if !strings.HasPrefix(ref.Name, "zlayer-nested-") {
				return nil, nil
			}
			name := ref.Name + "/Dockerfile"
			g, err := dockerfile.Compile(ctx, c.gateway("Dockerfile", "FROM nested\nWORKDIR /nested\nRUN make x\n", map[string]string{"filename": "Dockerfile"}), dockerfile.Options{Name: name})
			if err != nil {
				return nil, err
			}
			return g.Outputs()[0], nil
		},
	})
	if err != nil {
		t.Fatalf("compiling target %q: %v", target, err)
	}
	return g.Outputs()[0]
}

func (c *goldenCase) gateway(name, text string, opts map[string]string) gwclient.Client {
	gw := &graphGateway{opts: opts, os: "linux"}
	if c.opt.Windows {
		gw.os = "windows"
	}
	return &frontend.Files{Client: gw, Texts: map[string]map[string][]byte{"dockerfile": {name: []byte(text)}, "context": {}}}
}

// TestGoldenGraphs holds the graphs of all cases, and the configs of their images, against
// golden files: every stage is a target once.
func TestGoldenGraphs(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(c.dir, "graph.txt")
			f, df, err := c.convert()
			if err != nil || df.Wasm != nil {
				golden(t, file, "")
				return
			}
			targets := []string{""}
			if len(f.Stages) > 0 {
				targets = nil
			}
			for _, s := range f.Stages {
				targets = append(targets, s.Name)
			}
			var outputs []*graph.Stage
			for _, target := range targets {
				outputs = append(outputs, c.compileCase(t, target))
			}
			g, err := graph.New(outputs...)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, graphText(t, g))
		})
	}
}

// graphText is a graph with the configs of its outputs.
func graphText(t *testing.T, g *graph.Graph) string {
	t.Helper()
	var b bytes.Buffer
	if err := graph.Fprint(&b, g); err != nil {
		t.Fatal(err)
	}
	for _, s := range g.Outputs() {
		var img dockerspec.DockerOCIImage
		if err := json.Unmarshal(s.Config, &img); err != nil {
			t.Fatal(err)
		}
		config, err := json.MarshalIndent(img.Config, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n%s %s\n", s.Name, config)
	}
	return b.String()
}

// TestGoldenGraphsOfRules: every mode and every rule that is easily lost has its golden graph,
// or what is said where it is refused.
func TestGoldenGraphsOfRules(t *testing.T) {
	for rule, files := range map[string][]string{
		"mode: one base":                         {"single/graph.txt"},
		"mode: build, short":                     {"build-short/graph.txt"},
		"mode: build, long":                      {"build-long/graph.txt"},
		"mode: stages":                           {"stages/graph.txt"},
		"mode: runtime":                          {"runtime/graph.txt", "runtime-order/graph.txt"},
		"order of metadata":                      {"meta-order/graph.txt"},
		"merge into the last stage":              {"meta-order/graph.txt", "stages/graph.txt"},
		"arguments in the base":                  {"args/graph.txt", "args-stages/graph.txt"},
		"an empty string is no default":          {"args/graph.txt", "args-stages/graph.txt"},
		"env beside run":                         {"run-env/graph.txt", "run-env-equals/error.txt"},
		"relative paths from stages":             {"workdir-relative/graph.txt"},
		"sharing of caches":                      {"run-mounts/graph.txt", "stages/graph.txt"},
		"add has no from":                        {"add-from/error.txt"},
		"systems and platforms of stages":        {"platform-stages/graph.txt", "windows-allowed/graph.txt"},
		"the platform of a file":                 {"platform/graph.txt", "platform-given/graph.txt"},
		"durations":                              {"healthcheck-durations/graph.txt"},
		"forms of expose":                        {"expose-forms/graph.txt"},
		"labels":                                 {"single/graph.txt", "meta-order/graph.txt"},
		"secrets, ssh, mounts, network":          {"run-mounts/graph.txt"},
		"names of stages, and targets by them":   {"stage-names/graph.txt", "build-long/graph.txt"},
		"images called like stages, and numbers": {"from-image-and-number/graph.txt", "stage-name-is-image/graph.txt"},
		"line feeds in values":                   {"newlines/graph.txt", "newlines-stages/graph.txt"},
	} {
		for _, f := range files {
			if _, err := os.Stat(filepath.Join("testdata", f)); err != nil {
				t.Errorf("%s: %v", rule, err)
			}
		}
	}
}
