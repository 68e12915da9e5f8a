package memo

import (
	"context"
	"fmt"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// WithTTL gives a Store in which the records of s that were created longer than ttl
// ago are absent. They stay in s. Clock is what the time is asked of; nil is time.Now.
func WithTTL(s Store, ttl time.Duration, clock func() time.Time) Store {
	return &withTTL{store: s, ttl: ttl, now: clock}
}

type withTTL struct {
	store Store
	ttl   time.Duration
	now   func() time.Time
}

// Get implements [Store].
func (s *withTTL) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	r, err := s.store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if age := now(s.now).Sub(r.Created); age > s.ttl {
		return nil, fmt.Errorf("%w of %s: it is %s old, at most %s are asked for", ErrNotFound, key, age.Round(time.Second), s.ttl)
	}
	return r, nil
}

// Put implements [Store].
func (s *withTTL) Put(ctx context.Context, r *Record) error { return s.store.Put(ctx, r) }

// ReadParts implements [PartsReader].
func (s *withTTL) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	return Parts(ctx, s.store, r)
}
