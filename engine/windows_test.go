package engine

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// imageGateway is a gateway that knows every image; those whose name speaks of Windows
// are of Windows. Its workers are of one system.
type imageGateway struct {
	diskGateway
	os string
}

func (g *imageGateway) BuildOpts() gwclient.BuildOpts {
	bo := g.diskGateway.BuildOpts()
	bo.Workers = []gwclient.WorkerInfo{{Platforms: []ocispecs.Platform{{OS: g.os, Architecture: "amd64"}}}}
	return bo
}

func (g *imageGateway) Solve(context.Context, gwclient.SolveRequest) (*gwclient.Result, error) {
	res := gwclient.NewResult()
	res.SetRef(nil)
	return res, nil
}

func (g *imageGateway) Warn(context.Context, digest.Digest, string, gwclient.WarnOpts) error {
	return nil
}

func (g *imageGateway) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	os := "linux"
	if strings.Contains(ref, "win") || strings.Contains(ref, "nanoserver") {
		os = "windows"
	}
	config, err := json.Marshal(ocispecs.Image{
		Platform: ocispecs.Platform{OS: os, Architecture: "amd64"},
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("layer")}},
	})
	return ref, digest.FromString(ref), config, err
}

// windowsCase is a directory of builds of which app is the outermost.
type windowsCase struct {
	name  string
	files map[string]string
	// on is the system of the daemon, Linux by default; platform what is asked for.
	on, platform string
	contexts     map[string]string
	// want are parts of the error, none for a build that is fine.
	want []string
	// engineOnly: inside of BuildKit there is no such thing, or the gateway of this test
	// does not have it.
	engineOnly bool
}

const (
	refusal = "this builds a Windows image, which needs a BuildKit daemon on a Windows node: the daemon builds Linux images only. Its base is "
	nano    = "mcr.microsoft.com/windows/nanoserver:1809"
)

func windowsCases() []windowsCase {
	return []windowsCase{
		{name: "a ZImagefile on a Dockerfile", files: map[string]string{
			"base/Dockerfile": "FROM " + nano + "\n", "app/ZImagefile": "build: ../base\nsteps:\n  - run: dir\n",
		}, want: []string{"app/ZImagefile:1:8: " + refusal + nano + " (app/ZImagefile:1:8 -> base/Dockerfile:1)"}},
		{name: "its package manager", on: "windows", files: map[string]string{
			"base/Dockerfile": "FROM " + nano + " AS one\nFROM one\nCOPY Dockerfile /x\n", "app/ZImagefile": "stages:\n  one: {build: ../base}\n  app: {base: one, steps: [{run: echo x && choco install y}]}\n",
		}, want: []string{"app/ZImagefile:3:29: choco cannot run here: " + nano + " (app/ZImagefile:2:3 -> base/Dockerfile:1) is nanoserver"}},
		{name: "two deep", on: "windows", files: map[string]string{
			"bottom/Dockerfile": "FROM " + nano + "\n", "base/ZImagefile": "build: ../bottom\nsteps: [{run: dir}]\n",
			"app/ZImagefile": "build: ../base\nsteps:\n  - run: [winget, x]\n  - run: choco\n",
		}, want: []string{"app/ZImagefile:3:5: winget cannot run here: " + nano + " (app/ZImagefile:1:8 -> base/ZImagefile:1:8 -> bottom/Dockerfile:1)", "app/ZImagefile:4:5: choco"}},
		{name: "copied from", files: map[string]string{
			"bottom/Dockerfile": "FROM " + nano + "\n", "base/ZImagefile": "stages:\n  w: {build: ../bottom, steps: [{run: dir}]}\n  l: {base: busybox, steps: [{copy: /a, from: w, to: /a}]}\n",
			"app/ZImagefile": "stages:\n  base: {build: ../base}\n  app: {base: busybox, steps: [{copy: /a, from: base, to: /a}]}\n",
		}, want: []string{"base/ZImagefile:2:", refusal + nano + " (base/ZImagefile:2:3 -> bottom/Dockerfile:1)"}},
		{name: "only its files", files: map[string]string{
			"base/Dockerfile": "FROM " + nano + "\n", "app/ZImagefile": "stages:\n  base: {build: ../base}\n  app: {base: busybox, steps: [{copy: 'C:\\a', from: base, to: /a}, {run: ls}]}\n",
		}},
		{name: "Linux on Windows", on: "windows", platform: "linux/amd64", files: map[string]string{
			"base/Dockerfile": "FROM --platform=windows/amd64 corp/win\n", "app/ZImagefile": "build: ../base\n",
		}, want: []string{"app/ZImagefile:1:8: this stage is one of Linux, and an image of Windows cannot be its base: it is corp/win (app/ZImagefile:1:8 -> base/Dockerfile:1)"}},
		{name: "Windows on Linux", on: "windows", files: map[string]string{
			"base/Dockerfile": "FROM --platform=linux/amd64 busybox\n", "app/ZImagefile": "os: windows\nbuild: ../base\n",
		}, want: []string{"app/ZImagefile:2:8: this stage is one of Windows, and an image of Linux cannot be its base: it is busybox (app/ZImagefile:2:8 -> base/Dockerfile:1)"}},
		{name: "nothing below", on: "windows", files: map[string]string{
			"base/ZImagefile": "base: scratch\n", "app/ZImagefile": "os: windows\nbuild: ../base\n",
		}, want: []string{"base/ZImagefile:1:7: a Windows image cannot start from scratch"}},
		{name: "variables beside a command", on: "windows", files: map[string]string{
			"base/Dockerfile": "FROM corp/win\n", "app/ZImagefile": "build: ../base\nsteps:\n  - run: dir\n    env: {A: b}\n",
		}, want: []string{"app/ZImagefile:4:5: env beside run is not possible on Windows"}},
		{name: "by its config alone", files: map[string]string{
			"base/Dockerfile": "FROM corp/win\n", "app/ZImagefile": "stages:\n  one: {build: ../base, steps: [{run: dir}]}\n  two: {base: busybox, steps: [{copy: /a, from: one, to: /a}]}\n",
		}, want: []string{"app/ZImagefile:2:", refusal + "corp/win (app/ZImagefile:2:3 -> base/Dockerfile:1)"}},
		{name: "nothing of Windows", files: map[string]string{
			"base/Dockerfile": "FROM busybox\n", "app/ZImagefile": "build: ../base\nsteps:\n  - run: choco && echo windows\n",
		}},
		{name: "a command on WebAssembly", engineOnly: true, files: map[string]string{
			"base/ZImagefile": "wasm: {language: c}\n", "base/main.c": "", "mid/ZImagefile": "build: ../base\n",
			"app/ZImagefile": "stages:\n  w: {build: ../mid, steps: [{run: ls}]}\n  app: {base: busybox, steps: [{copy: /a, from: w, to: /a}]}\n",
		}, want: []string{"app/ZImagefile:2:", "nothing can run here: the base is no image but a WebAssembly file (app/ZImagefile:2:3 -> mid/ZImagefile:1:8 -> base/ZImagefile:1:7)"}},
		{name: "files of WebAssembly", engineOnly: true, files: map[string]string{
			"base/ZImagefile": "wasm: {language: c}\n", "base/main.c": "",
			"app/ZImagefile": "stages:\n  w: {build: ../base, steps: [{copy: x, to: /x}]}\n  app: {base: busybox, steps: [{copy: /module.wasm, from: w, to: /a}, {run: ls}]}\n",
		}},
		{name: "a named context", engineOnly: true, contexts: map[string]string{"corp/base": "base"}, files: map[string]string{
			"base/Dockerfile": "FROM " + nano + "\n", "app/Dockerfile": "FROM corp/base AS one\nFROM one\nRUN dir\n",
		}, want: []string{"app/Dockerfile:3: " + refusal + nano + " (app/Dockerfile:1 -> base/Dockerfile:1)"}},
		{name: "a named context that is not needed", engineOnly: true, contexts: map[string]string{"corp/base": "base"}, files: map[string]string{
			"base/Dockerfile": "FROM " + nano + "\n", "app/Dockerfile": "FROM corp/base AS one\nRUN dir\nFROM busybox\nRUN ls\n",
		}},
		{name: "a named context for its files", engineOnly: true, contexts: map[string]string{"corp/base": "base"}, files: map[string]string{
			"base/Dockerfile": "FROM " + nano + "\n", "app/Dockerfile": "FROM busybox\nCOPY --from=corp/base . /\nRUN ls\n",
		}},
	}
}

// TestWindowsAcrossBuilds: the rules for Windows content hold for what is based on other
// builds as for what is in one file.
func TestWindowsAcrossBuilds(t *testing.T) {
	for _, c := range windowsCases() {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, c.files)
			t.Chdir(dir)
			check := func(how string, err error) {
				t.Helper()
				if err == nil && len(c.want) > 0 {
					t.Errorf("%s: got no error, want %q", how, c.want)
				}
				if err != nil && len(c.want) == 0 {
					t.Errorf("%s: got %v", how, err)
				}
				for _, w := range c.want {
					if err != nil && !strings.Contains(err.Error(), w) {
						t.Errorf("%s:\ngot  %v\nwant %s", how, err, w)
					}
				}
			}
			req := Request{Context: "app", Root: dir, BuildContexts: c.contexts}
			if c.platform != "" {
				req.Platforms = []string{c.platform}
			}
			check("engine", compileFake(t, req, c.os()))
			if c.engineOnly {
				return
			}
			inner := t.TempDir()
			for name, text := range c.files {
				writeFiles(t, inner, map[string]string{strings.TrimPrefix(name, "app/"): c.inner(name, text)})
			}
			for i, w := range c.want {
				c.want[i] = strings.ReplaceAll(w, "app/", "")
			}
			opts := map[string]string{"filename": "ZImagefile"}
			if c.platform != "" {
				opts["platform"] = c.platform
			}
			gw := &imageGateway{diskGateway: diskGateway{opts: opts}, os: c.os()}
			_, err := GatewayBuild(t.Context(), &frontend.Files{Client: gw, Dirs: map[string]string{"context": inner, "dockerfile": inner}})
			check("gateway", err)
		})
	}
}

// inner is a file where app is the build context of all.
func (c windowsCase) inner(name, text string) string {
	if strings.HasPrefix(name, "app/") {
		return strings.ReplaceAll(text, "build: ../", "build: ")
	}
	return text
}

func (c windowsCase) os() string {
	if c.on != "" {
		return c.on
	}
	return "linux"
}

// compileFake compiles a request against a gateway that builds for one system.
func compileFake(t *testing.T, req Request, os string) error {
	t.Helper()
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
	_, err = newComposer(j, &imageGateway{diskGateway: diskGateway{opts: j.attrs}, os: os}, func(solver.WarningInfo) {}).compileAll(t.Context())
	return err
}

// TestWindowsInPrograms: stages written in Go are held to the rules at their lines.
func TestWindowsInPrograms(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"base/Dockerfile": "FROM " + nano + "\n"})
	t.Chdir(dir)
	onNested := dag.New(dag.Spec{From: dag.Build(dag.Nested{Dir: "base"}), Steps: []dag.Step{
		dag.Run(dag.Command{Args: []string{"choco", "install", "y"}}),
	}})
	alone := dag.New(dag.Spec{From: dag.Image(nano), Steps: []dag.Step{
		dag.Run(dag.Command{Args: []string{"choco", "install", "y"}}),
	}})
	for _, c := range []struct {
		stage *dag.Stage
		want  []string
	}{
		{onNested, []string{"choco cannot run here: " + nano + " (", " -> base/Dockerfile:1) is nanoserver"}},
		{alone, []string{"choco cannot run here: " + nano + " is nanoserver"}},
	} {
		err := compileFake(t, Request{Stage: c.stage}, "windows")
		var pe *graph.PosError
		if !errors.As(err, &pe) || filepath.Base(pe.Pos.File) != "windows_test.go" || pe.Pos.Line < c.stage.Pos().Line {
			t.Errorf("got %v, want a place in this file", err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("got  %v\nwant %s", err, w)
			}
		}
	}
}

// TestWindowsAcrossBatch: a build of the call that another one names is looked through,
// too.
func TestWindowsAcrossBatch(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"base/Dockerfile": "FROM " + nano + "\n", "app/Dockerfile": "FROM corp/base\nRUN echo && choco install y\n"})
	t.Chdir(dir)
	r, err := openBare(t).newRun(Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var jobs []*job
	for _, name := range []string{"base", "app"} {
		j, err := r.prepareCall(Request{Context: name})
		if err != nil {
			t.Fatal(err)
		}
		defer j.close()
		j.name = name
		jobs = append(jobs, j)
	}
	r.jobs["corp/base"] = jobs[0]
	c := newComposer(jobs[1], &imageGateway{diskGateway: diskGateway{opts: jobs[1].attrs}, os: "windows"}, nil)
	_, err = c.compileAll(t.Context())
	if want := "choco cannot run here: " + nano + " ("; err == nil || !strings.HasPrefix(err.Error(), "app/Dockerfile:2: "+want) || !strings.Contains(err.Error(), "Dockerfile:1 -> ") {
		t.Errorf("got %v", err)
	}
}
