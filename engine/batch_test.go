package engine

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/zlayer-dev/zlayer/solver"
)

// batchOf makes a batch of the directories of a project, each a build that is called
// and tagged like it.
func batchOf(dir string, names ...string) BatchRequest {
	req := BatchRequest{Root: dir}
	for _, n := range names {
		req.Builds = append(req.Builds, BatchBuild{NamedRequest: NamedRequest{Name: n, Request: Request{
			Context: filepath.Join(dir, n), Tags: []string{"example.com/" + n},
		}}})
	}
	return req
}

func states(r *BatchResult) string {
	var out []string
	for _, i := range r.Images {
		out = append(out, i.Name+" "+string(i.State))
	}
	return strings.Join(out, ", ")
}

func TestBuildAll(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/Dockerfile": "FROM scratch\nLABEL from=base\nCOPY a /a\n",
		"base/a":          "a",
		"app/Dockerfile":  "FROM example.com/base\nCOPY b /b\n",
		"app/b":           "b",
		"tool/Dockerfile": "FROM scratch\nCOPY --from=example.com/base /a /tool\n",
		"z/ZImagefile":    "base: example.com/app\nenv:\n  X: y\n",
	})
	var mu sync.Mutex
	builds := map[string]bool{}
	req := batchOf(dir, "z", "app", "tool", "base")
	req.Events = func(ev solver.Event) {
		mu.Lock()
		defer mu.Unlock()
		builds[ev.Build] = true
	}
	res, err := e.BuildAll(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := states(res), "z built, app built, tool built, base built"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, want := range map[string][]string{"z": {"base", "app"}, "app": {"base"}, "tool": {"base"}, "base": nil} {
		i := slices.IndexFunc(res.Images, func(i BatchImage) bool { return i.Name == name })
		if got := res.Images[i].Needs; !slices.Equal(got, want) {
			t.Errorf("%s needs %v, want %v", name, got, want)
		}
		if !builds[name] {
			t.Errorf("no event of %s", name)
		}
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Inspect(t.Context(), "example.com/z")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", in); !strings.Contains(text, "from:base") {
		t.Errorf("the label of the base is not in the image that is built on it: %s", text)
	}

	res, err = e.BuildAll(t.Context(), batchOf(dir, "z", "app", "tool", "base"))
	if err != nil || res.Count(BatchUnchanged) != 4 {
		t.Errorf("again: got %s, %v", states(res), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app", "b"), []byte("c"), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err = e.BuildAll(t.Context(), batchOf(dir, "z", "app", "tool", "base"))
	if got, want := states(res), "z built, app built, tool unchanged, base unchanged"; err != nil || got != want {
		t.Errorf("one file changed: got %s, %v", got, err)
	}
	t.Run("jobs", func(t *testing.T) { exportsOneByOne(t, e, dir) })
}

// exportsOneByOne pushes what is in the memo, with one job: each image when the one before
// it is there, be it at its time or after all others.
func exportsOneByOne(t *testing.T, e *Engine, dir string) {
	for _, afterAll := range []bool{false, true} {
		var mu sync.Mutex
		var order []string
		reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			repo, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
			mu.Lock()
			if ok && r.Method != http.MethodHead && r.Method != http.MethodGet && (len(order) == 0 || order[len(order)-1] != repo) {
				order = append(order, repo)
			}
			mu.Unlock()
			reg.ServeHTTP(w, r)
		}))
		defer srv.Close()
		req := batchOf(dir, "z", "app", "tool", "base")
		req.Jobs, req.PushAfterAll = 1, afterAll
		for i := range req.Builds {
			b := &req.Builds[i]
			b.Names, b.Push = []string{"example.com/" + b.Name}, true
			b.Tags = []string{strings.TrimPrefix(srv.URL, "http://") + "/" + b.Name}
		}
		res, err := e.BuildAll(t.Context(), req)
		if err != nil || res.Count(BatchRestored) != 4 {
			t.Fatalf("after all %v: got %s, %v", afterAll, states(res), err)
		}
		slices.Sort(order)
		if want := []string{"app", "base", "tool", "z"}; !slices.Equal(order, want) {
			t.Errorf("after all %v: the registry was written to for %q, want each of %q once", afterAll, order, want)
		}
	}
}

func TestBuildAllGoesOn(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/Dockerfile":  "FROM scratch\nCOPY missing /\n",
		"app/Dockerfile":   "FROM example.com/base\nCOPY b /b\n",
		"app/b":            "b",
		"other/Dockerfile": "FROM scratch\nCOPY a /\n",
		"other/a":          "a",
		"bad/Dockerfile":   "FROM scratch\nCOPY gone /\n",
		"late/Dockerfile":  "FROM scratch\nCOPY a /\n",
		"late/a":           "late",
	})
	req := batchOf(dir, "base", "app", "other", "bad", "late")
	req.Builds[4].DependsOn = []string{"bad"}
	res, err := e.BuildAll(t.Context(), req)
	if got, want := states(res), "base failed, app skipped, other built, bad failed, late skipped"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err == nil || strings.Count(err.Error(), "Dockerfile:2") != 2 {
		t.Errorf("want two causes, got %v", err)
	}
	if app := res.Images[1]; app.Because != "base" || app.Err == nil {
		t.Errorf("app was skipped because of %q: %v", app.Because, app.Err)
	}
	// What was built is remembered although others failed.
	res, _ = e.BuildAll(t.Context(), req)
	if got := res.Images[2].State; got != BatchUnchanged {
		t.Errorf("other is %s in the second call", got)
	}
}

func TestBuildAllMistakes(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"a/Dockerfile": "FROM scratch\nCOPY x /\n", "a/x": "", "b/Dockerfile": "FROM scratch\nCOPY x /\n", "b/x": ""})
	for name, tt := range map[string]struct {
		change func(*BatchRequest)
		want   string
	}{
		"none":     {func(r *BatchRequest) { r.Builds = nil }, "nothing to build"},
		"names":    {func(r *BatchRequest) { r.Builds[1].Name = "a" }, `two builds are called "a"`},
		"tags":     {func(r *BatchRequest) { r.Builds[1].Tags = []string{"example.com/a:latest"} }, "also made by a"},
		"unknown":  {func(r *BatchRequest) { r.Builds[1].DependsOn = []string{"c"} }, `depends on "c"`},
		"circle":   {func(r *BatchRequest) { r.Builds[1].DependsOn, r.Builds[0].DependsOn = []string{"a"}, []string{"b"} }, "in a circle"},
		"itself":   {func(r *BatchRequest) { r.Builds[1].DependsOn = []string{"b"} }, "in a circle"},
		"context":  {func(r *BatchRequest) { r.Builds[1].Images = map[string]string{"x": "y"} }, `its context x is "y"`},
		"both bad": {func(r *BatchRequest) { r.Builds[0].Context, r.Builds[1].Context = "/none/1", "/none/2" }, "/none/2"},
	} {
		req := batchOf(dir, "a", "b")
		tt.change(&req)
		if _, err := e.BuildAll(t.Context(), req); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestBuildsThatAreBasedOnEachOther(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"a/Dockerfile": "FROM example.com/b\nCOPY x /\n", "a/x": "",
		"b/Dockerfile": "FROM example.com/a\nCOPY x /\n", "b/x": "",
	})
	res, err := e.BuildAll(t.Context(), batchOf(dir, "a", "b"))
	if err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestBuildAside(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/Dockerfile":  "FROM scratch\nCOPY a /a\n",
		"base/a":           "a",
		"other/Dockerfile": "FROM nowhere.invalid/x\n",
		"app/Dockerfile":   "FROM base\nCOPY b /b\n",
		"app/b":            "b",
	})
	req := batchOf(dir, "base", "other", "app")
	req.Builds[0].Aside, req.Builds[1].Aside = true, true
	req.Builds[0].Names = []string{"base"}
	res, err := e.BuildAll(t.Context(), req)
	if err != nil || states(res) != "app built" {
		t.Errorf("got %s, %v", states(res), err)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "example.com/base"); err == nil {
		t.Error("a build that is aside has left an image")
	}
}
