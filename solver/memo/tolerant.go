package memo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	digest "github.com/opencontainers/go-digest"
)

// Tolerant gives a Store that never fails a build: trouble with s is told to warn
// once, records are then absent, and what cannot be put is not kept. A store that did
// not answer in time, or failed three times in a row, is not asked again.
//
// Three errors remain: those of the context, of a key that is none, and ErrTooLarge
// and the like of Put, which are the caller's. warn may be called by any goroutine;
// nil is silent.
func Tolerant(s Store, warn func(error)) Store { return &tolerant{store: s, warn: warn} }

// patience is how many failures in a row, of reading or of writing, end the asking.
const patience = 3

type tolerant struct {
	store Store
	warn  func(error)

	mu            sync.Mutex
	warned, gone  bool
	reads, writes int // failures in a row
}

// Get implements [Store].
func (t *tolerant) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	if t.off(&t.reads) {
		return nil, absent(key)
	}
	r, err := t.store.Get(ctx, key)
	if err = t.judge(ctx, err, &t.reads); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, absent(key)
	}
	return r, nil
}

// Put implements [Store].
func (t *tolerant) Put(ctx context.Context, r *Record) error {
	if err := ready(ctx, r.Key); err != nil {
		return err
	}
	if _, err := encodeHead(r); err != nil {
		return err
	}
	if t.off(&t.writes) {
		return nil
	}
	return t.judge(ctx, t.store.Put(ctx, r), &t.writes)
}

// ReadParts implements [PartsReader].
func (t *tolerant) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	if t.off(&t.reads) {
		return nil, lostParts(r)
	}
	parts, err := Parts(ctx, t.store, r)
	if err = t.judge(ctx, err, &t.reads); err != nil {
		return nil, err
	}
	if parts == nil && r.PartsDigest != "" {
		return nil, lostParts(r)
	}
	return parts, nil
}

// off tells whether the store is not to be asked any more.
func (t *tolerant) off(failures *int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone || *failures >= patience
}

// judge gives the part of err that remains an error, and keeps the books.
func (t *tolerant) judge(ctx context.Context, err error, failures *int) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil || errors.Is(err, ErrNotFound) {
		t.mu.Lock()
		*failures = 0
		t.mu.Unlock()
		return err
	}
	if first := t.note(err, failures); first && t.warn != nil {
		t.warn(fmt.Errorf("%w; going on without it", err))
	}
	return nil
}

// note counts a failure, and tells whether it is the first.
func (t *tolerant) note(err error, failures *int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	*failures++
	t.gone = t.gone || timedOut(err)
	first := !t.warned
	t.warned = true
	return first
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
