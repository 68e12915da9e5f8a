package memo

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	digest "github.com/opencontainers/go-digest"
)

// Surroundings are what the stores of a Config need and its text does not say.
type Surroundings struct {
	// Dir is the directory of a local store without a path.
	Dir string
	// Keychain has the credentials of registries; nil is Docker's.
	Keychain authn.Keychain
	// Transport makes the requests of registries and S3; nil is each one's own.
	Transport http.RoundTripper
	// Warn is told of trouble, once a store; nil is silent.
	Warn func(error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Open gives one Store that is all of c's: each tolerant, in the order of c. Nothing
// is read or written and nobody is asked before the store is used, so there is nothing
// to close. Without stores in c it is one that has nothing and keeps nothing.
func (c Config) Open(around Surroundings) (Store, error) {
	var all Store = nothing{}
	for i := len(c.Stores) - 1; i >= 0; i-- {
		s, err := c.Stores[i].open(around)
		if err != nil {
			return nil, err
		}
		if i == len(c.Stores)-1 {
			all = s
		} else {
			all = Stack(s, all)
		}
	}
	return all, nil
}

func (c StoreConfig) open(around Surroundings) (Store, error) {
	var s Store
	switch c.Type {
	case TypeLocal:
		d := &Dir{Path: c.Path, Now: around.Now}
		if d.Path == "" {
			d.Path = around.Dir
		}
		if d.Path == "" {
			return nil, fmt.Errorf("memo %q: there is no directory for it: name one, local=DIRECTORY", c.Type)
		}
		s = d
	case TypeRegistry:
		r, err := NewRegistry(c.Registry, around.Keychain)
		if err != nil {
			return nil, fmt.Errorf("memo %q: %w", c.Type, err)
		}
		r.Transport = around.Transport
		s = r
	case TypeS3:
		if err := c.S3.check(); err != nil {
			return nil, fmt.Errorf("memo %q: %w", c.Type, err)
		}
		b := &S3{Config: c.S3, Now: around.Now}
		if around.Transport != nil {
			b.HTTP = &http.Client{Transport: around.Transport}
		}
		s = b
	default:
		return nil, fmt.Errorf("memo %q: %s", c.Type, storeForms)
	}
	if c.TTL > 0 {
		s = WithTTL(s, c.TTL, around.Now)
	}
	if c.ReadOnly {
		s = ReadOnly(s)
	}
	return Tolerant(s, around.Warn), nil
}

// nothing is the Store of no memo.
type nothing struct{}

// Get implements [Store].
func (nothing) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	return nil, absent(key)
}

// Put implements [Store].
func (nothing) Put(ctx context.Context, r *Record) error { return ready(ctx, r.Key) }
