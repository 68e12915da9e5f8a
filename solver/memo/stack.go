package memo

import (
	"context"
	"errors"

	digest "github.com/opencontainers/go-digest"
)

// Stack gives a Store that asks near first and far only about what near has not,
// and keeps what far had in near. It writes to both.
//
// A hit counts even if it cannot be kept in near, and trouble with one does not keep
// the other from being asked or written; wrap each in [Tolerant] to hear of it.
func Stack(near, far Store) Store { return &stack{near: near, far: far} }

type stack struct{ near, far Store }

// Get implements [Store].
func (s *stack) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	r, nearErr := s.near.Get(ctx, key)
	if nearErr == nil {
		return r, nil
	}
	if ctx.Err() != nil {
		return nil, nearErr
	}
	r, farErr := s.far.Get(ctx, key)
	switch {
	case farErr == nil:
		_ = s.near.Put(ctx, r)
		return r, nil
	case !errors.Is(nearErr, ErrNotFound) && errors.Is(farErr, ErrNotFound):
		// Absent is only what no store has; the error of near must not look like it.
		return nil, nearErr
	case !errors.Is(nearErr, ErrNotFound):
		return nil, errors.Join(nearErr, farErr)
	}
	return nil, farErr
}

// Put implements [Store].
func (s *stack) Put(ctx context.Context, r *Record) error {
	return errors.Join(s.near.Put(ctx, r), s.far.Put(ctx, r))
}

// ReadParts implements [PartsReader].
func (s *stack) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	parts, err := Parts(ctx, s.near, r)
	if err == nil || ctx.Err() != nil {
		return parts, err
	}
	return Parts(ctx, s.far, r)
}
