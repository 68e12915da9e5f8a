package engine

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// recall takes what it can from the memo and gives the builds that are left. What has
// to wait for others waits with this, too, unless those are there.
func (b *batch) recall(ctx context.Context, cancel context.CancelCauseFunc) []*member {
	var eg errgroup.Group
	eg.SetLimit(2 * runtime.GOMAXPROCS(0))
	var late []*member
	for _, i := range b.images {
		if len(i.after) > 0 {
			late = append(late, i)
			continue
		}
		eg.Go(func() error {
			b.recallImage(ctx, cancel, i)
			return nil
		})
	}
	_ = eg.Wait()
	slices.SortStableFunc(late, func(x, y *member) int { return x.level - y.level })
	for _, i := range late {
		if !slices.ContainsFunc(i.after, func(d *member) bool { return !d.there() }) {
			b.recallImage(ctx, cancel, i)
		}
	}
	var pending []*member
	for _, i := range b.images {
		if i.State == "" {
			pending = append(pending, i)
		} else {
			close(i.done)
		}
	}
	slices.SortStableFunc(pending, func(x, y *member) int { return x.level - y.level })
	return pending
}

// there reports whether the build gave what it should.
func (i *member) there() bool {
	return i.State == BatchBuilt || i.State == BatchUnchanged || i.State == BatchRestored
}

// recallImage takes one build from the memo, if that has it.
func (b *batch) recallImage(ctx context.Context, cancel context.CancelCauseFunc, i *member) {
	if i.keys == nil || i.State != "" {
		return
	}
	i.Started = time.Now()
	res, err := i.job.recall(ctx, i.keys)
	if errors.Is(err, errMissed) {
		return
	}
	i.Duration = time.Since(i.Started)
	i.Result = res
	switch {
	case err != nil && ctx.Err() != nil:
	case err != nil:
		i.fail(err)
		if b.req.FailFast {
			cancel(err)
		}
	case res.Restored:
		i.State = BatchRestored
	default:
		i.State = BatchUnchanged
	}
}

// solve builds what is left, what others are based on first.
func (b *batch) solve(ctx context.Context, cancel context.CancelCauseFunc, pending []*member) {
	jobs := b.req.Jobs
	if jobs <= 0 {
		jobs = defaultJobs
	}
	slots := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for _, i := range pending {
		wg.Go(func() {
			defer close(i.done)
			// Only what the build files do not show has to be waited for: BuildKit builds
			// what several images share once, whoever asks for it first.
			for _, d := range i.after {
				<-d.done
			}
			if !i.ready() || ctx.Err() != nil {
				return
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-slots }()
			if !i.ready() || ctx.Err() != nil {
				return
			}
			if len(i.after) > 0 {
				b.recallImage(ctx, cancel, i)
			}
			if i.State == "" {
				b.solveImage(ctx, i)
				if i.Err != nil && b.req.FailFast {
					cancel(i.Err)
				}
			}
		})
	}
	wg.Wait()
}

// ready reports whether nothing that the build depends on has failed so far; else it
// is skipped.
func (i *member) ready() bool {
	for _, d := range slices.Concat(i.after, i.needs) {
		select {
		case <-d.done:
			if d.State == BatchFailed || d.State == BatchSkipped {
				i.skip(d)
				return false
			}
		default:
		}
	}
	return true
}

// skip ends a build because of one that it depends on.
func (i *member) skip(d *member) {
	i.State, i.Err, i.Because = BatchSkipped, d.Err, d.Name
	if d.Because != "" {
		i.Because = d.Because
	}
}

func (b *batch) solveImage(ctx context.Context, i *member) {
	i.Started = time.Now()
	res, err := i.job.build(ctx)
	i.Duration = time.Since(i.Started)
	i.Result = res
	switch {
	case err == nil:
		res.Changed = true
		i.State, i.remember = BatchBuilt, true
	case ctx.Err() != nil:
	default:
		i.fail(err)
	}
}

// record remembers what was built. It comes after everything: what has been edited
// meanwhile must not be remembered, and that is looked for once.
func (b *batch) record(pending []*member) {
	// The build may have been interrupted; what is done is done.
	ctx := context.Background()
	changed, err := b.run.trees.Changed(ctx)
	if err != nil {
		return
	}
	for _, i := range pending {
		if !i.remember || slices.ContainsFunc(changed, i.job.reads) {
			continue
		}
		i.job.write(ctx, i.keys, i.Result)
	}
}

// reads reports whether a path lies in a directory that the build reads.
func (j *job) reads(path string) bool {
	for dir := range maps.Values(j.locals.all()) {
		if within(dir, path) {
			return true
		}
	}
	return false
}
