package engine

import (
	"context"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver"
)

// solveOften solves the job, and again when that may help: after steps that could not
// be tried again while others went on, or after an export that failed in passing. What
// was built is in the daemon's cache by then.
func (j *job) solveOften(ctx context.Context) (*Result, error) {
	if j.req.Retries > 0 {
		j.retry = &solver.Retry{Times: j.req.Retries}
		j.ends = &stageEnds{ended: map[digest.Digest]solver.EventKind{}, started: map[digest.Digest]bool{}}
	}
	for try := 1; ; try++ {
		var res *Result
		err := j.engine.withClient(ctx, func(c *client.Client, touched func()) error {
			if j.once {
				touched()
			}
			var err error
			res, err = j.solve(ctx, c, touched)
			return err
		})
		if j.retry == nil {
			return res, err
		}
		info, again := j.again(try, err)
		if !again || j.announce(ctx, info) != nil {
			j.ends.flush(j.req.Events)
			if res != nil && try > 1 {
				res.Stages = j.ends.counts()
			}
			return res, err
		}
		j.ends.held = nil
	}
}

// again says whether solving the job once more may mend an error.
func (j *job) again(try int, err error) (*solver.RetryInfo, bool) {
	if err == nil || j.once || try > j.req.Retries {
		return nil, false
	}
	if len(solver.Causes(err)) > 0 {
		return j.retry.Again(err)
	}
	return &solver.RetryInfo{Try: try, Of: j.req.Retries, Wait: j.retry.Backoff.Wait(try), Err: err}, solver.Transient(err)
}

// announce says that something is tried again, and waits until that is due.
func (j *job) announce(ctx context.Context, info *solver.RetryInfo) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if j.req.Events != nil {
		shown := *info
		shown.Err = &trimmedError{err: info.Err}
		j.req.Events(solver.Event{Kind: solver.Retrying, Time: time.Now(), Build: j.name, Retry: &shown})
	}
	var b solver.Backoff
	return b.Pause(ctx, info.Wait)
}

// often calls f again, as often as the request allows, while its failures may pass.
func (j *job) often(ctx context.Context, f func() error) error {
	var b solver.Backoff
	for try := 1; ; try++ {
		err := f()
		if try > j.req.Retries || !solver.Transient(err) {
			return err
		}
		if j.announce(ctx, &solver.RetryInfo{Try: try, Of: j.req.Retries, Wait: b.Wait(try), Err: err}) != nil {
			return err
		}
	}
}

// stageEnds tells how each stage ends, once, over several solves.
type stageEnds struct {
	started map[digest.Digest]bool
	ended   map[digest.Digest]solver.EventKind
	// held are failures of the present solve: the next one may do better.
	held []solver.Event
}

// pass reports whether an event is to be told now.
func (s *stageEnds) pass(ev solver.Event) bool {
	if ev.Stage == nil {
		return true
	}
	id := ev.Stage.ID
	switch ev.Kind {
	case solver.StageStarted:
		was := s.started[id]
		s.started[id] = true
		return !was
	case solver.StageDone, solver.StageCached:
		was := s.ended[id]
		if was == "" {
			s.ended[id] = ev.Kind
		}
		return was == ""
	case solver.StageFailed, solver.StageSkipped:
		if s.ended[id] == "" {
			s.held = append(s.held, ev)
		}
		return false
	default:
		return true
	}
}

// flush tells the failures that remain.
func (s *stageEnds) flush(sink solver.Sink) {
	for _, ev := range s.held {
		s.ended[ev.Stage.ID] = ev.Kind
		if sink != nil {
			sink(ev)
		}
	}
	s.held = nil
}

func (s *stageEnds) counts() StageCounts {
	var c StageCounts
	for _, k := range s.ended {
		switch k {
		case solver.StageDone:
			c.Done++
		case solver.StageCached:
			c.Cached++
		case solver.StageFailed:
			c.Failed++
		default:
			c.Skipped++
		}
	}
	return c
}
