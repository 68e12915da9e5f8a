package integration

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// program is the command line, compiled once.
var program struct {
	once sync.Once
	path string
	err  error
}

// zlayerProgram gives the path of the program zlayer.
func zlayerProgram(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		program.path = filepath.Join(filepath.Dir(fixture.config.StateDir), "zlayer")
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", program.path, "../cmd/zlayer")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if text, err := cmd.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("compiling zlayer: %w\n%s", err, text)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// frontendImage is zlayer as an image in the lab's registry, made as "make frontend-image" does.
var frontendImage struct {
	once sync.Once
	ref  string
	err  error
}

func zlayerFrontend(t *testing.T) (ref string) {
	t.Helper()
	frontendImage.once.Do(func() {
		dir := t.TempDir()
		if frontendImage.err = os.Link(zlayerProgram(t), filepath.Join(dir, "zlayer")); frontendImage.err != nil {
			return
		}
		frontendImage.ref = labtest.Start(t).Addr() + "/zlayer/frontend:1"
		build(t, openEngine(t), engine.Request{
			Context: dir, File: "../scripts/frontend.Dockerfile", Tags: []string{frontendImage.ref}, Push: true,
		})
	})
	if frontendImage.err != nil || frontendImage.ref == "" {
		t.Fatalf("there is no image of the frontend: %v", frontendImage.err)
	}
	return frontendImage.ref
}

// buildctl builds a directory with a frontend of the daemon, without zlayer, and gives the digest
// of the image.
func buildctl(t *testing.T, dir, frontend string, attrs map[string]string) (string, error) {
	t.Helper()
	tree, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"filename": "ZImagefile", "build-arg:SOURCE_DATE_EPOCH": "1700000000"}
	maps.Copy(all, attrs)
	resp, err := buildkit(t).Solve(t.Context(), nil, client.SolveOpt{
		Frontend:      frontend,
		FrontendAttrs: all,
		LocalMounts:   map[string]fsutil.FS{"context": tree, "dockerfile": tree},
		SharedKey:     t.Name() + dir,
		Exports: []client.ExportEntry{{
			Type:   client.ExporterOCI,
			Attrs:  map[string]string{"rewrite-timestamp": "true"},
			Output: func(map[string]string) (io.WriteCloser, error) { return nopWriter{io.Discard}, nil },
		}},
	}, nil)
	if err != nil {
		return "", err
	}
	return resp.ExporterResponse["containerimage.digest"], nil
}

// sameAsEngine builds a directory by the frontend and by the engine: the images are the same. The
// times are not those of the build, because the two need not find each other's steps in the cache.
func sameAsEngine(t *testing.T, dir, frontend string, attrs map[string]string, req engine.Request) {
	t.Helper()
	got, err := buildctl(t, dir, frontend, attrs)
	if err != nil {
		t.Fatal(err)
	}
	req.Context = dir
	req.Outputs = []engine.Output{{Type: engine.OutputOCI, Writer: nopWriter{io.Discard}, Attrs: map[string]string{"rewrite-timestamp": "true"}}}
	args := map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}
	maps.Copy(args, req.BuildArgs)
	req.BuildArgs = args
	if want := build(t, openEngine(t), req).Digest.String(); got != want {
		t.Errorf("the frontend gives %s, the engine %s", got, want)
	}
}

// TestFrontendImage builds ZImagefiles on a BuildKit that has never heard of them.
func TestFrontendImage(t *testing.T) {
	t.Parallel()
	ref := zlayerFrontend(t)
	cases, err := filepath.Glob("testdata/zimage/*/ZImagefile")
	if err != nil || len(cases) < 40 {
		t.Fatalf("found %d cases: %v", len(cases), err)
	}
	for i, file := range cases {
		if i%4 > 0 { // that all of them are right is what TestZImagefiles is about
			continue
		}
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			sameAsEngine(t, filepath.Dir(file), "gateway.v0", map[string]string{"source": ref}, engine.Request{})
		})
	}
}

// TestFrontendSyntaxLine has what docker build does: the daemon's Dockerfile frontend is given a
// ZImagefile, whose first line sends it on.
func TestFrontendSyntaxLine(t *testing.T) {
	t.Parallel()
	ref := zlayerFrontend(t)
	dir := files{
		"ZImagefile":                "# syntax=" + ref + "\nargs: {WHO: world}\nstages:\n  lib:\n    build: ./lib\n  app:\n    build: {context: mid, args: {GREETING: hi}}\n    args: {WHO: \"\"}\n    steps:\n      - {copy: /lib, from: lib, to: /lib}\n      - {copy: own, to: /own}\n      - run: echo $WHO > /who\nlabels: {a: b}\n",
		"own":                       "own\n",
		"lib/Dockerfile":            "FROM scratch\nCOPY . /lib/\n",
		"lib/.dockerignore":         "secret*\n!secret-not\nDockerfile\n.dockerignore\n",
		"lib/a":                     "a\n",
		"lib/secret":                "x\n",
		"lib/secret-not":            "y\n",
		"lib/deep/[odd] name/c":     "c\n",
		"mid/ZImagefile.it":         "args: {GREETING: none}\nstages:\n  it:\n    build: base\n    args: {GREETING: \"\"}\n    steps:\n      - run: echo $GREETING > /greeting\n      - {copy: [\"*.txt\"], to: /texts/}\n",
		"mid/one.txt":               "1\n",
		"mid/two.txt":               "2\n",
		"mid/base/ZImagefile":       "base: busybox\nsteps:\n  - {copy: run.sh, to: /run.sh, chmod: \"755\"}\n  - run: /run.sh > /ran\n",
		"mid/base/run.sh":           "#!/bin/sh\necho ran\n",
		"mid/base/.dockerignore":    "nothing\n",
		"syntax-args/ZImagefile":    "# syntax=" + ref + "\nbuild: ../lib\n",
		"runtime/ZImagefile":        "# syntax=" + ref + "\nruntime: nosuch\n",
		"circle/ZImagefile":         "# syntax=" + ref + "\nbuild: a\n",
		"circle/a/ZImagefile":       "build: ../b\n",
		"circle/b/ZImagefile":       "build: ../a\n",
		"none/ZImagefile":           "# syntax=" + ref + "\nbuild: a\n",
		"invalid/ZImagefile":        "# syntax=" + ref + "\nbase: busybox\nsteps:\n  - {run: \"true\", too: x}\n",
		"failing/ZImagefile":        "# syntax=" + ref + "\nbuild: a\n",
		"failing/a/ZImagefile":      "base: busybox\nsteps:\n  - run: exit 7\n",
		"oddname/ZImagefile":        "# syntax=" + ref + "\nbuild: \"a [b]*\"\n",
		"oddname/a [b]*/Dockerfile": "FROM scratch\nCOPY x /\n",
		"oddname/a [b]*/x":          "x\n",
	}.dir(t)
	sameAsEngine(t, dir, "dockerfile.v0", nil, engine.Request{})
	sameAsEngine(t, dir, "dockerfile.v0", map[string]string{"build-arg:WHO": "you", "target": "lib"}, engine.Request{BuildArgs: map[string]string{"WHO": "you"}, Target: "lib"})
	sameAsEngine(t, dir+"/oddname", "dockerfile.v0", nil, engine.Request{})
	for sub, want := range map[string]string{
		"syntax-args": "ZImagefile:2:8: build context ../lib is outside of the build context",
		"runtime":     "ZImagefile:2:10: ",
		"circle":      "a/ZImagefile:1:8 -> b/ZImagefile:1:8, and back to",
		"none":        "ZImagefile:2:8: no ZImagefile, Dockerfile or Containerfile in ./a of the build context",
		"invalid":     "ZImagefile:4:19: ",
		"failing":     "exit code: 7",
	} {
		_, err := buildctl(t, dir+"/"+sub, "dockerfile.v0", nil)
		if err == nil {
			t.Errorf("%s was built", sub)
			continue
		}
		mustSay(t, err, want)
		srcs := errdefs.Sources(err)
		if len(srcs) == 0 || !strings.Contains(string(srcs[len(srcs)-1].Info.Data), ":") {
			t.Errorf("%s: the error has no excerpt: %v", sub, srcs)
		}
	}
}
