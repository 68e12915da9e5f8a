package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/solver"
)

func TestNestedContext(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/Dockerfile":    "FROM scratch AS tools\nCOPY bb /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\nFROM tools\nRUN echo from base > /base\nENV BASE=yes\nWORKDIR /work\n",
		"base/README":        "not read",
		"app/Dockerfile":     "FROM example/base AS one\nRUN echo $BASE > one\nFROM example/base\nCOPY --from=one /work/one /one\nCOPY --from=files README /README\nCOPY --from=example/base /base /copied\nRUN cat /base /one > all\n",
		"other/ctx/whatever": "",
	})
	if err := os.Rename(filepath.Join(dir, "busybox"), filepath.Join(dir, "base/bb")); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var ran int
	res, err := e.Build(context.Background(), Request{
		Context:       filepath.Join(dir, "app"),
		BuildContexts: map[string]string{"example/base": filepath.Join(dir, "base"), "files": filepath.Join(dir, "base")},
		Allow:         []string{"fs.read=" + dir},
		Outputs:       []Output{{Type: OutputLocal, Dest: out}},
		Events: func(ev solver.Event) {
			if ev.Kind == solver.StepDone && strings.Contains(ev.Step.Name, "RUN") {
				ran++
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"work/all": "from base\nyes\n", "README": "not read", "copied": "from base\n"} {
		if got, _ := os.ReadFile(filepath.Join(out, name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if n := len(res.Graph.Stages()); n != 4 {
		t.Errorf("got %d stages, want 4", n)
	}
	if ran != 4 {
		t.Errorf("%d RUN steps ran, want 4", ran)
	}
}

func TestNestedMistakes(t *testing.T) {
	dir := project(t, map[string]string{
		"base/Dockerfile": "FROM scratch\nNONSENSE\n",
		"app/Dockerfile":  "FROM base\n",
	})
	t.Chdir(dir)
	e := realEngine(t)
	_, err := e.Build(context.Background(), Request{Context: "app", BuildContexts: map[string]string{"base": "base"}})
	if want := "base/Dockerfile:2: unknown instruction: NONSENSE"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
