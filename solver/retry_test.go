package solver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/solvertest"
)

// forgetful fails each step that is named as often as it says, in the way of BuildKit:
// under one digest a step that has failed goes on to fail.
type forgetful struct {
	mu     sync.Mutex
	fails  map[digest.Digest]int // by the digest in the test's graph
	names  map[string]digest.Digest
	failed map[digest.Digest]error
	calls  int
	err    func() error
}

func (f *forgetful) Execute(_ context.Context, s *graph.Stage) (gwclient.Reference, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	g, err := graph.New(s)
	if err != nil {
		return nil, err
	}
	for _, st := range g.Stages() {
		for _, step := range st.Steps {
			if err := f.failed[step.Digest]; err != nil {
				return nil, err
			}
			was := f.names[step.Name]
			if f.fails[was] == 0 {
				continue
			}
			f.fails[was]--
			err := fmt.Errorf("step: %w", errdefs.WrapVertex(f.err(), step.Digest))
			f.failed[step.Digest] = err
			return nil, err
		}
	}
	return nil, nil
}

func exitCode(n uint32) func() error {
	return func() error { return &gatewayapi.ExitError{ExitCode: n, Err: errors.New("process did not complete")} }
}

// retried solves base <- app with a flaky step in base, and gives the events.
func retried(t *testing.T, f *forgetful, fails, times, jobs int) ([]solver.Event, error) {
	t.Helper()
	base := solvertest.Stage(t, "base", 2)
	app := solvertest.Stage(t, "app", 1, base)
	g := solvertest.Graph(t, app)
	f.fails, f.failed, f.names = map[digest.Digest]int{}, map[digest.Digest]error{}, map[string]digest.Digest{}
	for _, s := range g.Stages() {
		for _, step := range s.Steps {
			f.names[step.Name] = step.Digest
		}
	}
	f.fails[base.Steps[1].Digest] = fails
	var mu sync.Mutex
	var events []solver.Event
	tr := &solver.Tracker{Events: func(e solver.Event) { mu.Lock(); defer mu.Unlock(); events = append(events, e) }}
	s := solver.Solver{Jobs: jobs, Tracker: tr, Exec: &solver.Retry{
		Exec: f, Times: times, Tracker: tr,
		Backoff: solver.Backoff{Random: func() float64 { return 0 }, Sleep: func(context.Context, time.Duration) error { return nil }},
	}}
	_, err := s.Solve(t.Context(), g)
	tr.Close()
	for _, e := range events {
		if e.Kind == solver.Retrying && (e.Step == nil || e.Step.Digest != base.Steps[1].Digest || e.Stage != base) {
			t.Errorf("the try is not that of the step: %+v", e)
		}
	}
	return events, err
}

func tries(events []solver.Event) string {
	var out []string
	for _, e := range events {
		if e.Kind == solver.Retrying {
			out = append(out, fmt.Sprintf("%d/%d %v", e.Retry.Try, e.Retry.Of, e.Retry.Wait))
		}
	}
	return strings.Join(out, ", ")
}

func TestRetry(t *testing.T) {
	for _, jobs := range []int{0, 2} {
		events, err := retried(t, &forgetful{err: exitCode(1)}, 2, 2, jobs)
		if got, want := tries(events), "1/2 500ms, 2/2 1s"; err != nil || got != want {
			t.Errorf("jobs %d: got %s, %v, want %s", jobs, got, err, want)
		}
		for _, e := range events {
			if e.Kind == solver.StageFailed || e.Kind == solver.StageSkipped {
				t.Errorf("jobs %d: a stage has ended as %s", jobs, e.Kind)
			}
		}
	}
}

func TestRetryGivesUp(t *testing.T) {
	f := &forgetful{err: exitCode(1)}
	events, err := retried(t, f, 9, 2, 1)
	causes := solver.Causes(err)
	if len(causes) != 1 || causes[0].Stage.Name != "base" || causes[0].Step == nil || causes[0].ExitCode != 1 {
		t.Errorf("want one failure of a step of base, got %v", err)
	}
	if f.calls != 3 || tries(events) != "1/2 500ms, 2/2 1s" {
		t.Errorf("%d calls, %s", f.calls, tries(events))
	}
}

func TestRetryWhatCannotBeMended(t *testing.T) {
	for _, e := range []func() error{
		exitCode(127), exitCode(126),
		func() error { return errors.New(`"/missing": not found`) },
		func() error { return errors.New("pulling: 403 Forbidden") },
		func() error { return context.Canceled },
	} {
		f := &forgetful{err: e}
		events, err := retried(t, f, 1, 3, 1)
		if err == nil || f.calls != 1 || tries(events) != "" {
			t.Errorf("%v: %d calls, %s", e(), f.calls, tries(events))
		}
	}
}

func TestTransient(t *testing.T) {
	for text, want := range map[string]bool{
		"read tcp 1.2.3.4:80: connection reset by peer":                                         true,
		"failed to copy: unexpected EOF":                                                        true,
		"unexpected status from HEAD request to http://r/v2/: 503 Service Unavailable":          true,
		"PUT http://r/v2/: unexpected status code 502 Bad Gateway":                              true,
		"429 Too Many Requests - toomanyrequests: You have reached your pull rate limit":        true,
		"net/http: TLS handshake timeout":                                                       true,
		"dial tcp 10.0.0.1:443: i/o timeout":                                                    true,
		"pull access denied, repository does not exist or may require authorization: 401":       false,
		"unexpected status from PUT request: 403 Forbidden":                                     false,
		"docker.io/library/x:1: not found":                                                      false,
		"dockerfile parse error on line 500: unknown instruction":                               false,
		`process "/bin/sh -c sleep 504" did not complete successfully: exit code: 1`:            false,
		"failed to calculate checksum: \"/src\": not found":                                     false,
		"unexpected status from HEAD request: 404 Not Found while a connection reset by peer":   false,
		"server message: insufficient_scope: authorization failed: denied: connection refused?": false,
	} {
		if got := solver.Transient(errors.New(text)); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := solver.Backoff{First: time.Second, Max: 10 * time.Second}
	b.Random = func() float64 { return 0.999999 }
	var most []time.Duration
	for i := 1; i < 7; i++ {
		most = append(most, b.Wait(i).Round(time.Second))
	}
	b.Random = func() float64 { return 0 }
	if least := b.Wait(2); least != time.Second || !slices.Equal(most, []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9}) {
		t.Errorf("got %v, at least %v", most, least)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if err := (solver.Backoff{}).Pause(ctx, time.Hour); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
