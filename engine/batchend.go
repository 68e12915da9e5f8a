package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/zlayer-dev/zlayer/solver"
)

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
