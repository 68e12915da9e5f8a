package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// busyboxZImage is a ZImagefile for a base with a shell; busybox lies beside it.
const busyboxZImage = `base: scratch
steps:
  - copy: busybox
    to: /bin/busybox
  - run: ["/bin/busybox", "--install", "/bin"]
`

func TestZImagefileNests(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"base/ZImagefile":   busyboxZImage + "env: {GREETING: 3000}\n",
		"lib/Dockerfile":    "FROM scratch\nCOPY text /text\n",
		"lib/text":          "from the library\n",
		"app/ZImagefile":    "stages:\n  one:\n    build: ../base\n    steps:\n      - run: echo one $GREETING > /one\n  two:\n    build: ../base\n    steps:\n      - run: echo two > /two\n  lib:\n    build: ../lib\n  app:\n    build: ../base\n    steps:\n      - {copy: /one, from: one, to: /one}\n      - {copy: /two, from: two, to: /two}\n      - {copy: /text, from: lib, to: /text}\n",
		"loop/a/ZImagefile": "build: ../b\n",
		"loop/b/ZImagefile": "build: ../a\n",
		"self/ZImagefile":   "build: .\n",
		"missing/ZImagefile": "base: scratch\n" +
			"steps: []\n",
		"gone/ZImagefile":    "build: ../nosuch\n",
		"outside/ZImagefile": "build: ../../../../../../etc\n",
		"fails/ZImagefile":   "build: ../base\nsteps:\n  - run: echo fine\n  - run: exit 7\n",
		".git/HEAD":          "ref: refs/heads/main\n",
	})
	if err := os.Rename(filepath.Join(dir, "busybox"), filepath.Join(dir, "base/busybox")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	out := t.TempDir()
	ran := map[string]int{}
	_, err := e.Build(context.Background(), Request{
		Context: "app",
		Outputs: []Output{{Type: OutputLocal, Dest: out}},
		Events: func(ev solver.Event) {
			if ev.Kind == solver.StepDone && strings.Contains(ev.Step.Name, "RUN") {
				ran[ev.Step.Name]++
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "one 3000\n", "two": "two\n", "text": "from the library\n"} {
		if got, _ := os.ReadFile(filepath.Join(out, name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(ran) != 3 {
		t.Errorf("ran %v, want three steps: the base is built once", ran)
	}
	for dir, want := range map[string]string{
		"loop/a":  "loop/b/ZImagefile:1:8: builds nest each other in a circle: loop/a/ZImagefile:1:8 -> loop/b/ZImagefile:1:8, and back to loop/a/ZImagefile",
		"self":    "self/ZImagefile:1:8: builds nest each other in a circle: self/ZImagefile:1:8, and back to self/ZImagefile",
		"gone":    "gone/ZImagefile:1:8: build context ../nosuch does not exist: it is relative to the build context, gone",
		"outside": "outside/ZImagefile:1:8: /etc",
		"fails":   "fails/ZImagefile:4:5: process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7",
	} {
		var failed *solver.StageError
		_, err := e.Build(context.Background(), Request{Context: dir, Events: func(ev solver.Event) {
			if ev.Kind == solver.StageFailed {
				errors.As(ev.Err, &failed)
			}
		}})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", dir, err, want)
		}
		if dir != "fails" {
			continue
		}
		// The step is to be found in the ZImagefile by error, excerpt and event.
		var se *solver.StageError
		if !errors.As(err, &se) || string(se.Source) != "build: ../base\nsteps:\n  - run: echo fine\n  - run: exit 7\n" {
			t.Errorf("%v has no excerpt of the ZImagefile", err)
		}
		if want := (graph.Pos{File: "fails/ZImagefile", Line: 4, Column: 5}); failed == nil || failed.Pos != want || len(failed.Source) == 0 {
			t.Errorf("the event tells of %v, want an excerpt at %v", failed, want)
		}
	}
}
