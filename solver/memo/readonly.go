package memo

import (
	"context"

	digest "github.com/opencontainers/go-digest"
)

// ReadOnly gives a Store that reads s and writes nothing: Put does nothing and
// succeeds, because not to write is what was asked for.
func ReadOnly(s Store) Store { return &readOnly{s} }

type readOnly struct{ store Store }

// Get implements [Store].
func (s *readOnly) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	return s.store.Get(ctx, key)
}

// Put implements [Store].
func (s *readOnly) Put(ctx context.Context, r *Record) error { return ready(ctx, r.Key) }

// ReadParts implements [PartsReader].
func (s *readOnly) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	return Parts(ctx, s.store, r)
}
