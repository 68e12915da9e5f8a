package engine

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

var update = flag.Bool("update", false, "rewrite the golden graphs")

// TestGoldenGraphs holds the graphs of what takes more than one frontend against golden
// files: templates of runtimes, WebAssembly, and builds that nest others. Identities are
// left out, for those of local sources are the machine's.
func TestGoldenGraphs(t *testing.T) {
	goldens, err := filepath.Abs("testdata/graphs")
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"wasm": {
			"ZImagefile": "wasm:\n  language: rust\n  target: preview2\n  pre_build: [[echo, before]]\nlabels: {a: b}\n",
			"Cargo.toml": "[package]\nname = \"app\"\nversion = \"0.1.0\"\n", "Cargo.lock": "", "src/main.rs": "fn main() {}\n",
		},
		"wasm-nested": {
			"ZImagefile":        "stages:\n  plugin: {build: plugin}\n  app:\n    base: alpine\n    steps:\n      - {copy: /module.wasm, from: plugin, to: /app.wasm}\n",
			"plugin/ZImagefile": "wasm: {language: go}\n", "plugin/go.mod": "module plugin\n\ngo 1.26\n", "plugin/main.go": "package main\n\nfunc main() {}\n",
		},
		"runtime": {
			"ZImagefile": "runtime: go\nenv: {PORT: 3000}\nexpose: 3000\nlabels: {a: b}\n",
			"go.mod":     "module app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n",
		},
		"nested": {
			"ZImagefile":     "stages:\n  one: {build: lib}\n  two: {build: {context: lib, args: {V: \"2\"}}}\n  mid: {build: mid}\n  app:\n    base: one\n    steps:\n      - {copy: /v, from: two, to: /two}\n      - {copy: /m, from: mid, to: /m}\n",
			"lib/Dockerfile": "FROM alpine AS tools\nRUN make tools\nFROM alpine\nARG V=1\nCOPY --from=tools /t /t\nRUN echo $V > /v\n",
			"mid/ZImagefile": "build: {context: ../lib, target: tools}\nsteps:\n  - run: make mid\n",
			"lib/.gitignore": "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, files)
			t.Chdir(dir)
			got := fakeGraph(t, Request{Context: ".", Root: dir})
			golden := filepath.Join(goldens, name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// ids are what differs from one machine to the next.
var ids = regexp.MustCompile(`(?m)^[0-9a-f]{12} |\b[0-9a-f]{12,64}\b`)

// fakeGraph compiles a request against a gateway that has every image.
func fakeGraph(t *testing.T, req Request) string {
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
	g, err := newComposer(j, &imageGateway{diskGateway: diskGateway{opts: j.attrs}, os: "linux"}, func(solver.WarningInfo) {}).compileAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := graph.Fprint(&b, g); err != nil {
		t.Fatal(err)
	}
	return ids.ReplaceAllString(b.String(), "~")
}
