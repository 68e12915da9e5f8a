package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/identity"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// runPipeline builds the pipeline of a directory.
func runPipeline(t testing.TB, e *engine.Engine, dir string, o engine.PipelineOptions, names ...string) (*engine.BatchResult, error) {
	t.Helper()
	p, err := engine.LoadPipeline(engine.PipelineRequest{File: filepath.Join(dir, "ZPipeline.yaml"), Only: names})
	if err != nil {
		t.Fatal(err)
	}
	return e.BuildPipeline(t.Context(), p, o)
}

// outcomes is how the images of a run ended, by name.
func outcomes(res *engine.BatchResult) string {
	var out []string
	for _, i := range res.Images {
		s := i.Name + " " + string(i.State)
		if i.Because != "" {
			s += " by " + i.Because
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// ownDaemon configures a background daemon for one test, which ends with it.
func ownDaemon(t *testing.T) engine.Config {
	t.Helper()
	l := labtest.Start(t)
	buildkit(t) // so that what the machine lacks is found out in one place
	config := filepath.Join(t.TempDir(), "buildkitd.toml")
	if err := os.WriteFile(config, []byte(l.BuildkitdTOML()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := engine.Config{StateDir: t.TempDir(), DaemonConfig: config}
	t.Cleanup(func() { _ = daemon.Stop(context.Background(), cfg.Daemon()) })
	return cfg
}

// hasImage reports whether a registry of the lab has an image.
func hasImage(t *testing.T, r *lab.Registry, ref string) bool {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	_, err = remote.Head(parsed, r.RemoteOptions(t.Context())...)
	return err == nil
}

// matrix is a pipeline in which something fails: bottom <- middle <- top, and other.
func matrix(t *testing.T, registry string, bad map[string]string) string {
	t.Helper()
	fs, id := files{}, identity.NewID()
	from := map[string]string{"bottom": "busybox", "middle": registry + "/bottom", "top": registry + "/middle", "other": "busybox", "late": "busybox"}
	var p strings.Builder
	fmt.Fprintf(&p, "defaults: {tags: [\"%s/${IMAGE_NAME}\"], push: true}\nimages:\n", registry)
	for _, name := range []string{"bottom", "middle", "top", "other", "late"} {
		step := "RUN echo " + registry + name + id // nobody else has it
		if bad[name] != "" {
			step = bad[name]
		}
		fs[name+"/Dockerfile"] = "FROM " + from[name] + "\n" + step + "\n"
		after := ""
		if name == "late" {
			after = ", depends_on: other"
		}
		fmt.Fprintf(&p, "  %s: {context: %s%s}\n", name, name, after)
	}
	fs["ZPipeline.yaml"] = p.String()
	return fs.dir(t)
}

// afterAll has a pipeline push after everything was built.
func afterAll(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "ZPipeline.yaml")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, "push: {after_all: true}\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pushed lists the images of a matrix that the registry has.
func pushed(t *testing.T, l *lab.Lab, repo string) string {
	t.Helper()
	var out []string
	for _, name := range []string{"bottom", "middle", "top", "other", "late"} {
		if hasImage(t, l.Registry, l.Addr()+"/"+repo+"/"+name) {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

func TestEnginePipelineFailures(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	for name, c := range map[string]struct {
		bad      map[string]string
		afterAll bool
		failFast bool
		want     string // outcomes
		pushed   string
		causes   []string // begins of the error's parts
	}{
		"root": {
			bad:    map[string]string{"bottom": "RUN exit 3"},
			want:   "bottom failed, middle skipped by bottom, top skipped by bottom, other built, late built",
			pushed: "other late", causes: []string{"bottom/Dockerfile:2: "},
		},
		"middle": {
			bad:    map[string]string{"middle": "RUN exit 3"},
			want:   "bottom built, middle failed, top skipped by middle, other built, late built",
			pushed: "bottom other late", causes: []string{"middle/Dockerfile:2: "},
		},
		"leaf": {
			bad:    map[string]string{"top": "RUN exit 3"},
			want:   "bottom built, middle built, top failed, other built, late built",
			pushed: "bottom middle other late", causes: []string{"top/Dockerfile:2: "},
		},
		"two": {
			bad:    map[string]string{"top": "RUN exit 3", "other": "COPY missing /"},
			want:   "bottom built, middle built, top failed, other failed, late skipped by other",
			pushed: "bottom middle", causes: []string{"top/Dockerfile:2: ", "other/Dockerfile:2: "},
		},
		"nothing is pushed after all": {
			bad: map[string]string{"top": "RUN exit 3"}, afterAll: true,
			want:   "bottom built, middle built, top failed, other built, late built",
			pushed: "", causes: []string{"top/Dockerfile:2: "},
		},
		"everything is pushed after all": {
			afterAll: true,
			want:     "bottom built, middle built, top built, other built, late built",
			pushed:   "bottom middle top other late",
		},
	} {
		repo := "matrix/" + strings.ReplaceAll(name, " ", "-")
		dir := matrix(t, l.Addr()+"/"+repo, c.bad)
		if c.afterAll {
			afterAll(t, dir)
		}
		res, err := runPipeline(t, e, dir, engine.PipelineOptions{})
		if got := outcomes(res); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if got := pushed(t, l, repo); got != c.pushed {
			t.Errorf("%s: pushed %s, want %s", name, got, c.pushed)
		}
		if (err == nil) != (len(c.causes) == 0) {
			t.Errorf("%s: got error %v", name, err)
			continue
		}
		if err == nil {
			continue
		}
		for _, want := range c.causes {
			if strings.Count(err.Error(), dir+"/"+want) != 1 {
				t.Errorf("%s: want %s once in %v", name, want, err)
			}
		}
		if got := len(solver.Causes(err)); got != len(c.causes) {
			t.Errorf("%s: %d causes: %v", name, got, err)
		}
	}
}

// One push that fails is an error, and does not keep the others from being pushed.
func TestEnginePipelinePushFails(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	refusing, _ := restless(t, l.Addr(), 403, 1000)
	for _, last := range []bool{false, true} {
		repo := fmt.Sprintf("refused/%v", last)
		dir := matrix(t, l.Addr()+"/"+repo, nil)
		text, err := os.ReadFile(filepath.Join(dir, "ZPipeline.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.Replace(string(text), "other: {context: other", "other: {tags: \""+refusing+"/"+repo+"/refused\", context: other", 1))
		if err := os.WriteFile(filepath.Join(dir, "ZPipeline.yaml"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if last {
			afterAll(t, dir)
		}
		res, err := runPipeline(t, e, dir, engine.PipelineOptions{})
		want := "bottom built, middle built, top built, other failed, late skipped by other"
		wantPushed := "bottom middle top"
		if last {
			want, wantPushed = "bottom built, middle built, top built, other failed, late built", "bottom middle top late"
		}
		if got := outcomes(res); got != want || err == nil || !strings.Contains(err.Error(), refusing) {
			t.Errorf("after all %v: got %s, %v", last, got, err)
		}
		if got := pushed(t, l, repo); got != wantPushed {
			t.Errorf("after all %v: pushed %s, want %s", last, got, wantPushed)
		}
	}
}

// Interrupted, a run says what it has finished, and the next one takes that.
func TestEnginePipelineInterrupted(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := matrix(t, l.Addr()+"/interrupted", map[string]string{"late": "RUN echo late is running && sleep 60"})
	p, err := engine.LoadPipeline(engine.PipelineRequest{File: filepath.Join(dir, "ZPipeline.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("that is enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	res, err := e.BuildPipeline(ctx, p, engine.PipelineOptions{Events: func(ev solver.Event) {
		if ev.Kind == solver.Output && ev.Build == "late" {
			cancel(stop)
		}
	}})
	if !errors.Is(err, stop) || res == nil {
		t.Fatalf("got %v, %v", res, err)
	}
	states := map[string]engine.BatchState{}
	for _, i := range res.Images {
		states[i.Name] = i.State
	}
	if states["other"] != engine.BatchBuilt || states["late"] != engine.BatchSkipped || res.Count(engine.BatchFailed) != 0 {
		t.Errorf("got %s", outcomes(res))
	}
	if err := os.WriteFile(filepath.Join(dir, "late", "Dockerfile"), []byte("FROM busybox\nRUN echo mended\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err = e.BuildPipeline(t.Context(), p, engine.PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range res.Images {
		if was := states[i.Name]; (was == engine.BatchBuilt) != (i.State == engine.BatchUnchanged) {
			t.Errorf("%s was %s and is %s", i.Name, was, i.State)
		}
	}
}

// The daemon is killed in the middle of a run; what was finished is kept, and the next
// run has a new daemon.
func TestEnginePipelineDaemonDies(t *testing.T) {
	t.Parallel()
	l, cfg := labtest.Start(t), ownDaemon(t)
	e := openConfig(t, cfg)
	info, err := e.DaemonInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := matrix(t, l.Addr()+"/dies", map[string]string{"late": "RUN echo late is running && sleep 60"})
	killed := false
	res, err := runPipeline(t, e, dir, engine.PipelineOptions{Events: func(ev solver.Event) {
		if ev.Kind == solver.Output && ev.Build == "late" && !killed {
			killed = true
			if p, err := os.FindProcess(info.PID); err == nil {
				_ = p.Kill()
			}
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "daemon") {
		t.Fatalf("got %v, %v", res, err)
	}
	if res.Images[3].State != engine.BatchBuilt || res.Images[4].State == engine.BatchBuilt {
		t.Errorf("got %s", outcomes(res))
	}
	if err := os.WriteFile(filepath.Join(dir, "late", "Dockerfile"), []byte("FROM busybox\nRUN echo mended\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res, err = runPipeline(t, e, dir, engine.PipelineOptions{}); err != nil || res.Images[4].State != engine.BatchBuilt {
		t.Errorf("with a new daemon: %v, %v", outcomes(res), err)
	}
}

// Pipelines with the features of those that people have: independent images with two
// tags and common settings; a base with dependants that name it by its pushed tag;
// variables in texts of ZImagefiles; platforms.
func TestEnginePipelineFiles(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	host := l.Addr() + "/acme"
	dir := files{
		"src/main":        "text",
		"a/Dockerfile":    "FROM busybox\nARG VERSION\nCOPY src/main /main\nRUN --mount=type=cache,target=/other true\nRUN touch /root/.cache/a && echo $VERSION > /version\n",
		"b/ZImagefile":    "base: ${REGISTRY}/base:latest\nenv:\n  VERSION: \"${VERSION}\"\nsteps:\n  - run: test -f /base && ls /root/.cache\n",
		"base/Dockerfile": "FROM busybox\nRUN touch /base\n",
		"ZPipeline.yaml": "version: 1\nvars: {VERSION: \"0.1\", REGISTRY: " + host + `}
defaults:
  format: oci
  retries: 2
  cache_mounts: [{target: /root/.cache, id: acme-cache, sharing: shared}]
images:
  a:
    file: a/Dockerfile
    context: .
    tags: ["${REGISTRY}/a:${VERSION}", "${REGISTRY}/a:latest"]
    build_args: {VERSION: "${VERSION}"}
  base: {context: base, tags: ["${REGISTRY}/base:latest"], format: docker}
  b: {context: b, tags: ["${REGISTRY}/b:${VERSION}"], depends_on: [base]}
  many: {context: base, tags: ["${REGISTRY}/many"], platforms: [linux/amd64, linux/arm64]}
push: {after_all: false}
`}.dir(t)
	p, err := engine.LoadPipeline(engine.PipelineRequest{File: filepath.Join(dir, "ZPipeline.yaml"), Set: []string{"VERSION=2"}, Except: []string{"many"}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.BuildPipeline(t.Context(), p, engine.PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "a built, base built, b built"; outcomes(res) != want {
		t.Errorf("got %s", outcomes(res))
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"a:2", "a:latest", "base", "b:2"} {
		in, err := s.Inspect(t.Context(), host+"/"+ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if text := fmt.Sprintf("%+v", in); ref == "b:2" && !strings.Contains(text, "VERSION=2") {
			t.Errorf("the variable is not in %s", text)
		}
	}
	byName := map[string]*engine.Result{}
	for _, i := range res.Images {
		byName[i.Name] = i.Result
	}
	for name, kind := range map[string]string{"a": "vnd.oci.image", "base": "vnd.docker.distribution"} {
		if !strings.Contains(string(byName[name].Descriptor), kind) {
			t.Errorf("%s: want %s in %s", name, kind, byName[name].Descriptor)
		}
	}
	if names := slices.Sorted(maps.Keys(byName)); len(names) != 3 {
		t.Errorf("got %v", names)
	}
}

// A step for a platform that the daemon cannot run fails with what to do about it.
func TestEnginePlatformWithoutEmulator(t *testing.T) {
	t.Parallel()
	workers, err := buildkit(t).ListWorkers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range workers[0].Platforms {
		if p.Architecture == "arm64" {
			t.Skip("this machine runs programs for arm64")
		}
	}
	e := openEngine(t)
	dir := files{"Dockerfile": "FROM busybox\nRUN exit 3\n"}.dir(t)
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, Platforms: []string{"linux/arm64"}}), "has no emulator for linux/arm64: install one there")
	// What the kernel itself does not run.
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY x /\nRUN [\"/x\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), arm64Program("arm64\n", 0), 0o755); err != nil {
		t.Fatal(err)
	}
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, Platforms: []string{"linux/arm64"}}), "has no emulator for linux/arm64: install one there")
	files{"Dockerfile": "FROM busybox\nRUN exit 3\n"}.write(t, dir)
	if err := buildFails(t, e, engine.Request{Context: dir}); strings.Contains(err.Error(), "emulator") {
		t.Errorf("for the machine's own platform: %v", err)
	}
}

// Several platforms give one index a tag, and are not built again.
func TestEnginePipelinePlatforms(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := matrix(t, l.Addr()+"/platforms", nil)
	p, err := engine.LoadPipeline(engine.PipelineRequest{
		File: filepath.Join(dir, "ZPipeline.yaml"), Only: []string{"bottom", "middle"}, Platforms: []string{"linux/amd64", "linux/arm64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.BuildPipeline(t.Context(), p, engine.PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	index, err := remoteDescriptor(t, l.Registry, l.Addr()+"/platforms/middle").ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	archs := map[string]int{}
	for _, d := range m.Manifests {
		archs[d.Platform.Architecture]++
	}
	if archs["amd64"] != 1 || archs["arm64"] != 1 {
		t.Errorf("the index has %v", archs)
	}
	again, err := e.BuildPipeline(t.Context(), p, engine.PipelineOptions{})
	if err != nil || again.Count(engine.BatchUnchanged) != 2 || again.Images[1].Result.Digest != res.Images[1].Result.Digest {
		t.Errorf("again: %s, %v", outcomes(again), err)
	}
}
