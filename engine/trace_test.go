package engine

import (
	"cmp"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/source"
)

// tracedKeys computes the keys of the builds of a work tree as a call does: from traces
// where these hold, which hits counts, else by a compilation, which leaves one.
func (r *testRepo) tracedKeys(e *Engine, hits map[string]int) map[string]string {
	r.t.Helper()
	ctx := r.t.Context()
	run, err := e.newRun(Request{NormalizeModes: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer run.close()
	for _, req := range r.requestsIn(r.dir) {
		j, err := run.prepareCall(req.Request)
		if err != nil {
			r.t.Fatal(err)
		}
		defer j.close()
		j.name = req.Name
		run.builds[req.Name] = j
	}
	keys := map[string]string{}
	for name, j := range run.builds {
		k := j.recompile(ctx)
		if k != nil {
			hits[name]++
		} else {
			if k, err = j.compileKeys(ctx); err != nil {
				r.t.Fatalf("%s: %v", name, err)
			}
			j.keepTrace(ctx, k)
		}
		keys[name] = cmp.Or(k.base.String(), "none")
	}
	return keys
}

// TestTracesAgainstAnOracle changes a repository at random. The keys that are had from
// traces are those that an engine computes which has never seen the repository, and with
// nothing changed all are had from traces.
func TestTracesAgainstAnOracle(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	r := newTestRepo(t)
	e := openBare(t)
	hits := map[string]int{}
	steps := *affectedSteps
	if testing.Short() {
		steps = min(steps, 10)
	}
	r.tracedKeys(e, hits)
	if len(hits) != 0 {
		t.Fatalf("there were traces before the first compilation: %v", hits)
	}
	changes, had := 0, 0
	before := r.outputKeys(r.dir)
	for step := range steps {
		what := r.change()
		clear(hits)
		got, want := r.tracedKeys(e, hits), r.outputKeys(r.dir)
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d, step %d, %s: got %v, want %v", *affectedSeed, step, what, got, want)
		}
		for name := range want {
			if want[name] != before[name] {
				changes++
			}
		}
		had += len(hits)
		before = want
		clear(hits)
		r.tracedKeys(e, hits)
		if len(hits) != len(repoBuilds) {
			t.Fatalf("seed %d, step %d, %s: with nothing changed only %v had traces", *affectedSeed, step, what, hits)
		}
	}
	t.Logf("%d steps, %d builds changed, %d keys from traces", steps, changes, had)
	if changes == 0 || had < changes {
		t.Errorf("%d changes and %d traces tell nothing", changes, had)
	}
}

// TestTraceKey: what a compilation depends on is in the key of its trace, and a secret is
// not.
func TestTraceKey(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", "sub/x": "x"})
	e := openBare(t)
	key := func(req Request) digest.Digest {
		t.Helper()
		run, err := e.newRun(req)
		if err != nil {
			t.Fatal(err)
		}
		defer run.close()
		req.Context = dir
		j, err := run.prepareCall(req)
		if err != nil {
			t.Fatal(err)
		}
		defer j.close()
		if k := j.traceKey(); k != "" || len(req.Secrets) > 0 {
			return k
		}
		t.Fatalf("%+v has no key", req)
		return ""
	}
	base := key(Request{})
	if key(Request{}) != base {
		t.Error("equal requests have two keys")
	}
	if a, b := key(Request{Secrets: []Secret{{ID: "a", Value: []byte("one")}}}), key(Request{Secrets: []Secret{{ID: "a", Value: []byte("two")}}}); a != b {
		t.Error("the value of a secret is part of the key")
	}
	seen := map[digest.Digest]string{base: "nothing"}
	for name, req := range map[string]Request{
		"argument": {BuildArgs: map[string]string{"A": "b"}}, "target": {Target: "x"}, "platform": {Platforms: []string{"linux/s390x"}},
		"label": {Labels: map[string]string{"a": "b"}}, "variable": {Vars: map[string]string{"A": "b"}}, "registry": {DefaultRegistry: "registry.example"},
		"context": {BuildContexts: map[string]string{"other": filepath.Join(dir, "sub")}}, "root": {Root: filepath.Dir(dir)}, "modes": {NormalizeModes: true},
		"ignore": {NestedIgnore: true}, "pull": {Pull: PullNever}, "offline": {Offline: true}, "network": {Network: "none"}, "allow": {Allow: []string{"network.host"}},
		"cache mount": {CacheMounts: []CacheMount{{Target: "/c"}}}, "attestation": {Attests: map[string]string{"provenance": "mode=max"}},
	} {
		k := key(req)
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[k] = name
	}
	run, err := e.newRun(Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer run.close()
	j, err := run.prepareCall(Request{Context: dir, BuildArgs: map[string]string{"A": "\xff"}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if k := j.traceKey(); k != "" {
		t.Errorf("an argument that cannot be told from others has the key %s", k)
	}
}

// TestTreeQuestion: a question about files is read back as it was asked, or not kept.
func TestTreeQuestion(t *testing.T) {
	var in inputs
	f := source.Filter{Exclude: []string{"*.log", "!a"}, Follow: []string{"x"}}
	s := source.Selection{Path: "/x", Wildcard: true, Include: []string{"a"}}
	in.noteTree("/dir", f, s, digest.FromString("x"))
	list := in.all()
	if len(list) != 1 || in.loose {
		t.Fatalf("got %v, loose %v", list, in.loose)
	}
	var q treeQuestion
	if err := json.Unmarshal([]byte(list[0].About), &q); err != nil || !reflect.DeepEqual(q, treeQuestion{"/dir", f, s}) {
		t.Errorf("got %+v, %v", q, err)
	}
	in.noteTree("/dir", source.Filter{Follow: []string{"\xff"}}, source.Selection{}, digest.FromString("y"))
	if !in.loose {
		t.Error("a name that is not UTF-8 was kept")
	}
}

// TestInputs: two answers to one question, and one that cannot be compared, are no base
// for a trace, wherever they come from.
func TestInputs(t *testing.T) {
	q := question{Kind: askFile, About: "/a"}
	for name, f := range map[string]func(in *inputs){
		"two answers": func(in *inputs) { in.note(q, "x"); in.note(q, "y") },
		"no answer":   func(in *inputs) { in.note(q, "") },
		"loosened":    func(in *inputs) { in.loosen() },
	} {
		var in, outer inputs
		f(&in)
		outer.merge(&in)
		if !in.loose || !outer.loose {
			t.Errorf("%s: loose is %v, of what has it merged %v", name, in.loose, outer.loose)
		}
	}
	var in, outer inputs
	in.note(q, "x")
	in.note(q, "x")
	outer.merge(&in)
	if outer.loose || len(outer.all()) != 1 {
		t.Errorf("got %v, loose %v", outer.all(), outer.loose)
	}
}
