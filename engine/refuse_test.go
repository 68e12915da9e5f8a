package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// What is wrong with a build file or a request is said without a daemon: there is none here, and
// none can be started.
func TestMistakesNeedNoDaemon(t *testing.T) {
	state := t.TempDir()
	e, err := Open(t.Context(), Config{StateDir: state, StoreDir: t.TempDir(), DaemonCommand: []string{"/bin/false"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for name, c := range map[string]struct {
		file, text string
		req        Request
		line       int
		want       string
		warnings   int
	}{
		"instruction": {text: "FROM scratch\nCOPYY a b\n", line: 2, want: "unknown instruction: COPYY (did you mean COPY?)"},
		"flag":        {text: "FROM scratch\nCOPY --nope=1 a b\n", line: 2, want: "unknown flag: --nope"},
		"mount":       {text: "FROM scratch\nRUN --mount=type=foo x\n", line: 2, want: `unsupported mount type "foo"`},
		"base name":   {text: "FROM a$\n", line: 1, want: `failed to parse stage name "a$": invalid reference format`, warnings: 1},
		"blank name":  {text: "ARG X\nFROM ${X}\n", line: 2, want: "base name (${X}) should not be blank", warnings: 1},
		"circle":      {text: "FROM b AS a\nFROM a AS b\nCOPY --from=b x y\n", line: 3, want: "circular dependency detected on stage: b"},
		"target":      {text: "FROM scratch\n", req: Request{Target: "nope"}, want: `target stage "nope" could not be found`},
		"zimage":      {file: "ZImagefile", text: "base: scratch\nstepz: 1\n", line: 2, want: `a ZImagefile has no key "stepz" (did you mean steps?)`},
		"nested":      {file: "ZImagefile", text: "stages:\n  a: {build: ./nowhere}\n  b: {base: a, steps: [{env: {A: b}}]}\n", line: 2, want: "nowhere does not exist"},
		"context":     {req: Request{Context: "nowhere"}, want: "build context nowhere does not exist"},
		"file":        {req: Request{File: "nowhere"}, want: "build file nowhere does not exist"},
		"git offline": {text: "FROM scratch\nADD https://example.com/x.git#main /\n", req: Request{Offline: true},
			want: "git https://example.com/x.git#main is not in the lock file, what it stood for is not known here, and --offline keeps servers from being asked"},
		"http offline": {text: "FROM scratch\nADD https://example.com/x /\n", req: Request{Offline: true},
			want: "http https://example.com/x is not in the lock file"},
		"platform": {text: "FROM scratch\n", req: Request{Platforms: []string{"a/b/c/d"}}, want: "a/b/c/d"},
		"foreign frontend": {text: "# syntax=example.com/a:1\nFROM scratch\n", req: Request{NestedIgnore: true},
			want: "only zlayer's own frontend knows ignore files in directories, and only those of a local build context: build without --nested-ignore"},
		"foreign context": {text: "FROM scratch\n", req: Request{NestedIgnore: true, Context: "https://example.com/x.git"},
			want: "build without --nested-ignore"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, warnings := t.TempDir(), 0
			file := filepath.Join(dir, "Dockerfile")
			if c.file != "" {
				file = filepath.Join(dir, c.file)
			}
			if err := os.WriteFile(file, []byte(c.text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if c.req.Context == "" {
				c.req.Context = dir
			}
			c.req.Outputs = []Output{{Type: OutputCacheOnly}}
			c.req.Events = func(ev solver.Event) {
				if ev.Kind == solver.Warning {
					warnings++
				}
			}
			_, err := e.Build(t.Context(), c.req)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			var pe *graph.PosError
			if errors.As(err, &pe); c.line > 0 && (pe == nil || pe.Pos.File != file || pe.Pos.Line != c.line) {
				t.Errorf("%v has no place in line %d of %s", err, c.line, file)
			}
			if warnings != c.warnings {
				t.Errorf("%d warnings, want %d", warnings, c.warnings)
			}
		})
	}
	if found, _ := filepath.Glob(filepath.Join(state, "main*")); len(found) > 0 {
		t.Errorf("a daemon has left %v", found)
	}
}
