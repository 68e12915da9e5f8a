package integration

import (
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// TestEngineDefaultRegistry has images in a registry of one's own that Docker Hub has too, or has
// not. The lab stands for Docker Hub.
func TestEngineDefaultRegistry(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	labtest.Start(t)
	own, err := lab.StartRegistry(lab.RegistryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	push := func(name string) {
		t.Helper()
		dir := files{"Dockerfile": "FROM scratch\nCOPY who /who\nWORKDIR /from-" + strings.ReplaceAll(name, ":", "-") + "\n", "who": "own " + name}.dir(t)
		build(t, e, engine.Request{Context: dir, Tags: []string{own.Addr() + "/team/" + name}, Push: true})
	}
	push("busybox:latest")
	push("tools/extra:1")
	registry := own.Addr() + "/team"

	dir := files{
		"Dockerfile": "ARG BASE=busybox\n" +
			"FROM $BASE AS one\n" +
			"FROM busybox AS two\nWORKDIR /again\n" +
			"FROM busybox:1.36 AS hub\nRUN echo hub > /hub\nRUN --mount=from=tools/extra:1,target=/m cat /m/who > /mounted\n" +
			"FROM nested AS three\n" +
			"FROM scratch\n" +
			"COPY --from=one /who /one\nCOPY --from=two /who /two\nCOPY --from=hub /hub /mounted /\n" +
			"COPY --from=tools/extra:1 /who /copied\nCOPY --from=three /nested /nested\n",
		"nested/ZImagefile": "base: busybox\nsteps:\n  - {copy: /who, from: \"busybox\", to: /nested}\n",
	}.dir(t)
	req := engine.Request{Context: dir, BuildContexts: map[string]string{"nested": dir + "/nested"}, DefaultRegistry: registry}
	own.ResetRequests()
	same(t, "short names", buildFiles(t, e, req), files{
		"one": "own busybox:latest", "two": "own busybox:latest", "hub": "hub\n", "mounted": "own tools/extra:1",
		"copied": "own tools/extra:1", "nested": "own busybox:latest",
	})
	asked := map[string]int{}
	for _, r := range own.Requests() {
		if r.Method == "HEAD" && strings.Contains(r.Path, "/manifests/") && !strings.Contains(r.Path, "sha256:") {
			asked[strings.TrimPrefix(r.Path, "/v2/team/")]++
		}
	}
	for name, n := range asked {
		if n != 1 {
			t.Errorf("%s was looked for %d times", name, n)
		}
	}
	if len(asked) != 3 { // busybox, tools/extra and, in vain, busybox:1.36
		t.Errorf("looked for %v", asked)
	}
	g, err := e.Plan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			if src.Scheme == "docker-image" {
				refs = append(refs, src.Ref[:strings.Index(src.Ref, "@")])
			}
		}
	}
	want := registry + "/busybox:latest docker.io/library/busybox:1.36"
	for _, w := range strings.Fields(want) {
		if !strings.Contains(strings.Join(refs, " "), w) {
			t.Errorf("the graph reads %v, want %s", refs, w)
		}
	}

	// Qualified names are as they were, digests are kept.
	for from, want := range map[string]string{
		"docker.io/library/busybox":  "docker.io/library/busybox:latest",
		"docker.io/busybox":          "docker.io/library/busybox:latest",
		own.Addr() + "/team/busybox": registry + "/busybox:latest",
	} {
		dir := files{"Dockerfile": "FROM " + from + "\n"}.dir(t)
		g, err := e.Plan(t.Context(), engine.Request{Context: dir, DefaultRegistry: registry})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Outputs()[0].Sources[0].Ref; !strings.HasPrefix(got, want+"@") {
			t.Errorf("FROM %s reads %s, want %s", from, got, want)
		}
	}
	pinned := build(t, e, engine.Request{Context: files{"Dockerfile": "FROM scratch\nCOPY Dockerfile /x\n"}.dir(t), Tags: []string{registry + "/pinned"}, Push: true}).Digest.String()
	g, err = e.Plan(t.Context(), engine.Request{Context: files{"Dockerfile": "FROM pinned@" + pinned + "\n"}.dir(t), DefaultRegistry: registry})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Outputs()[0].Sources[0].Ref; got != registry+"/pinned@"+pinned {
		t.Errorf("the digest has become %s", got)
	}
}

func TestEngineDefaultRegistryMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	labtest.Start(t)
	private, err := lab.StartRegistry(lab.RegistryConfig{User: "ann", Password: "word"})
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	dir := files{"Dockerfile": "FROM busybox\nRUN true\n", "none/Dockerfile": "FROM nosuch\n"}.dir(t)
	// A registry that does not let us in is one that has not got the image.
	build(t, e, engine.Request{Context: dir, DefaultRegistry: private.Addr()})
	// One that cannot be reached is a failure: who knows what it has.
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, DefaultRegistry: "127.0.0.1:1"}), "127.0.0.1:1/v2/busybox")
	err = buildFails(t, e, engine.Request{Context: dir + "/none", DefaultRegistry: private.Addr()})
	mustSay(t, err, dir+"/none/Dockerfile:1: nosuch")
	mustSay(t, err, "nor is it in the default registry: ")
	for registry, want := range map[string]string{
		"myregistry":      "has no host",
		"ghcr.io/":        "default registry \"ghcr.io/\"",
		"ghcr.io/UPPER":   "default registry \"ghcr.io/UPPER\"",
		"https://ghcr.io": "default registry",
	} {
		mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, DefaultRegistry: registry}), want)
	}
}
