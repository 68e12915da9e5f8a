package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
)

// gatewayFiles builds a directory as zlayer's frontend does inside of BuildKit, and gives the files.
func gatewayFiles(t *testing.T, dir, file string) (files, error) {
	t.Helper()
	tree, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, err = buildkit(t).Build(t.Context(), client.SolveOpt{
		FrontendAttrs: map[string]string{"filename": file},
		LocalMounts:   map[string]fsutil.FS{"context": tree, "dockerfile": tree},
		Exports:       []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}},
	}, "", engine.GatewayBuild, nil)
	return readDir(t, out), err
}

// lockAll locks requests and gives the lines of the lock file.
func lockAll(t *testing.T, e *engine.Engine, o engine.LockOptions, reqs ...engine.Request) []string {
	t.Helper()
	res, err := e.Lock(t.Context(), reqs, o)
	if err != nil {
		t.Fatalf("locking: %v", err)
	}
	var lines []string
	for _, en := range res.Entries {
		lines = append(lines, en.String())
	}
	return lines
}

// textOf builds a request and gives the file x of the result.
func (m *remembering) textOf(req engine.Request) string {
	m.t.Helper()
	return buildFiles(m.t, m.open(), req)["x"]
}

func TestEngineLockHoldsTags(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	ref := m.base("base:1", "first")
	dir := files{"Dockerfile": "FROM " + ref + "\n"}.dir(t)
	req := engine.Request{Context: dir}
	if got := m.textOf(req); got != "first" {
		t.Errorf("got %q", got)
	}
	// Not covered.
	locked := req
	locked.Locked = true
	mustBeInput(t, buildFails(t, m.open(), locked), "there is no lock file "+dir+"/zlayer.lock: write one with zlayer lock")
	lines := lockAll(t, m.open(), engine.LockOptions{}, req)
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "image "+ref+" linux/") {
		t.Errorf("locked %v", lines)
	}
	m.base("base:1", "second")
	for what, r := range map[string]engine.Request{"plain": req, "locked": locked, "pull": {Context: dir, Pull: engine.PullAlways}} {
		if got := m.textOf(r); got != "first" {
			t.Errorf("%s: got %q, want what is locked", what, got)
		}
	}
	// Inside of BuildKit, too.
	if got, err := gatewayFiles(t, dir, "Dockerfile"); err != nil || got["x"] != "first" {
		t.Errorf("inside of BuildKit: got %q, %v, want what is locked", got, err)
	}
	// Everything else in the build file has to be locked, too.
	other := m.base("other:1", "other")
	files{"Dockerfile": "FROM " + ref + "\nCOPY --from=" + other + " /x /y\n"}.write(t, dir)
	err := buildFails(t, m.open(), locked)
	mustSay(t, err, dir+"/Dockerfile:2")
	mustSay(t, err, other)
	mustSay(t, err, "it is not in the lock file: add it with zlayer lock, or build without --locked")
	if lines := lockAll(t, m.open(), engine.LockOptions{}, req); len(lines) != 2 {
		t.Errorf("locked %v", lines)
	}
	if got := m.textOf(locked); got != "first" {
		t.Errorf("after locking more: got %q", got)
	}
	// Updating moves.
	lockAll(t, m.open(), engine.LockOptions{Update: []string{other}}, req)
	if got := m.textOf(locked); got != "first" {
		t.Errorf("after updating another image: got %q", got)
	}
	lockAll(t, m.open(), engine.LockOptions{Update: []string{m.registry.Addr() + "/base"}}, req)
	if got := m.textOf(locked); got != "second" {
		t.Errorf("after updating: got %q", got)
	}
	// Without a registry.
	if err := m.registry.Close(); err != nil {
		t.Fatal(err)
	}
	offline := req
	offline.Offline = true
	if got := m.textOf(offline); got != "second" {
		t.Errorf("offline: got %q", got)
	}
	if got := m.textOf(locked); got != "second" {
		t.Errorf("locked, and the registry is gone: got %q", got)
	}
}

// The registry is down and nothing is locked: what was last looked up helps those who
// ask for it, and the error says so.
func TestEngineOffline(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	ref, never := m.base("base:1", "known"), m.base("never:1", "never")
	known := engine.Request{Context: files{"Dockerfile": "FROM " + ref + "\n"}.dir(t)}
	unknown := engine.Request{Context: files{"Dockerfile": "FROM " + never + "\n"}.dir(t)}
	m.textOf(known)
	digest := remoteDescriptor(t, m.registry, ref).Digest.String()
	if err := m.registry.Close(); err != nil {
		t.Fatal(err)
	}
	err := buildFails(t, m.open(), known)
	mustSay(t, err, "connection refused")
	mustSay(t, err, ref+" stood for "+digest+" when it was last looked up: --offline or --pull=never builds with that; a lock file (zlayer lock) or the digest")
	err = buildFails(t, m.open(), unknown)
	mustSay(t, err, "nothing is known of "+never+" here, so its registry has to be reached once")
	for _, r := range []engine.Request{{Offline: true}, {Pull: engine.PullNever}, {Offline: true, Pull: engine.PullNever}} {
		r.Context = known.Context
		if got := m.textOf(r); got != "known" {
			t.Errorf("%+v: got %q", r, got)
		}
	}
	unknown.Offline = true
	err = buildFails(t, m.open(), unknown)
	mustSay(t, err, never+" has not been pulled for this platform before, and --offline keeps registries from being asked")
	// A digest needs no look-up.
	if got := m.textOf(engine.Request{Context: files{"Dockerfile": "FROM " + ref + "@" + digest + "\n"}.dir(t)}); got != "known" {
		t.Errorf("by digest: got %q", got)
	}
}

func TestEngineLockGitAndHTTP(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	src := files{"x": "of git", "sub/y": "below"}.dir(t)
	repo, commit := serveGit(t, src)
	var answer atomic.Value
	answer.Store("first answer")
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, answer.Load())
	}))
	defer web.Close()
	// The sources are those of a nested build; the lock file is that of the outermost.
	dir := files{
		"ZImagefile":      "build: base\nsteps:\n  - {copy: own, to: /own}\n",
		"own":             "own",
		"base/Dockerfile": "FROM scratch\nADD " + repo + "#side:sub /git/\nADD " + repo + "#main /main/\nADD " + web.URL + "/x /x\n",
	}.dir(t)
	req := engine.Request{Context: dir, Root: dir}
	lines := lockAll(t, m.open(), engine.LockOptions{}, req)
	side := ""
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "git "+repo+"#side "); ok {
			side = rest
		}
	}
	if len(lines) != 3 || !slices.Contains(lines, "git "+repo+"#main "+commit) || len(side) != 40 || side == commit || !strings.HasPrefix(lines[2], "http "+web.URL+"/x sha256:") {
		t.Errorf("locked %v, main is %s", lines, commit)
	}
	if _, err := os.Stat(filepath.Join(dir, "zlayer.lock")); err != nil {
		t.Error(err)
	}
	// Now they have keys.
	req.Outputs = []engine.Output{{Type: engine.OutputLocal, Dest: t.TempDir() + "/out"}}
	req.Locked = true
	first := m.mustBuild(req)
	m.again(req)
	out := req.Outputs[0].Dest
	for name, want := range map[string]string{"x": "first answer", "git/y": "below", "main/x": "of git", "own": "own"} {
		if got, _ := os.ReadFile(filepath.Join(out, name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, s := range first.Graph.Stages() {
		for _, src := range s.Sources {
			if src.Scheme != "local" && !graph.Pinned(src) {
				t.Errorf("the graph has %s://%s", src.Scheme, src.Ref)
			}
		}
	}
	// The address gives something else now: what is locked is not that, and it is said.
	answer.Store("second answer")
	check, err := m.open().Lock(t.Context(), []engine.Request{{Context: dir, Root: dir}}, engine.LockOptions{Check: true})
	if err != nil || len(check.Changed) != 1 || check.Changed[0].Ref != web.URL+"/x" || len(check.Added)+len(check.Removed) > 0 {
		t.Errorf("got %+v, %v", check, err)
	}
	// Inside of BuildKit it is what is locked, or a mistake.
	if got, err := gatewayFiles(t, dir, "ZImagefile"); err != nil {
		mustSay(t, err, "digest mismatch")
	} else {
		same(t, "inside of BuildKit", got, files{"x": "first answer", "git/y": "below", "main/x": "of git", "main/sub/y": "below", "own": "own"})
	}
	lockAll(t, m.open(), engine.LockOptions{UpdateAll: true}, engine.Request{Context: dir, Root: dir})
	m.mustBuild(req)
	if got, _ := os.ReadFile(filepath.Join(out, "x")); string(got) != "second answer" {
		t.Errorf("after updating: x is %q", got)
	}
	// Nothing is locked of another address.
	files{"base/Dockerfile": "FROM scratch\nADD " + web.URL + "/other /x\n"}.write(t, dir)
	mustSay(t, buildFails(t, m.open(), engine.Request{Context: dir, Root: dir, Locked: true}), "http "+web.URL+"/other: it is not in the lock file")
	pruned := lockAll(t, m.open(), engine.LockOptions{Prune: true}, engine.Request{Context: dir, Root: dir})
	if len(pruned) != 1 || !strings.HasPrefix(pruned[0], "http "+web.URL+"/other ") {
		t.Errorf("pruned to %v", pruned)
	}
}

func TestEngineLockPlatforms(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	ref := m.registry.Addr() + "/multi:1"
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	push := func(author string) string {
		t.Helper()
		var index v1.ImageIndex = empty.Index
		for _, arch := range []string{"amd64", "arm64"} {
			img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, Author: author})
			if err != nil {
				t.Fatal(err)
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
		if err := remote.WriteIndex(tag, index, m.registry.RemoteOptions(t.Context())...); err != nil {
			t.Fatal(err)
		}
		d, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first := push("first")
	dir := files{"Dockerfile": "FROM " + ref + "\nCOPY Dockerfile /\n"}.dir(t)
	req := engine.Request{Context: dir, Platforms: []string{"linux/amd64,linux/arm64"}}
	lines := lockAll(t, m.open(), engine.LockOptions{}, req)
	want := []string{"image " + ref + " linux/amd64 " + first, "image " + ref + " linux/arm64 " + first}
	if !slices.Equal(lines, want) {
		t.Errorf("locked %v, want %v", lines, want)
	}
	second := push("second")
	req.Locked = true
	req.Tags = []string{"multi:1"}
	m.mustBuild(req)
	m.again(req)
	// One platform is updated, the other is not.
	lines = lockAll(t, m.open(), engine.LockOptions{UpdateAll: true}, engine.Request{Context: dir, Platforms: []string{"linux/arm64"}})
	want = []string{"image " + ref + " linux/amd64 " + first, "image " + ref + " linux/arm64 " + second}
	if !slices.Equal(lines, want) {
		t.Errorf("locked %v, want %v", lines, want)
	}
	m.mustBuild(req)
	// A platform that is not locked.
	other := req
	other.Platforms = []string{"linux/s390x"}
	mustSay(t, buildFails(t, m.open(), other), "image "+ref+" for linux/s390x: it is not in the lock file")
}

func TestEngineLockMistakes(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	dir := files{
		"Dockerfile":  "FROM scratch\nCOPY Dockerfile /\n",
		"zlayer.lock": "zlayer-lock 1\n<<<<<<< ours\nimage docker.io/library/a:1 linux/amd64 sha256:" + strings.Repeat("0", 64) + "\n=======\n>>>>>>> theirs\n",
	}.dir(t)
	err := buildFails(t, m.open(), engine.Request{Context: dir})
	mustSay(t, err, dir+"/zlayer.lock:2: a merge has left a conflict: settle it, or write the file anew with zlayer lock --update")
	if _, err := m.open().Lock(t.Context(), []engine.Request{{Context: dir}}, engine.LockOptions{}); err == nil {
		t.Error("a lock file with a conflict was completed")
	}
	if lines := lockAll(t, m.open(), engine.LockOptions{UpdateAll: true}, engine.Request{Context: dir}); len(lines) > 0 {
		t.Errorf("locked %v", lines)
	}
	build(t, m.open(), engine.Request{Context: dir, Locked: true, Outputs: cacheOnly})
	for what, c := range map[string]struct {
		req  engine.Request
		want string
	}{
		"no directory":     {engine.Request{Context: "-", Stdin: strings.NewReader("FROM scratch\n"), Locked: true}, "a build context that is no directory has no lock file"},
		"no file":          {engine.Request{Context: dir, LockFile: dir + "/nosuch"}, "there is no lock file"},
		"offline and pull": {engine.Request{Context: dir, Offline: true, Pull: engine.PullAlways}, "offline and pull mode always exclude each other"},
	} {
		_, err := m.open().Build(t.Context(), c.req)
		if err == nil {
			t.Errorf("%s: built", what)
			continue
		}
		mustBeInput(t, err, c.want)
	}
	if _, err := m.open().Lock(t.Context(), nil, engine.LockOptions{}); err == nil {
		t.Error("nothing was locked")
	}
}
