package dag

import (
	"errors"

	"github.com/containerd/platforms"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// Spec says what a stage is. Only From is needed.
type Spec struct {
	// Name is what progress and errors call the stage: small letters, digits, and - _ .
	// It takes no part in identity and need not be unique.
	Name string
	// From is what the stage starts from, file system and image config.
	From Source
	// Platform is what it is built for, such as "linux/arm64"; empty is what the build is
	// for.
	Platform string
	// Steps are carried out in order.
	Steps []Step
}

// Stage is one stage of a build. It is immutable; [New] makes it.
type Stage struct {
	made
	spec Spec
}

// New makes a stage. What is wrong with it is reported when it is built.
func New(spec Spec) *Stage {
	spec.Steps = append([]Step(nil), spec.Steps...)
	return &Stage{made: made{caller(), spec.check()}, spec: spec}
}

// Pos is the line of Go that made the stage.
func (s *Stage) Pos() graph.Pos { return s.pos }

// validStageName is what a stage may be called.
var validStageName = lazyregexp.New(`^[a-z][a-z0-9_.-]*$`)

func (s Spec) check() error {
	var errs []error
	switch {
	case s.Name == "":
	case s.Name == scratch || s.Name == "context":
		errs = append(errs, mistake("stage name %q is reserved: take another", s.Name))
	case !validStageName().MatchString(s.Name):
		errs = append(errs, mistake("stage name %q: names begin with a small letter and have small letters, digits, and - _ . only", s.Name))
	}
	if isNil(s.From) {
		errs = append(errs, errors.New("a stage starts from something: set From, to Scratch() for nothing"))
	} else if _, ok := s.From.(httpSource); ok {
		errs = append(errs, errors.New("a stage cannot start from a download: copy it into one"))
	}
	if s.Platform != "" {
		if _, err := platforms.Parse(s.Platform); err != nil {
			errs = append(errs, mistake("platform %q: %w", s.Platform, err))
		}
	}
	return errors.Join(errs...)
}

// isNil reports whether a source is missing, be it as a nil stage.
func isNil(s Source) bool {
	st, ok := s.(*Stage)
	return s == nil || ok && st == nil
}

// sources lists what the stage reads, in the order of its steps.
func (s *Stage) sources() []Source {
	list := []Source{s.spec.From}
	for _, st := range s.spec.Steps {
		if st.do != nil {
			list = append(list, st.do.reads()...)
		}
	}
	return list
}
