package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/client"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
)

// BuildKit's own client holds to a lock file by the policy that is made of it, after everything has
// moved.
func TestEngineLockPolicy(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	base := m.base("base:1", "locked")
	src := files{"x": "locked", "sub/y": "locked"}.dir(t)
	repo, _, more := serveGitRepo(t, src)
	var answer atomic.Value
	answer.Store("locked")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(answer.Load().(string)))
	}))
	defer web.Close()
	dir := files{"Dockerfile": "FROM " + base + "\nADD " + repo + "#main /main/\nADD " + repo + "#main:sub /sub/\nADD " + repo + " /default/\n" +
		"ADD " + repo + "#:sub /default-sub/\nADD " + web.URL + "/f /f\n"}.dir(t)
	res, err := m.open().Lock(t.Context(), []engine.Request{{Context: dir}}, engine.LockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := res.Policy()
	if err != nil {
		t.Fatal(err)
	}
	var policy spb.Policy
	if err := json.Unmarshal(text, &policy); err != nil || len(policy.Rules) != len(res.Entries) {
		t.Fatalf("%d rules for %d entries: %v\n%s", len(policy.Rules), len(res.Entries), err, text)
	}
	m.base("base:1", "moved")
	files{"x": "moved", "sub/y": "moved"}.write(t, src)
	more()
	tree, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	solve := func(policy *spb.Policy) (string, error) {
		out := t.TempDir()
		_, err := buildkit(t).Solve(t.Context(), nil, client.SolveOpt{
			Frontend: "dockerfile.v0", SharedKey: t.Name(), SourcePolicy: policy, FrontendAttrs: map[string]string{"image-resolve-mode": "pull"},
			LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": tree},
			Exports:     []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}},
		}, nil)
		return out, err
	}
	check := func(want string, policy *spb.Policy) {
		t.Helper()
		out, err := solve(policy)
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		for _, f := range []string{"x", "main/x", "sub/y", "default/x", "default-sub/y", "f"} {
			if got := readText(t, filepath.Join(out, f)); got != want {
				t.Errorf("%s is %q, want %q", f, got, want)
			}
		}
	}
	check("locked", &policy)
	// What was fetched with the checksum is not asked for again.
	answer.Store("moved")
	check("locked", &policy)
	check("moved", nil)
}
