package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

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

	// courseFile is where the course of the call is noted, see LastBuild.
	courseFile string
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
	b, err := e.newBatch(req)
	if err != nil {
		return nil, err
	}
	err = b.build(ctx)
	if cerr := errors.Join(b.close(), b.run.close()); err == nil && cerr != nil {
		err = cerr
	}
	if b.result != nil {
		b.result.Duration = time.Since(start)
	}
	return b.result, err
}

// newBatch begins a call. Its caller closes it and its run.
func (e *Engine) newBatch(req BatchRequest) (*batch, error) {
	if len(req.Builds) == 0 {
		return nil, inputErrorf("there is nothing to build")
	}
	r, err := e.newRunWith(req.Builds[0].Request, req.Memo)
	if err != nil {
		return nil, err
	}
	r.batch = true
	if req.Jobs > 0 {
		r.exports = make(chan struct{}, req.Jobs)
	}
	return &batch{run: r, req: req, byName: map[string]*member{}, course: newCourse()}, nil
}

// defaultJobs is how many images are built at once when nothing is said. More gain
// nothing: 300 images took as long with 16 at once as with 100 or 300, and the daemon 170
// MB of memory, not 265 or 436. BuildKit takes 300, but with many at once on a busy machine
// it fails to begin builds (see busyError): so it did with the 60 of a bake.
const defaultJobs = 16

// batch is one call of BuildAll.
type batch struct {
	run    *run
	req    BatchRequest
	images []*member
	aside  []*member
	byName map[string]*member
	result *BatchResult
	course *course

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
		if err := b.compileRest(ctx, pending); err != nil {
			return err
		}
		jobs := make([]*job, len(pending))
		for n, i := range pending {
			jobs[n] = i.job
		}
		b.run.settleLocals(ctx, jobs)
		b.solve(ctx, cancel, pending)
		b.record(pending)
	}
	err := b.failures(ctx)
	b.noteCourse(err != nil)
	if err == nil && b.req.PushAfterAll {
		err = b.pushAll(ctx)
	}
	b.result = &BatchResult{}
	for _, i := range b.images {
		b.result.Images = append(b.result.Images, i.BatchImage)
	}
	return err
}
