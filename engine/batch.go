package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// BatchRequest is several builds in one call: one graph, one look at each directory,
// one look-up of each base image, one connection.
type BatchRequest struct {
	// Builds are what to build, in the order in which they are reported.
	Builds []BatchBuild
	// Root, where a build has none, is the directory that builds may read; LockFile the
	// lock file of all.
	Root, LockFile string
	// Jobs is how many images are built and exported at once; 0 is a number that one
	// daemon takes well.
	Jobs int
	// FailFast stops everything at the first failure. Otherwise all is built that does
	// not depend on one.
	FailFast bool
	// PushAfterAll pushes nothing unless everything was built, and then everything.
	PushAfterAll bool
	// Memo is where results are looked up and remembered, in the form of [Config.Memo];
	// empty is that.
	Memo []string
	// Events receives the course of all builds, each with the name of its build.
	Events solver.Sink
}

// BatchBuild is one of several builds.
type BatchBuild struct {
	// NamedRequest is the build. Its name and tags are what build files of the others
	// can mean it by, in FROM, COPY --from and mounts. Events of it are ignored.
	NamedRequest
	// Names are further references that mean it.
	Names []string
	// DependsOn are builds that have to succeed before this one begins, for reasons
	// that its build file does not show.
	DependsOn []string
	// Images are named contexts that are other builds: the name of the context to that
	// of the build.
	Images map[string]string
	// Aside: it is there for others to be based on; it is compiled only when one is, and
	// gives no output of its own.
	Aside bool
	// At is where it is declared, for errors.
	At graph.Pos

	// broken is why it cannot be done; it matters only when another is based on it.
	broken error
}

// BatchState says how one of several builds ended.
type BatchState string

// The states.
const (
	BatchBuilt     BatchState = "built"
	BatchUnchanged BatchState = "unchanged"
	BatchRestored  BatchState = "restored" // unchanged, and an output was put back
	BatchFailed    BatchState = "failed"
	BatchSkipped   BatchState = "skipped" // something that it depends on has failed
)

// BatchImage is the end of one of several builds.
type BatchImage struct {
	Name  string
	State BatchState
	// Result is what it gave; nil unless it was built or is there.
	Result *Result
	// Err is why it failed; for a skipped one, the failure of Because.
	Err     error
	Because string
	// Needs are the builds that it is based on or copies from.
	Needs []string
	// Pushed are the references that were pushed after all was built.
	Pushed []string
	// Started and Duration say when it was worked on.
	Started  time.Time
	Duration time.Duration
}

// BatchResult is what several builds gave.
type BatchResult struct {
	// Images are in the order of the request.
	Images   []BatchImage
	Duration time.Duration
}

// Count is the number of builds that ended in a state.
func (r *BatchResult) Count(s BatchState) int {
	n := 0
	for _, img := range r.Images {
		if img.State == s {
			n++
		}
	}
	return n
}

// BuildAll builds several images. The error holds the causes of all failures, each
// once; the result is there all the same, unless the request is wrong.
func (e *Engine) BuildAll(ctx context.Context, req BatchRequest) (*BatchResult, error) {
	start := time.Now()
	if len(req.Builds) == 0 {
		return nil, inputErrorf("there is nothing to build")
	}
	r, err := e.newRunWith(req.Builds[0].Request, req.Memo)
	if err != nil {
		return nil, err
	}
	r.batch = true
	b := &batch{run: r, req: req, byName: map[string]*member{}}
	err = b.build(ctx)
	if cerr := errors.Join(b.close(), r.close()); err == nil && cerr != nil {
		err = cerr
	}
	if b.result != nil {
		b.result.Duration = time.Since(start)
	}
	return b.result, err
}

// defaultJobs is how many images are built at once when nothing is said. On two cores
// forty images took 17 s with 4 at once, 14 s with 16 and no less with 40 (bench/pipeline);
// hundreds of solves at once are said to trip BuildKit.
const defaultJobs = 16

// batch is one call of BuildAll.
type batch struct {
	run    *run
	req    BatchRequest
	images []*member
	aside  []*member
	byName map[string]*member
	result *BatchResult

	mu sync.Mutex // held while Events is called
}

// member is one of the builds of a call.
type member struct {
	BatchImage
	build BatchBuild
	job   *job
	keys  *keys
	// after are those that must have succeeded; needs those that it is based on.
	after, needs []*member
	level        int
	done         chan struct{}
	// remembered: there is a result to record.
	remember bool
}

func (b *batch) close() error {
	var errs []error
	for _, i := range slices.Concat(b.images, b.aside) {
		if i.job != nil {
			errs = append(errs, i.job.close())
		}
	}
	return errors.Join(errs...)
}

func (b *batch) build(ctx context.Context) error {
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.run.engine.learnPlatform(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := b.compile(ctx); err != nil {
		return err
	}
	b.order()
	pending := b.recall(ctx, cancel)
	if len(pending) > 0 && ctx.Err() == nil {
		jobs := make([]*job, len(pending))
		for n, i := range pending {
			jobs[n] = i.job
		}
		b.run.settleLocals(ctx, jobs)
		b.solve(ctx, cancel, pending)
		b.record(pending)
	}
	err := b.failures(ctx)
	if err == nil && b.req.PushAfterAll {
		err = b.pushAll(ctx)
	}
	b.result = &BatchResult{}
	for _, i := range b.images {
		b.result.Images = append(b.result.Images, i.BatchImage)
	}
	return err
}

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
	req.Events = b.sink(i.Name)
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
	return nil
}

// publish makes known by which names build files mean a build.
func (b *batch) publish(i *member) error {
	for _, name := range slices.Concat(i.build.Tags, i.build.Names) {
		n := normalName(name)
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
			k, err := i.job.compileKeys(ctx)
			unlocked := i.job.unlocked(ctx, err)
			switch {
			case err == nil:
				i.keys = k
				if err := i.job.checkEntitlements(k.graph); err != nil {
					i.fail(err)
				}
			case ctx.Err() != nil:
			case unlocked != nil:
				i.fail(unlocked)
			case isMistake(err):
				i.fail(i.job.explain(ctx, err))
			}
			i.job.setCompiled(i.keys)
			return nil
		})
	}
	_ = eg.Wait()
	return context.Cause(ctx)
}

// isMistake reports whether an error is of the build file: it has a place in it.
func isMistake(err error) bool {
	var pe *graph.PosError
	var ie *InputError
	if errors.Is(err, errNeedsDaemon) {
		return false
	}
	return errors.As(err, &pe) || errors.As(err, &ie)
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
		for _, s := range i.keys.graph.Stages() {
			if o := owner[i.keys.stages[s.ID].key]; o != nil && !seen[o] && i.keys.stages[s.ID].key != "" {
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
	var out []graph.Key
	for _, s := range i.keys.graph.Outputs() {
		out = append(out, i.keys.stages[s.ID].key)
	}
	return out
}

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

// failures settles which builds have failed by themselves and which because of
// others, and makes one error of the causes.
func (b *batch) failures(ctx context.Context) error {
	seen := map[string]*member{}
	var errs []error
	for _, i := range slices.SortedStableFunc(slices.Values(b.images), func(x, y *member) int { return x.level - y.level }) {
		if i.State == "" {
			i.State = BatchSkipped
			i.Err = context.Cause(ctx)
			continue
		}
		if i.State != BatchFailed {
			continue
		}
		var fresh []error
		var first *member
		for _, err := range causesOf(i.Err) {
			if o := seen[err.Error()]; o != nil {
				first = o
				continue
			}
			seen[err.Error()] = i
			fresh = append(fresh, err)
		}
		if len(fresh) == 0 && first != nil && slices.Contains(i.allNeeds(), first) {
			i.skip(first)
			continue
		}
		errs = append(errs, fresh...)
	}
	if len(errs) > 0 {
		return list(errs)
	}
	return context.Cause(ctx)
}

// allNeeds are all builds below one.
func (i *member) allNeeds() []*member {
	seen := map[*member]bool{}
	var out []*member
	var walk func(*member)
	walk = func(i *member) {
		for _, d := range slices.Concat(i.needs, i.after) {
			if !seen[d] {
				seen[d] = true
				out = append(out, d)
				walk(d)
			}
		}
	}
	walk(i)
	return out
}

// causesOf lists the failures that an error is made of.
func causesOf(err error) []error {
	causes := solver.Causes(err)
	if len(causes) == 0 {
		return []error{err}
	}
	out := make([]error, len(causes))
	for n, c := range causes {
		out[n] = c
	}
	return out
}

// list makes one error of several, nil of none.
func list(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	m := &multierror.Error{ErrorFormat: func(errs []error) string {
		text := ""
		for n, err := range errs {
			if n > 0 {
				text += "\n\n"
			}
			text += err.Error()
		}
		return text
	}}
	m.Errors = errs
	return m.ErrorOrNil()
}
