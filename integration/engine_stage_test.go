package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/identity"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// TestEngineWideGraph builds a tree of sixty stages below one.
func TestEngineWideGraph(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	const n = 60
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "FROM scratch AS s%d\nCOPY <<f /f%d\n%d\nf\n", i, i, i)
		if i > 2 {
			fmt.Fprintf(&b, "COPY --from=s%d /f%d /below%d\n", i/3, i/3, i)
		}
	}
	b.WriteString("FROM scratch\n")
	for i := range n {
		fmt.Fprintf(&b, "COPY --from=s%d / /%d/\n", i, i)
	}
	dir := files{"Dockerfile": b.String()}.dir(t)
	for _, jobs := range []int{0, 8} {
		var out buffer
		var rec recorder
		res := build(t, e, engine.Request{Context: dir, Jobs: jobs, Events: rec.sink, Outputs: []engine.Output{{Type: engine.OutputTar, Writer: &out}}})
		got := readFiles(t, &out)
		for i := range n {
			if got[fmt.Sprintf("%d/f%d", i, i)] != fmt.Sprint(i)+"\n" {
				t.Errorf("jobs %d: stage %d is missing", jobs, i)
			}
		}
		if len(res.Graph.Stages()) != n+1 || len(rec.ends()) != n+1 || res.Stages.Done+res.Stages.Cached != n+1 {
			t.Errorf("jobs %d: %d stages, %d ends, %+v", jobs, len(res.Graph.Stages()), len(rec.ends()), res.Stages)
		}
	}
}

// failures is a graph with two failures that do not hang on each other, one stage that takes its
// time, and others that wait for a failed one.
const failures = `FROM busybox AS one
RUN exit 3
FROM busybox AS two
RUN exit 4
FROM busybox AS slow
RUN sleep 1; echo kept %[1]s
FROM one AS after
RUN true
FROM busybox
COPY --from=after / /after
COPY --from=two / /two
COPY --from=slow / /slow
`

func TestEngineKeepsGoing(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, jobs := range []int{0, 1, 4} {
		dir := files{"Dockerfile": fmt.Sprintf(failures, identity.NewID())}.dir(t)
		var rec recorder
		res, err := e.Build(t.Context(), engine.Request{Context: dir, Jobs: jobs, Events: rec.sink, Outputs: cacheOnly})
		if err == nil {
			t.Fatal("built")
		}
		checkText(t, err)
		file := dir + "/Dockerfile"
		want := file + `:2: process "/bin/sh -c exit 3" did not complete successfully: exit code: 3` + "\n\n" +
			file + `:4: process "/bin/sh -c exit 4" did not complete successfully: exit code: 4`
		if err.Error() != want {
			t.Errorf("jobs %d: got %q, want %q", jobs, err, want)
		}
		same(t, fmt.Sprint("jobs ", jobs), rec.ends(), map[string]solver.EventKind{
			"one": solver.StageFailed, "two": solver.StageFailed, "slow": solver.StageDone, "after": solver.StageSkipped, "stage-4": solver.StageSkipped,
		})
		if want := (engine.StageCounts{Done: 1, Failed: 2, Skipped: 2}); res.Stages != want {
			t.Errorf("jobs %d: got %+v, want %+v", jobs, res.Stages, want)
		}
		if n := strings.Count(rec.output(), "kept"); n != 1 {
			t.Errorf("jobs %d: the slow step ran %d times", jobs, n)
		}
	}
}

func TestEngineFailFast(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": "FROM busybox AS bad\nRUN sleep 0.2; exit 3\nFROM busybox AS slow\nRUN sleep 300\nFROM busybox\nCOPY --from=bad / /1\nCOPY --from=slow / /2\n"}.dir(t)
	for _, jobs := range []int{0, 4} {
		begin := time.Now()
		err := buildFails(t, e, engine.Request{Context: dir, FailFast: true, Jobs: jobs})
		mustSay(t, err, dir+"/Dockerfile:2: ")
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("jobs %d: took %v", jobs, took)
		}
	}
}

// TestEngineOneJob has the steps say when they begin and end.
func TestEngineOneJob(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	id := identity.NewID()
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, "FROM busybox AS s%d\nRUN echo begin; sleep 0.1; echo end %s\n", i, id+fmt.Sprint(i))
	}
	b.WriteString("FROM scratch\n")
	for i := range 4 {
		fmt.Fprintf(&b, "COPY --from=s%d /bin/sh /%d\n", i, i)
	}
	dir := files{"Dockerfile": b.String()}.dir(t)
	var rec recorder
	build(t, e, engine.Request{Context: dir, Jobs: 1, Outputs: cacheOnly, Events: rec.sink})
	running := 0
	for _, line := range strings.Split(strings.TrimSpace(rec.output()), "\n") {
		if line == "begin" {
			running++
		} else {
			running--
		}
		if running < 0 || running > 1 {
			t.Fatalf("steps ran side by side: %q", rec.output())
		}
	}
	if n := strings.Count(rec.output(), "begin"); n != 4 {
		t.Errorf("%d steps ran, want 4", n)
	}
}

// draw has a stage that is different each time it runs, and stages that read it in every way.
const draw = `FROM busybox AS draw
RUN cat /proc/sys/kernel/random/uuid > /id; echo ran once %s
FROM draw AS left
RUN cp /id /left
FROM busybox AS right
COPY --from=draw /id /right
FROM busybox AS mounted
RUN --mount=from=draw,target=/draw cp /draw/id /mounted
FROM scratch
COPY --from=left /left /
COPY --from=right /right /
COPY --from=mounted /mounted /
COPY --from=draw /id /
`

// TestEngineNoCacheRunsOnce has all who read a stage see the same run of it, the exporters too.
func TestEngineNoCacheRunsOnce(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, c := range []struct {
		jobs int
		req  engine.Request
	}{
		{0, engine.Request{NoCache: true}},
		{2, engine.Request{NoCache: true}},
		{0, engine.Request{NoCacheFilter: []string{"draw"}}},
	} {
		dir := files{"Dockerfile": fmt.Sprintf(draw, identity.NewID())}.dir(t)
		what := fmt.Sprintf("no-cache %v, jobs %d", c.req.NoCache, c.jobs)
		last := ""
		for i := range 2 {
			var out buffer
			var rec recorder
			req := c.req
			req.Context, req.Jobs, req.Events = dir, c.jobs, rec.sink
			req.Outputs = []engine.Output{{Type: engine.OutputStore}, {Type: engine.OutputTar, Writer: &out}}
			build(t, e, req)
			got := readFiles(t, &out)
			id := got["id"]
			if n := strings.Count(rec.output(), "ran once"); n != 1 {
				t.Errorf("%s: the step ran %d times in build %d", what, n, i)
			}
			if id == last {
				t.Errorf("%s: build %d used the cache", what, i)
			}
			last = id
			if i > 0 && !req.NoCache {
				// BuildKit takes the other stages from the cache, because their instructions are the
				// same, whatever the stage that they read has become.
				continue
			}
			same(t, what+": what the stages saw", got, files{"id": id, "left": id, "right": id, "mounted": id})
		}
	}
}

// TestEngineCancelLeavesNothing stops a build in the middle of steps that would take very long.
func TestEngineCancelLeavesNothing(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, jobs := range []int{0, 2} {
		span := fmt.Sprint(1_000_000_000 + time.Now().UnixNano()%1_000_000_000)
		dir := files{"Dockerfile": "FROM busybox AS a\nRUN echo ready; sleep " + span + "\nFROM busybox AS b\nRUN trap '' TERM INT; sleep " + span + "\nFROM a\nCOPY --from=b / /\n"}.dir(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stopped by the test")
		ran, built := make(chan struct{}), make(chan struct{})
		go func() {
			// The step says when it runs, but may just then be between two programs.
			select {
			case <-ran:
			case <-built:
			}
			for ctx.Err() == nil {
				if len(processesWith(t, span)) > 0 {
					cancel(stop)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		var once sync.Once
		_, err := e.Build(ctx, engine.Request{Context: dir, Jobs: jobs, Outputs: cacheOnly, Events: func(ev solver.Event) {
			if ev.Kind == solver.Output {
				once.Do(func() { close(ran) })
			}
		}})
		close(built)
		cancel(nil)
		if !errors.Is(err, stop) {
			t.Errorf("jobs %d: got %v, want %v", jobs, err, stop)
		}
		deadline := time.Now().Add(20 * time.Second)
		for len(processesWith(t, span)) > 0 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if left := processesWith(t, span); len(left) > 0 {
			t.Errorf("jobs %d: still running: %v", jobs, left)
		}
	}
}

// processesWith lists the processes whose command line holds the text.
func processesWith(t testing.TB, text string) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(data), text) {
			found = append(found, name+" "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}
