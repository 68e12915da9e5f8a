package integration

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/identity"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// retries lists the tries that the events tell of.
func (r *recorder) retries() []*solver.RetryInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*solver.RetryInfo
	for _, ev := range r.events {
		if ev.Kind == solver.Retrying {
			out = append(out, ev.Retry)
		}
	}
	return out
}

// flaky is a step that fails until it was run n times; a cache counts.
const flaky = "RUN --mount=type=cache,id=ID,target=/count n=$(ls /count | wc -l); touch /count/$n; echo ID try $n; test $n -ge 2\n"

func TestEngineRetriesSteps(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for what, req := range map[string]engine.Request{
		"on demand":      {},
		"stage by stage": {Jobs: 2},
		"fail fast":      {FailFast: true},
	} {
		id := identity.NewID()
		text := strings.ReplaceAll("FROM busybox AS a\n"+flaky+"RUN echo done > /out\nFROM busybox\nCOPY --from=a /out /out\n", "ID", id)
		var rec recorder
		req.Context, req.Retries, req.Events, req.Outputs = files{"Dockerfile": text}.dir(t), 3, rec.sink, cacheOnly
		res, err := e.Build(t.Context(), req)
		if err != nil {
			t.Errorf("%s: %v, after %d tries, output %q", what, err, len(rec.retries()), rec.output())
			continue
		}
		tries := rec.retries()
		if len(tries) != 2 || tries[1].Try != 2 || tries[1].Of != 3 || !strings.Contains(rec.output(), "try 2\n") {
			t.Errorf("%s: got tries %v, output %q", what, tries, rec.output())
		}
		if res.Stages.Failed != 0 || res.Stages.Done == 0 {
			t.Errorf("%s: stages ended as %+v", what, res.Stages)
		}
		// It is in the cache like any other.
		var again recorder
		req.Events, req.NoCache, req.Retries = again.sink, false, 0
		req.Labels = map[string]string{"again": "1"}
		if res = build(t, e, req); res.Stages.Done > 1 || strings.Contains(again.output(), "try") {
			t.Errorf("%s: again, stages ended as %+v, and it printed %q", what, res.Stages, again.output())
		}
	}
}

// What retrying does not mend fails as it does without, and what cannot be mended is
// not tried again.
func TestEngineRetriesAreBounded(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for step, tries := range map[string]int{"exit 3": 1, "/no/such/program": 0} {
		var rec recorder
		dir := files{"Dockerfile": "FROM busybox\nRUN echo hello\nRUN " + step + "\n"}.dir(t)
		err := buildFails(t, e, engine.Request{Context: dir, Retries: 1, Events: rec.sink})
		mustSay(t, err, dir+"/Dockerfile:3: ")
		if got := len(rec.retries()); got != tries {
			t.Errorf("%s: tried again %d times, want %d", step, got, tries)
		}
	}
}

// restless is a registry before which every n-th upload is turned away with the status.
func restless(t *testing.T, to string, status int, n int64) (addr string, refused *atomic.Int64) {
	t.Helper()
	target, err := url.Parse("http://" + to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	refused = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && refused.Load() < n {
			refused.Add(1)
			http.Error(w, "busy", status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), refused
}

func TestEngineRetriesPushes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	for what, afterAll := range map[string]bool{"each": false, "after-all": true} {
		addr, refused := restless(t, l.Addr(), http.StatusTooManyRequests, 5)
		var rec recorder
		req := engine.BatchRequest{PushAfterAll: afterAll, Events: rec.sink, Builds: []engine.BatchBuild{{NamedRequest: engine.NamedRequest{
			Name: "one", Request: engine.Request{
				Context: files{"Dockerfile": oneFile(t)}.dir(t), Tags: []string{addr + "/retry/" + what}, Push: true, Retries: 5,
				Labels: map[string]string{"test": identity.NewID()},
			},
		}}}}
		res, err := e.BuildAll(t.Context(), req)
		if err != nil {
			t.Fatalf("after all %v: %v", afterAll, err)
		}
		// BuildKit and the registry client try a little by themselves.
		if n := len(rec.retries()); n < 1 || refused.Load() != 5 {
			t.Errorf("after all %v: tried again %d times, refused %d", afterAll, len(rec.retries()), refused.Load())
		}
		if got := remoteDescriptor(t, l.Registry, l.Addr()+"/retry/"+what).Digest; got.String() != res.Images[0].Result.Digest.String() {
			t.Errorf("after all %v: the registry has %s", afterAll, got)
		}
		// Who may not push is told at once.
		addr, _ = restless(t, l.Addr(), http.StatusForbidden, 100)
		req.Builds[0].Tags = []string{addr + "/retry/forbidden-" + what}
		var fresh recorder
		req.Events = fresh.sink
		if _, err := e.BuildAll(t.Context(), req); err == nil || len(fresh.retries()) != 0 {
			t.Errorf("after all %v: forbidden: %v after %d tries", afterAll, err, len(fresh.retries()))
		}
	}
}
