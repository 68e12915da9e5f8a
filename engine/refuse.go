package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zlayer-dev/zlayer/solver"
)

// refused is why a build may not be left to the daemon although it could not be
// compiled: what is wrong with it is known already, or it must not be done in a way
// that only the daemon knows. It is nil for all else; err is what the compilation
// said.
func (j *job) refused(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case isMistake(err), j.req.Locked && errors.Is(err, errNotLocked):
		return j.explain(ctx, err)
	case j.req.Locked && errors.Is(err, errNeedsDaemon):
		return inputErrorf("what this build reads is not known before it runs, so it cannot be locked: build without --locked (%w)", err)
	case j.req.NestedIgnore && errors.Is(err, errNeedsDaemon):
		return inputErrorf("only zlayer's own frontend knows ignore files in directories, and only those of a local build context: build without --nested-ignore (%w)", err)
	}
	return nil
}

// tellFailed reports what was said of a build that could not be compiled.
func (j *job) tellFailed() *Result {
	res := &Result{}
	if j.failed == nil {
		return res
	}
	t := &solver.Tracker{Events: j.tellWarnings(j.failed, res)}
	t.Warn(j.failed.warnings)
	return res
}

// tellWarnings reports what the user should know that the linter did not say, and
// gives the way in which the rest is reported.
func (j *job) tellWarnings(k *keys, res *Result) solver.Sink {
	sink := j.sink(res)
	for _, w := range slices.Concat(j.warnings, j.run.told()) {
		sink(solver.Event{Kind: solver.Warning, Time: time.Now(), Warning: &solver.WarningInfo{Level: 1, Short: w}})
	}
	for _, w := range k.told {
		sink(solver.Event{Kind: solver.Warning, Time: time.Now(), Warning: &w})
	}
	return sink
}

// errLookUp says that an image could not be looked up. The daemon may be able to: it has
// registries and a cache of its own.
var errLookUp = errors.New("looking up an image")

// taggedError is an error, with its text, and another one that says what kind it is.
type taggedError struct {
	error
	tag error
}

// Unwrap gives both.
func (e taggedError) Unwrap() []error { return []error{e.error, e.tag} }

// isMistake reports whether an error of a compilation is final: it is about the build
// file or the request, and not about what a daemon might find out.
func isMistake(err error) bool {
	return !errors.Is(err, errNeedsDaemon) && !errors.Is(err, errLookUp)
}
