package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// TestEngineProgram builds a stage of the Go API from an image and a repository; the
// Dockerfile that says the same has nothing left to do.
func TestEngineProgram(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	url, commit := serveGit(t, files{"sub/b": "2", "a": "1"}.dir(t))
	repo := dag.Git(dag.Repo{URL: url, Ref: commit, Subdir: "sub"})
	step := "cat /m/b b > c # " + t.Name()
	stage := dag.New(dag.Spec{From: dag.Image("busybox"), Steps: []dag.Step{
		dag.Workdir("/w"),
		dag.Copy(dag.Files{From: repo, Src: []string{"b"}, Dest: "."}),
		dag.Run(dag.Command{Shell: step, Mounts: []dag.Mount{{From: repo, Target: "/m"}}}),
	}})
	only := dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{dag.Copy(dag.Files{From: stage, Src: []string{"/w/"}, Dest: "/"})}})
	same(t, "program", buildFiles(t, e, engine.Request{Stage: only}), files{"b": "2", "c": "22"})

	_, err := e.Build(context.Background(), engine.Request{Stage: dag.New(dag.Spec{From: stage, Steps: []dag.Step{dag.Shell("exit 7")}})})
	causes := solver.Causes(err)
	if len(causes) != 1 || !strings.HasSuffix(causes[0].Pos.File, "engine_program_test.go") {
		t.Fatalf("a step that fails gives %v", err)
	}
	if lines := strings.Split(string(causes[0].Source), "\n"); len(lines) < causes[0].Pos.Line || !strings.Contains(lines[causes[0].Pos.Line-1], `"exit 7"`) {
		t.Errorf("line %d of the excerpt's text is not that of the step", causes[0].Pos.Line)
	}

	tag := []string{"example.com/program"}
	platforms := []string{"linux/amd64", "linux/arm64"}
	plain := dag.New(dag.Spec{From: dag.Image("busybox"), Steps: []dag.Step{dag.Copy(dag.Files{From: repo, Src: []string{"b"}, Dest: "/b"})}})
	res, err := e.Build(context.Background(), engine.Request{Stage: plain, Tags: tag, Platforms: platforms})
	if err != nil {
		t.Fatal(err)
	}
	dir := files{"Dockerfile": "FROM busybox\nCOPY --from=repo b /b\n"}.dir(t)
	again, err := e.Build(context.Background(), engine.Request{Context: dir, BuildContexts: map[string]string{"repo": url + "#" + commit + ":sub"}, Tags: tag, Platforms: platforms})
	if err != nil {
		t.Fatal(err)
	}
	if again.Changed || again.Digest != res.Digest {
		t.Errorf("from the Dockerfile: changed=%v, digest %s after %s", again.Changed, again.Digest, res.Digest)
	}
}
