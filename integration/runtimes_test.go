package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/frontend/runtimes"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// runtimeCase is a project that a runtime's template builds and that runs in the result.
type runtimeCase struct {
	name, project string
	runtime       string // "" is what is detected
	images        []string
	without       []string // files of the project that are left out
	args          map[string]string
	contexts      map[string]files // directories that stand for base images
	says          string           // what the image's command prints
	has, lacks    []string         // files of the image
}

// pythonStandIn is the image of Python as far as a template depends on it: python and its venv, made
// of Debian's packages because the lab has no other.
var pythonStandIn = files{"Dockerfile": `FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
RUN ln -s /usr/bin/python3 /usr/local/bin/python
`}

var runtimeCases = []runtimeCase{
	{
		name: "go", project: "go", images: []string{"golang:1.26"},
		// distroless cannot be had: busybox has nothing that the program needs, either
		args: map[string]string{"RUNTIME_IMAGE": "busybox"},
		says: "go says hello|big world 65532\n",
		has:  []string{"usr/local/bin/server", "usr/local/bin/tool"}, lacks: []string{"src/", "go/", "app/"},
	},
	{
		name: "npm", project: "node", runtime: "node20", images: []string{"node:20", "node:20-slim"}, without: []string{"pnpm-lock.yaml"},
		says: "node says 1 minute true absent production 1000 one two\n",
		has:  []string{"app/dist/main.js", "app/node_modules/ms/package.json"},
		lacks: []string{
			"app/node_modules/is-number/", "app/node_modules/host/", "app/.git/", "root/.npm/_cacache/",
		},
	},
	{
		name: "pnpm", project: "node", runtime: "nodejs20", images: []string{"node:20", "node:20-slim"}, without: []string{"package-lock.json"},
		says: "node says 1 minute true absent production 1000 one two\n",
		has:  []string{"app/dist/main.js"}, lacks: []string{"app/node_modules/is-number", "app/node_modules/host/", "app/.git/", "pnpm/"},
	},
	{
		name: "python", project: "python", images: []string{"debian:bookworm-slim"},
		contexts: map[string]files{"python:3.12": pythonStandIn, "python:3.12-slim": pythonStandIn},
		says:     "python says hello /opt/venv 65532\n",
		has:      []string{"app/main.py", "opt/venv/bin/python"}, lacks: []string{"app/.git/", "app/.venv/", "root/.cache/pip/"},
	},
}

// TestRuntimes builds projects that have no build file of their own and runs what came out, as the
// user of the image. The projects have been worked in: there are things of the host in them, and no
// ignore file.
func TestRuntimes(t *testing.T) {
	for _, c := range runtimeCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c *runtimeCase) run(t *testing.T) {
	labtest.Require(t, c.images...)
	e := openEngine(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "runtimes", c.project))); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.without {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files{
		".git/config": "host\n", "node_modules/host/index.js": "host\n", "node_modules/ms/index.js": "throw 'host'\n", ".venv/bin/python": "host\n",
	}.write(t, dir)
	req := engine.Request{Context: dir, BuildArgs: c.args, BuildContexts: map[string]string{}}
	for name, f := range c.contexts {
		req.BuildContexts[name] = f.dir(t)
	}
	runtime := c.choose(t, dir)
	template, err := runtimes.Render(runtime, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range template.Notes {
		t.Log("note:", n)
	}

	build := t.TempDir()
	files{"Dockerfile": string(template.Dockerfile)}.write(t, build)
	req.File = filepath.Join(build, "Dockerfile")
	got := buildFiles(t, e, req)
	for _, name := range c.has {
		if _, ok := got[name]; !ok {
			t.Errorf("the image has no %s", name)
		}
	}
	for _, name := range c.lacks {
		if _, ok := got[name]; ok {
			t.Errorf("the image has %s", name)
		}
	}

	// the build file for users to own builds the same, so all of it is cached but for the command
	yaml, err := runtimes.Init(runtime, os.DirFS(dir), runtimes.ZImagefile)
	if err != nil {
		t.Fatal(err)
	}
	text := dockerfileOf(t, yaml)
	cmd := lastCommand(t, text)
	files{"Dockerfile.run": string(text) + "\nFROM final AS run\nRUN " + cmd + "\n"}.write(t, build)
	req.File = filepath.Join(build, "Dockerfile.run")
	var rec recorder
	req.Outputs, req.Events = cacheOnly, rec.sink
	if _, err := e.Build(t.Context(), req); err != nil {
		t.Fatalf("running the image: %v\n%s", err, rec.output())
	}
	if out := rec.output(); !strings.Contains(out, c.says) {
		t.Errorf("the command %s printed %q, want %q", cmd, out, c.says)
	}
	if ran := commandsRun(&rec); len(ran) != 1 {
		t.Errorf("the ZImagefile ran %q, want the last command alone", ran)
	}
}

// commandsRun lists the RUN steps that were not cached.
func commandsRun(r *recorder) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, ev := range r.events {
		if ev.Kind == solver.StepDone && !ev.Step.Cached && strings.Contains(ev.Step.Name, "RUN ") {
			names = append(names, ev.Step.Name)
		}
	}
	return names
}

// choose gives the runtime of the case, which is at least of the language that is detected.
func (c *runtimeCase) choose(t *testing.T, dir string) runtimes.Runtime {
	t.Helper()
	d, err := runtimes.Detect(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if c.runtime == "" {
		return d.Runtime
	}
	r, err := runtimes.Get(c.runtime)
	if err != nil {
		t.Fatal(err)
	}
	if r.Language != d.Runtime.Language {
		t.Errorf("detected %s, want %s", d.Runtime.Name, r.Language)
	}
	return r
}

// dockerfileOf gives the Dockerfile that a ZImagefile stands for.
func dockerfileOf(t *testing.T, yaml []byte) []byte {
	t.Helper()
	f, err := zimage.Parse("ZImagefile", yaml)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zimage.Convert(f, zimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d.Text
}

// lastCommand gives the command of the image that a Dockerfile builds, as a list.
func lastCommand(t *testing.T, text []byte) string {
	t.Helper()
	ast, err := parser.Parse(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	last := ast.AST.Children[len(ast.AST.Children)-1]
	if !strings.EqualFold(last.Value, "cmd") {
		t.Fatalf("the last instruction is %s, want CMD", last.Original)
	}
	var words []string
	for n := last.Next; n != nil; n = n.Next {
		words = append(words, n.Value)
	}
	list, err := json.Marshal(words)
	if err != nil {
		t.Fatal(err)
	}
	return string(list)
}
