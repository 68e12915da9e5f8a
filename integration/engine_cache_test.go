package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/identity"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// TestEngineCache exports a cache that holds the steps of the last stage only, and builds on a
// BuildKit that has never seen the build: nothing may run, not even the stage that the last one
// copies from, whose result is nowhere.
func TestEngineCache(t *testing.T) {
	l := labtest.Start(t)
	local := t.TempDir()
	ref := func(s string) map[string]string { return map[string]string{"ref": l.Addr() + "/cache/" + s + ":1"} }
	for _, c := range []struct {
		kind     string
		to, from engine.CacheEntry
		push     bool
	}{
		{kind: "registry", to: engine.CacheEntry{Type: "registry", Attrs: ref("registry")}, from: engine.CacheEntry{Type: "registry", Attrs: ref("registry")}},
		{kind: "local", to: engine.CacheEntry{Type: "local", Attrs: map[string]string{"dest": local}}, from: engine.CacheEntry{Type: "local", Attrs: map[string]string{"src": local}}},
		{kind: "inline", to: engine.CacheEntry{Type: "inline"}, from: engine.CacheEntry{Type: "registry", Attrs: ref("inline")}, push: true},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			dir := files{"Dockerfile": fmt.Sprintf(`FROM busybox AS deep
RUN echo ran deep && echo deep %[1]s > /deep
FROM busybox AS mid
COPY --from=deep /deep /
RUN echo ran mid && cat /deep > /mid && echo mid %[1]s >> /mid
FROM busybox
COPY --from=mid /mid /
RUN echo ran last && wc -c < /mid > /size
`, identity.NewID())}.dir(t)
			req := engine.Request{Context: dir, Push: c.push, CacheTo: []engine.CacheEntry{c.to}, Tags: []string{l.Addr() + "/cache/inline:1"}}
			first := build(t, openEngine(t), req)

			var rec recorder
			fresh := openFreshEngine(t)
			req = engine.Request{Context: dir, CacheFrom: []engine.CacheEntry{c.from}, Events: rec.sink}
			second := build(t, fresh, req)
			if out := rec.output(); out != "" || second.Stages.Cached != 3 {
				t.Errorf("%q and %+v, want nothing to run", out, second.Stages)
			}
			if !c.push && second.Digest != first.Digest {
				t.Errorf("the image is %s, want %s", second.Digest, first.Digest)
			}
			// A change of the last step needs what is below it, and no more than the cache lacks.
			files{"changed": "FROM busybox\nRUN echo " + identity.NewID() + "\n"}.write(t, dir)
			third := build(t, fresh, engine.Request{Context: dir, File: filepath.Join(dir, "changed"), CacheFrom: []engine.CacheEntry{c.from}, Outputs: cacheOnly})
			if third.Stages.Done != 1 {
				t.Errorf("after a change: %+v", third.Stages)
			}
		})
	}
}

// TestEngineCacheMax has all stages in the cache: what is built on a middle one finds it.
func TestEngineCacheMax(t *testing.T) {
	t.Parallel()
	l := labtest.Start(t)
	ref := l.Addr() + "/cache/max:1"
	id := identity.NewID()
	dir := files{
		"Dockerfile": "FROM busybox AS mid\nRUN echo ran mid && echo " + id + " > /mid\nFROM busybox\nCOPY --from=mid /mid /\n",
		"other":      "FROM busybox AS mid\nRUN echo ran mid && echo " + id + " > /mid\nFROM busybox\nCOPY --from=mid /mid /other\nRUN echo ran new && test -s /other\n",
	}.dir(t)
	build(t, openEngine(t), engine.Request{Context: dir, Outputs: cacheOnly, CacheTo: []engine.CacheEntry{{Type: "registry", Attrs: map[string]string{"ref": ref, "mode": "max"}}}})
	var rec recorder
	build(t, openFreshEngine(t), engine.Request{Context: dir, File: dir + "/other", Outputs: cacheOnly, Events: rec.sink,
		CacheFrom: []engine.CacheEntry{{Type: "registry", Attrs: map[string]string{"ref": ref}}}})
	if out := rec.output(); out != "ran new\n" {
		t.Errorf("%q, want only the new step to run", out)
	}
}

func TestEngineCacheMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	entry := func(kind string, attrs ...string) []engine.CacheEntry {
		c := engine.CacheEntry{Type: kind, Attrs: map[string]string{}}
		for i := 0; i < len(attrs); i += 2 {
			c.Attrs[attrs[i]] = attrs[i+1]
		}
		return []engine.CacheEntry{c}
	}
	for want, req := range map[string]engine.Request{
		`cache type "nosuch"`:         {CacheTo: entry("nosuch")},
		`cache type "alsonot"`:        {CacheFrom: entry("alsonot")},
		"cache registry needs ref":    {CacheTo: entry("registry")},
		"cache local needs dest=":     {CacheTo: entry("local")},
		"cache local needs src=":      {CacheFrom: entry("local")},
		`cache inline cannot be read`: {CacheFrom: entry("inline")},
	} {
		req.Context = dir
		mustBeInput(t, buildFails(t, e, req), want)
	}
	err := buildFails(t, e, engine.Request{Context: dir, CacheTo: entry("registry", "ref", "127.0.0.1:1/cache")})
	mustSay(t, err, "connection refused")

	// A cache that is not there yet, as in the first run of a new CI job, is no mistake.
	missing := filepath.Join(t.TempDir(), "nosuch")
	res := build(t, e, engine.Request{Context: dir, Outputs: cacheOnly, CacheFrom: entry("local", "src", missing)})
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Short, missing+" is not there") {
		t.Errorf("got warnings %v", res.Warnings)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("the cache was made by reading it")
	}
	build(t, e, engine.Request{Context: dir, Outputs: cacheOnly, CacheFrom: entry("registry", "ref", labtest.Start(t).Addr()+"/cache/nosuch")})
	build(t, e, engine.Request{Context: dir, Outputs: cacheOnly, CacheFrom: entry("registry", "ref", "127.0.0.1:1/cache/nosuch")})
}
