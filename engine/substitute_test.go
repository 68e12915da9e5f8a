package engine

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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
	})
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "base", "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	request := func() BatchRequest {
		req := batchOf(dir, "base", "app")
		for i := range req.Builds {
			req.Builds[i].BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "1"}
			req.Builds[i].Outputs = []Output{{Type: OutputStore, Attrs: map[string]string{"rewrite-timestamp": "true"}}}
		}
		return req
	}
	memo, store := "local="+t.TempDir(), t.TempDir()
	if _, err := engineWith(t, memo, store).BuildAll(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app", "b"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}

	req := request()
	steps := ran(&req)
	res, err := engineWith(t, memo, store).BuildAll(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := states(res), "base unchanged, app built"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s := steps(); strings.Contains(s, "touch") || !strings.Contains(s, "ls /made") && !strings.Contains(s, `"ls"`) {
		t.Errorf("what ran:\n%s", s)
	}
	whole, err := engineWith(t, "off", t.TempDir()).BuildAll(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := digestOf(res, "app"), digestOf(whole, "app"); got != want {
		t.Errorf("on a substituted base the image is %s, built as a whole it is %s", got, want)
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
