package engine

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/zlayer-dev/zlayer/graph"
)

// pipelineOf loads a pipeline of a project.
func pipelineOf(t *testing.T, dir string, req PipelineRequest) *Pipeline {
	t.Helper()
	req.File = filepath.Join(dir, "ZPipeline.yaml")
	p, err := LoadPipeline(req)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPipelineBatch(t *testing.T) {
	dir := project(t, map[string]string{
		"a/Dockerfile": "FROM scratch\nCOPY f /\n", "a/f": "f", "key": "k",
		"ZPipeline.yaml": `vars: {V: "1"}
variables: {TOKEN: {secret: true, default: hush}}
defaults: {context: a, retries: 2, cache_mounts: [/root/.cache, {target: /x, sharing: private, id: y}]}
cache: {type: s3, bucket: b, region: r, prefix: p/}
push: {after_all: true}
images:
  base: {tags: x/base}
  tool: {}
  gen: {}
  mid: {contexts: {base: "image:base"}, depends_on: gen}
  app:
    contexts: {mid: "image:mid"}
    tags: [x/app]
    format: docker
    push: true
    secrets: [{id: token, value: "${TOKEN}"}, {id: key, file: key}]
    output: ["type=store", {type: oci, dest: out.tar}]
    retries: 0
  lone: {context: gone}
  win: {os: windows}
`})
	e := realEngine(t)
	p := pipelineOf(t, dir, PipelineRequest{Only: []string{"app"}})
	req, err := e.pipelineBatch(p, PipelineOptions{NoCache: true})
	if err != nil {
		t.Fatal(err)
	}
	if !req.PushAfterAll || strings.Join(req.Memo, " ") != "local+s3=bucket=b,region=r,prefix=p/" || req.Root != dir {
		t.Errorf("got after_all %v, memo %q, root %q", req.PushAfterAll, req.Memo, req.Root)
	}
	got := map[string]string{}
	byName := map[string]BatchBuild{}
	for _, b := range req.Builds {
		byName[b.Name] = b
		got[b.Name] = fmt.Sprintf("aside %v, outputs %v, waits for %v, broken %v", b.Aside, len(b.Outputs), b.DependsOn, b.broken != nil)
	}
	for name, want := range map[string]string{
		// What app copies from has to wait for gen, so app has to.
		"app":  "aside false, outputs 3, waits for [gen], broken false",
		"mid":  "aside true, outputs 1, waits for [gen], broken false",
		"gen":  "aside false, outputs 1, waits for [], broken false",
		"base": "aside true, outputs 1, waits for [], broken false",
		"tool": "aside true, outputs 1, waits for [], broken false",
		"lone": "aside true, outputs 1, waits for [], broken true",
		"win":  "aside true, outputs 1, waits for [], broken true",
	} {
		if got[name] != want {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
	app := byName["app"]
	for n, want := range []string{"store ", "oci /out.tar", "image "} {
		o := app.Outputs[n]
		if got := string(o.Type) + " " + strings.TrimPrefix(o.Dest, dir); got != want || o.Attrs["oci-mediatypes"] != "false" {
			t.Errorf("output %d: got %s %v", n, got, o.Attrs)
		}
	}
	if app.Retries != 0 || byName["gen"].Retries != 2 || !app.NoCache || app.Vars["V"] != "1" || app.Vars["TOKEN"] != "" {
		t.Errorf("got %+v", app.Request)
	}
	if string(app.Secrets[0].Value) != "hush" || app.Secrets[1].File != filepath.Join(dir, "key") {
		t.Errorf("got secrets %+v", app.Secrets)
	}
	if want := []CacheMount{{Target: "/root/.cache", Sharing: "locked"}, {Target: "/x", ID: "y", Sharing: "private"}}; !slices.Equal(app.CacheMounts, want) {
		t.Errorf("got %v", app.CacheMounts)
	}
}

// TestPipelinePull: what the caller says of looking up goes before what the pipeline says.
func TestPipelinePull(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\n", "ZPipeline.yaml": "images: {never: {pull: never}, none: {}}\n"})
	e := &Engine{}
	for pull, want := range map[PullMode]string{"": "never none=", PullAlways: "always none=always"} {
		req, err := e.pipelineBatch(pipelineOf(t, dir, PipelineRequest{}), PipelineOptions{Pull: pull})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s none=%s", req.Builds[0].Pull, req.Builds[1].Pull); got != want {
			t.Errorf("told %q: never is %s, want %s", pull, got, want)
		}
	}
}

// pushImage pushes an image with something in it for this machine, each time another one,
// and gives its digest.
func pushImage(t *testing.T, ref string) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(8, 1)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", hostArch()
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestLockPipeline locks what a pipeline reads from outside: not what its own images are
// called, be they built or come along.
func TestLockPipeline(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	image := strings.TrimPrefix(srv.URL, "http://") + "/img:1"
	dir := project(t, map[string]string{
		"base/Dockerfile": "FROM " + image + "\nLABEL a=b\n",
		"app/Dockerfile":  "FROM example.invalid/base\nLABEL c=d\n",
		"ZPipeline.yaml":  "images:\n  base: {context: base, tags: example.invalid/base}\n  app: {context: app, pull: always}\n",
	})
	var digests []string
	push := func() { digests = append(digests, pushImage(t, image)) }
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	lock := func(o LockOptions, only ...string) *LockResult {
		t.Helper()
		res, err := e.LockPipeline(t.Context(), pipelineOf(t, dir, PipelineRequest{Only: only}), PipelineOptions{Locked: true}, o)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	push()
	res := lock(LockOptions{}, "app") // base comes along
	if len(res.Entries) != 1 || len(res.Added) != 1 || res.Entries[0].Ref != image || res.Entries[0].Value != digests[0] {
		t.Fatalf("got %+v, want %s at %s", res, image, digests[0])
	}
	if !isFile(filepath.Join(dir, "zlayer.lock")) {
		t.Error("the lock file is not at the root")
	}
	push()
	if res := lock(LockOptions{}); res.Entries[0].Value != digests[0] || len(res.Changed) != 0 {
		t.Errorf("what is locked has moved: %+v", res)
	}
	if res := lock(LockOptions{UpdateAll: true}); res.Entries[0].Value != digests[1] || len(res.Changed) != 1 || len(res.Entries) != 1 {
		t.Errorf("updated: %+v", res)
	}
	writeFiles(t, dir, map[string]string{"app/Dockerfile": "FROM " + image + "-none\n"})
	if _, err := e.LockPipeline(t.Context(), pipelineOf(t, dir, PipelineRequest{}), PipelineOptions{}, LockOptions{UpdateAll: true}); err == nil || !strings.Contains(err.Error(), "app/Dockerfile:1") {
		t.Errorf("an image that is not there: %v", err)
	}
}

// What cannot be built is refused at its place in the pipeline, all at once.
func TestPipelineRefuses(t *testing.T) {
	dir := project(t, map[string]string{"a/Dockerfile": "FROM scratch\n", "ZPipeline.yaml": `images:
  win: {context: a, os: windows}
  gone: {context: nowhere}
  file: {context: a, file: a/Nope}
  secret: {context: a, secrets: [{id: s, file: missing}]}
`})
	e := realEngine(t)
	_, err := e.BuildPipeline(t.Context(), pipelineOf(t, dir, PipelineRequest{}), PipelineOptions{})
	if err == nil {
		t.Fatal("it was built")
	}
	for _, want := range []string{":2:25: win: images for windows", ":3:19: gone: build context", ":4:28: file: build file", ":5:34: secret: the file of secret s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	var pe *graph.PosError
	if !errors.As(err, &pe) || len(pe.Source) == 0 {
		t.Errorf("no place with a text: %v", err)
	}
}

func TestBuildPipeline(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/Dockerfile": "FROM scratch\nCOPY a /a\n", "base/a": "a",
		"app/ZImagefile": "base: ${REGISTRY}/base\nenv:\n  V: \"${VERSION}\"\n  GO: go${GO}\n  KEPT: $${VERSION}\n",
		"bad/ZImagefile": "base: x/broken\n",
		"ZPipeline.yaml": `vars: {VERSION: "1.2", REGISTRY: example.com/acme}
images:
  base: {context: base, tags: "${REGISTRY}/base"}
  app:
    context: app
    matrix: {GO: ["1", "2"]}
    name: app-${GO}
    tags: "${REGISTRY}/app:${GO}"
  bad: {context: bad}
  broken: {context: gone, tags: x/broken}
`})
	p := pipelineOf(t, dir, PipelineRequest{Set: []string{"VERSION=3: x"}, Only: []string{"app"}})
	res, err := e.BuildPipeline(t.Context(), p, PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// base was not asked for, and is in both by its tag.
	if got, want := states(res), "app-1 built, app-2 built"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Inspect(t.Context(), "example.com/acme/app:2")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"V=3: x", "GO=go2", "KEPT=${VERSION}"} {
		if text := fmt.Sprintf("%+v", in); !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if _, err := s.Inspect(t.Context(), "example.com/acme/base"); err == nil {
		t.Error("the image that was not asked for is in the store")
	}
	// An image that cannot be built is named where another is based on it.
	res, err = e.BuildPipeline(t.Context(), pipelineOf(t, dir, PipelineRequest{Only: []string{"bad"}}), PipelineOptions{})
	if err == nil || !strings.Contains(err.Error(), "ZPipeline.yaml:10:21: broken: build context") {
		t.Errorf("got %v, %v", states(res), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "gone")); err == nil {
		t.Error("the test is wrong: the directory is there")
	}
}
