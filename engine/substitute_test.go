package engine

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver"
)

// engineWith returns an engine on a daemon without any state, with a memo and a store
// of others.
func engineWith(t *testing.T, memo, store string) *Engine {
	t.Helper()
	NeedDaemon(t)
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: store, NoDaemon: true, Memo: []string{memo}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// ran collects the names of steps that really ran.
func ran(req *BatchRequest) func() string {
	var mu sync.Mutex
	var names []string
	req.Events = func(ev solver.Event) {
		if ev.Kind == solver.StepDone && ev.Step != nil && !ev.Step.Cached {
			mu.Lock()
			defer mu.Unlock()
			names = append(names, ev.Step.Name)
		}
	}
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(names, "\n")
	}
}

func TestSubstitution(t *testing.T) {
	dir := project(t, map[string]string{
		"base/Dockerfile": "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"touch\", \"-d\", \"@1\", \"/made\"]\nENV X=1\n",
		"app/Dockerfile":  "FROM example.com/base\nWORKDIR /app\nCOPY b .\nRUN [\"/bin/busybox\", \"ls\", \"/made\"]\n",
		"app/b":           "one",
		// A module, by a compiler that writes an empty one, and an image with it.
		"tools/Dockerfile": "FROM scratch\nCOPY busybox /bin/busybox\nCOPY --chmod=755 clang /bin/clang\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n",
		"tools/clang":      "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\nprintf '\\000asm\\001\\000\\000\\000' >\"$2\" && chmod 750 \"$2\" && chown 7:8 \"$2\"\n",
		"module/main.c":    "int main() {}\n",
		"host/Dockerfile":  "FROM scratch\nCOPY b .\nCOPY --from=example.com/module /module.wasm /plugins/\n",
		"host/b":           "one",
		"entry/Dockerfile": "FROM example.com/module\nCOPY b .\n",
		"entry/b":          "one",
	})
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "base", "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tools", "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	request := func() BatchRequest {
		req := batchOf(dir, "base", "app", "tools", "module", "host", "entry")
		for i := range req.Builds {
			b := &req.Builds[i]
			b.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "1"}
			b.Outputs = []Output{{Type: OutputStore, Attrs: map[string]string{"rewrite-timestamp": "true"}}}
			if b.Name == "module" {
				b.Wasm, b.Outputs, b.BuildArgs["WASM_IMAGE"] = &WasmOptions{}, nil, "example.com/tools"
			}
		}
		return req
	}
	memo, store := "local="+t.TempDir(), t.TempDir()
	if _, err := engineWith(t, memo, store).BuildAll(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app", "host", "entry"} {
		if err := os.WriteFile(filepath.Join(dir, name, "b"), []byte("two"), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	req := request()
	steps := ran(&req)
	res, err := engineWith(t, memo, store).BuildAll(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := states(res), "base unchanged, app built, tools unchanged, module unchanged, host built, entry built"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s := steps(); strings.Contains(s, "touch") || strings.Contains(s, "clang") || !strings.Contains(s, "take /wasm/module.wasm") || !strings.Contains(s, "ls /made") && !strings.Contains(s, `"ls"`) {
		t.Errorf("what ran:\n%s", s)
	}
	alone := engineWith(t, "off", t.TempDir())
	alone.cfg.MaxParallelism = 1
	req = request()
	overlaps := overlapping(&req)
	whole, err := alone.BuildAll(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if n := overlaps(); n > 0 {
		t.Errorf("%d steps ran while another one did, and one may run at a time", n)
	}
	for _, name := range []string{"app", "host", "entry"} {
		if got, want := digestOf(res, name), digestOf(whole, name); got != want || got == "" {
			t.Errorf("on a substituted base %s is %s, built as a whole it is %s", name, got, want)
		}
	}
}

// overlapping counts steps that began before another one had ended. Exports are none.
func overlapping(req *BatchRequest) func() int {
	var mu sync.Mutex
	type span struct{ from, to time.Time }
	spans := map[digest.Digest]span{}
	req.Events = func(ev solver.Event) {
		if ev.Kind == solver.StepDone && ev.Step != nil && !ev.Step.Cached && ev.Step.Started != nil && ev.Step.Completed != nil && !strings.HasPrefix(ev.Step.Name, "exporting ") {
			mu.Lock()
			defer mu.Unlock()
			spans[ev.Step.Digest] = span{*ev.Step.Started, *ev.Step.Completed}
		}
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		list := slices.SortedFunc(maps.Values(spans), func(a, b span) int { return a.from.Compare(b.from) })
		for i := 1; i < len(list); i++ {
			if list[i].from.Before(list[i-1].to) {
				n++
			}
		}
		return n
	}
}

func digestOf(r *BatchResult, name string) digest.Digest {
	for _, i := range r.Images {
		if i.Name == name && i.Result != nil {
			return i.Result.Digest
		}
	}
	return ""
}
