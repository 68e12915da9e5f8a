package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// prepare checks all requests and reports everything that is wrong with them.
func (b *batch) prepare() error {
	var errs []error
	for _, build := range b.req.Builds {
		i := &member{build: build, done: make(chan struct{})}
		i.Name = build.Name
		if b.byName[build.Name] != nil {
			errs = append(errs, inputErrorf("two builds are called %q", build.Name))
			continue
		}
		if b.byName[build.Name] = i; build.Aside {
			b.aside = append(b.aside, i)
		} else {
			b.images = append(b.images, i)
		}
	}
	all := slices.Concat(b.images, b.aside)
	wrong := make([]error, len(all))
	var eg errgroup.Group
	eg.SetLimit(2 * runtime.GOMAXPROCS(0))
	for n, i := range all {
		eg.Go(func() error {
			if err := b.prepareImage(i); err != nil {
				wrong[n] = i.locate(err)
			}
			return nil
		})
	}
	_ = eg.Wait()
	errs = append(errs, slices.DeleteFunc(wrong, func(err error) bool { return err == nil })...)
	if len(errs) > 0 {
		return list(errs)
	}
	for _, i := range all {
		b.run.builds[i.Name] = i.job
	}
	for _, i := range slices.Concat(b.images, b.aside) {
		for _, name := range i.build.DependsOn {
			dep := b.byName[name]
			if dep != nil && (dep.build.Aside || i.build.Aside) {
				continue
			}
			if dep == nil {
				errs = append(errs, i.locate(inputErrorf("it depends on %q, which is none of the builds", name)))
				continue
			}
			i.after = append(i.after, dep)
		}
		for context, name := range i.build.Images {
			dep := b.byName[name]
			if dep == nil {
				errs = append(errs, i.locate(inputErrorf("its context %s is %q, which is none of the builds", context, name)))
				continue
			}
			i.job.images[normalName(context)] = dep.job
		}
		errs = append(errs, b.publish(i))
	}
	errs = append(errs, b.checkOrder())
	return list(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// prepareImage checks one request.
func (b *batch) prepareImage(i *member) error {
	req := i.build.Request
	if req.Root == "" {
		req.Root = b.req.Root
	}
	if req.LockFile == "" {
		req.LockFile = b.req.LockFile
	}
	req.FailFast = req.FailFast || b.req.FailFast
	req.Events = b.course.sink(b.sink(i.Name))
	if b.req.PushAfterAll {
		req = withoutPush(req)
	}
	prepare := b.run.prepare
	if i.build.Aside {
		prepare = b.run.prepareCall
	}
	var j *job
	err := i.build.broken
	if err == nil {
		j, err = prepare(req)
	}
	if err != nil && i.build.Aside {
		// Whoever is based on it hears of it.
		j = b.run.newJob(req)
		j.broken, err = i.locate(err), nil
	}
	if err != nil {
		return err
	}
	i.job, j.name, j.images = j, i.Name, map[string]*job{}
	for _, name := range slices.Concat(i.build.Tags, i.build.Names) {
		b.run.normalName(name) // here many do it at once
	}
	return nil
}

// publish makes known by which names build files mean a build.
func (b *batch) publish(i *member) error {
	for _, name := range slices.Concat(i.build.Tags, i.build.Names) {
		n := b.run.normalName(name)
		if other := b.run.jobs[n]; other != nil && other != i.job {
			return i.locate(inputErrorf("image %s is also made by %s: give one of them another tag", name, other.name))
		}
		b.run.jobs[n] = i.job
	}
	return nil
}

// checkOrder refuses builds that wait for each other.
func (b *batch) checkOrder() error {
	state := map[*member]int{}
	var visit func(i *member, chain []string) error
	visit = func(i *member, chain []string) error {
		chain = append(chain, i.Name)
		switch state[i] {
		case 1:
			return i.locate(inputErrorf("builds depend on each other in a circle: %v", chain))
		case 2:
			return nil
		}
		state[i] = 1
		for _, d := range i.after {
			if err := visit(d, chain); err != nil {
				return err
			}
		}
		state[i] = 2
		return nil
	}
	for _, i := range b.images {
		if err := visit(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// locate says of which build an error is, and where that is declared.
func (i *member) locate(err error) error {
	var pe *graph.PosError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	err = fmt.Errorf("%s: %w", i.Name, err)
	if i.build.At.IsZero() {
		return err
	}
	return &graph.PosError{Pos: i.build.At, Err: err}
}

// sink passes on the events of one build, one at a time over all builds.
func (b *batch) sink(name string) solver.Sink {
	if b.req.Events == nil {
		return nil
	}
	return func(e solver.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		e.Build = name
		b.req.Events(e)
	}
}

// compile compiles all builds into one graph. What cannot be compiled without a
// daemon is left to it; what is wrong with a build file fails its image.
func (b *batch) compile(ctx context.Context) error {
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range b.images {
		eg.Go(func() error {
			if i.keys = i.job.recompile(ctx); i.keys == nil {
				i.compile(ctx)
			}
			return nil
		})
	}
	_ = eg.Wait()
	return context.Cause(ctx)
}

// compileRest compiles those builds that are to be done although nothing has changed
// since they were last compiled.
func (b *batch) compileRest(ctx context.Context, pending []*member) error {
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range pending {
		if i.keys == nil || i.keys.graph != nil {
			continue
		}
		eg.Go(func() error {
			i.keys = nil
			i.compile(ctx)
			return nil
		})
	}
	_ = eg.Wait()
	return context.Cause(ctx)
}

// compile compiles one build.
func (i *member) compile(ctx context.Context) {
	k, err := i.job.compileKeys(ctx)
	refused := i.job.refused(ctx, err)
	switch {
	case err == nil:
		i.keys = k
		if err := i.job.checkEntitlements(k.graph); err != nil {
			i.fail(err)
		} else {
			i.job.keepTrace(ctx, k)
		}
	case ctx.Err() != nil:
	case refused != nil:
		i.fail(refused)
	}
	i.job.setCompiled(i.keys)
}

func (i *member) fail(err error) { i.State, i.Err = BatchFailed, err }

// order finds out what is based on what.
func (b *batch) order() {
	owner := map[graph.Key]*member{}
	for _, i := range b.images {
		for _, s := range i.outputKeys() {
			if owner[s] == nil {
				owner[s] = i
			}
		}
	}
	for _, i := range b.images {
		if i.keys == nil {
			continue
		}
		seen := map[*member]bool{i: true}
		for _, key := range i.keys.stageKeys() {
			if o := owner[key]; o != nil && !seen[o] && key != "" {
				seen[o] = true
				i.needs = append(i.needs, o)
				i.Needs = append(i.Needs, o.Name)
			}
		}
	}
	for again, rounds := true, 0; again && rounds <= len(b.images); rounds++ {
		again = false
		for _, i := range b.images {
			for _, d := range slices.Concat(i.needs, i.after) {
				if i.level <= d.level {
					i.level, again = d.level+1, true
				}
			}
		}
	}
}

// outputKeys are the keys of what the build gives.
func (i *member) outputKeys() []graph.Key {
	if i.keys == nil || i.keys.base == "" {
		return nil
	}
	return i.keys.outputKeys()
}
