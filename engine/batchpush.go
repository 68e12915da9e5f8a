package engine

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/store"
)

// pushJobs is how many images are pushed at once when everything has been built, unless
// Jobs is fewer.
const pushJobs = 4

// withoutPush is a request whose image is kept to be pushed later.
func withoutPush(req Request) Request {
	stored := len(req.Outputs) == 0
	pushed := req.Push
	var outputs []Output
	for _, o := range req.Outputs {
		if o.Type == OutputImage && o.Attrs["push"] == "true" {
			pushed = true
			continue
		}
		stored = stored || o.Type == OutputStore
		outputs = append(outputs, o)
	}
	if !pushed {
		return req
	}
	req.Push, req.pushLater, req.Outputs = false, true, outputs
	if !stored || len(outputs) > 0 && !slices.ContainsFunc(outputs, func(o Output) bool { return o.Type == OutputStore }) {
		req.Outputs = append(req.Outputs, Output{Type: OutputStore})
	}
	return req
}

// pushAll pushes every image that was to be pushed, and reports all that cannot be.
func (b *batch) pushAll(ctx context.Context) error {
	var eg errgroup.Group
	limit := pushJobs
	if b.req.Jobs > 0 {
		limit = min(limit, b.req.Jobs)
	}
	eg.SetLimit(limit)
	errs := make([]error, len(b.images))
	for n, i := range b.images {
		if !i.job.req.pushLater {
			continue
		}
		eg.Go(func() error {
			if err := i.push(ctx); err != nil {
				errs[n] = fmt.Errorf("%s: %w", i.Name, err)
				i.fail(err)
			}
			return nil
		})
	}
	_ = eg.Wait()
	return list(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// push pushes the image under all its names, except where the registry has it.
func (i *member) push(ctx context.Context) error {
	j := i.job
	if len(j.outputs.names) == 0 {
		return inputErrorf("nothing to push: give the image a name with a tag")
	}
	res, err := j.resolver()
	if err != nil {
		return err
	}
	s, err := j.engine.Store()
	if err != nil {
		return err
	}
	for _, name := range j.outputs.names {
		// What refers to an artifact can be missing where the artifact is there.
		refers := j.isWasmArtifact() && j.attested()
		if d, err := res.Head(ctx, name); err == nil && d == i.Result.Digest && !refers {
			continue
		}
		o := store.PushOptions{Target: name, Insecure: res.Insecure(name)}
		if err := j.often(ctx, func() error {
			_, err := s.Push(ctx, i.Result.Digest.String(), o)
			return err
		}); err != nil {
			return err
		}
		i.Pushed = append(i.Pushed, name)
	}
	return nil
}
