package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

func TestMain(m *testing.M) {
	if ReexecDaemon() {
		return
	}
	os.Exit(m.Run())
}

// realEngine returns an engine on an embedded daemon of its own.
func realEngine(t testing.TB) *Engine {
	t.Helper()
	NeedDaemon(t)
	e, err := Open(context.Background(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir(), NoDaemon: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// NeedDaemon skips tests on machines that cannot build; CI must be able to.
func NeedDaemon(t testing.TB) {
	t.Helper()
	_, err := exec.LookPath("runc")
	if os.Getuid() == 0 && err == nil && isFile("/bin/busybox") {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, runc and busybox-static: run scripts/install-deps")
	}
	t.Skip("needs root, runc and busybox-static: run scripts/install-deps as root")
}

// project writes files into a fresh directory; busybox is added as a file.
func project(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if isFile("/bin/busybox") {
		bb, err := os.ReadFile("/bin/busybox")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "busybox"), bb, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const base = `FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
`

func TestBuildIntoStore(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"Dockerfile": base + `FROM base AS left
RUN echo left > /left
FROM base AS right
RUN echo right > /right
FROM base
COPY --from=left /left /
COPY --from=right /right /
CMD ["cat", "/left"]
`})
	var kinds []string
	req := Request{Context: dir, Tags: []string{"app"}, Events: func(ev solver.Event) {
		if ev.Stage != nil && ev.Step == nil {
			kinds = append(kinds, ev.Stage.Name+" "+string(ev.Kind))
		}
	}}
	first, err := e.Build(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest == "" || len(first.Graph.Stages()) != 4 || first.Stages.Done != 4 {
		t.Errorf("got %+v", first)
	}
	for _, want := range []string{"left stage-done", "right stage-done", "base stage-done", "stage-3 stage-done"} {
		if !strings.Contains(strings.Join(kinds, "\n"), want) {
			t.Errorf("no event %q in %v", want, kinds)
		}
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	desc, err := s.Resolve(context.Background(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != first.Digest {
		t.Errorf("the store has %s, the build gave %s", desc.Digest, first.Digest)
	}
	second, err := e.Build(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if second.Digest != first.Digest || second.Stages.Cached != 4 {
		t.Errorf("the second build gave %s with %+v", second.Digest, second.Stages)
	}
}

func TestAllCausesAreReported(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"Dockerfile": base + `FROM base AS one
RUN echo to one; exit 3
FROM base AS two
RUN sleep 0.3; exit 4
FROM one AS three
RUN true
FROM base
COPY --from=three /bin /3
COPY --from=two /bin /2
`})
	for name, jobs := range map[string]int{"demand": 0, "staged": 2} {
		t.Run(name, func(t *testing.T) {
			res, err := e.Build(context.Background(), Request{Context: dir, Jobs: jobs})
			causes := solver.Causes(err)
			if len(causes) != 2 {
				t.Fatalf("got %d causes, want 2: %v", len(causes), err)
			}
			for i, want := range []struct {
				stage string
				line  int
				code  int
			}{{"one", 5, 3}, {"two", 7, 4}} {
				c := causes[i]
				if c.Stage.Name != want.stage || c.Pos.Line != want.line || c.ExitCode != want.code {
					t.Errorf("got %s at %s with %d, want %+v", c.Stage.Name, c.Pos, c.ExitCode, want)
				}
				if c.Pos.File != filepath.Join(dir, "Dockerfile") {
					t.Errorf("the position names %s", c.Pos.File)
				}
			}
			if res == nil || res.Stages.Failed != 2 || res.Stages.Skipped != 2 {
				t.Errorf("got %+v", res)
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY hello /hello\n", "hello": "hi"})
	out := t.TempDir()
	res, err := e.Build(context.Background(), Request{Context: dir, Tags: []string{"hello:1"}, Outputs: []Output{
		{Type: OutputStore},
		{Type: OutputOCI, Dest: filepath.Join(out, "oci.tar")},
		{Type: OutputDocker, Dest: filepath.Join(out, "docker.tar")},
		{Type: OutputTar, Dest: filepath.Join(out, "files.tar")},
		{Type: OutputLocal, Dest: filepath.Join(out, "files")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Digest == "" {
		t.Error("no digest")
	}
	for _, f := range []string{"oci.tar", "docker.tar", "files.tar", "files/hello"} {
		if fi, err := os.Stat(filepath.Join(out, f)); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(out, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestFailedBuildLeavesOutputsAlone(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": base + "RUN exit 1\n"})
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Build(context.Background(), Request{Context: dir, Outputs: []Output{{Type: OutputOCI, Dest: out}}}); err == nil {
		t.Fatal("built")
	}
	if got, _ := os.ReadFile(out); string(got) != "before" {
		t.Errorf("the output was overwritten: %q", got)
	}
}

func TestMistakesInTheBuildFile(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"sub/My.Dockerfile": "FROM scratch\nCOPPY a b\n"})
	file := filepath.Join(dir, "sub/My.Dockerfile")
	_, err := e.Build(context.Background(), Request{Context: dir, File: file})
	var pe *graph.PosError
	if !errors.As(err, &pe) {
		t.Fatalf("got %v", err)
	}
	if want := file + ":2: unknown instruction: COPPY (did you mean COPY?)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestCancel(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": base + "RUN echo started; sleep 600\n"})
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	_, err := e.Build(ctx, Request{Context: dir, Events: func(ev solver.Event) {
		if ev.Kind == solver.Output {
			cancel(stop)
		}
	}})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestCalls(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": "ARG A=1\nFROM scratch as x\nARG B\nCOPY Dockerfile /\n"})
	for call, want := range map[Call]string{
		CallCheck:    "FromAsCasing",
		CallOutline:  `"B"`,
		CallTargets:  `"x"`,
		CallDescribe: "frontend.outline",
	} {
		res, err := e.Call(context.Background(), Request{Context: dir}, call)
		if err != nil {
			t.Errorf("%s: %v", call, err)
			continue
		}
		if !strings.Contains(string(res.JSON), want) {
			t.Errorf("%s: no %s in %s", call, want, res.JSON)
		}
	}
}

func TestPlan(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{"Dockerfile": base + "FROM base\nRUN exit 1\n"})
	g, err := e.Plan(context.Background(), Request{Context: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Stages()) != 2 {
		t.Errorf("got %d stages", len(g.Stages()))
	}
}
