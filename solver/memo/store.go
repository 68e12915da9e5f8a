package memo

import (
	"context"
	"fmt"
	"iter"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Store keeps records. All stores may be used by many goroutines at once, and what
// several processes put at the same time is one of the records, whole.
type Store interface {
	// Get gives the record of the key, without its Parts; it belongs to the caller.
	// Its error is ErrNotFound if there is no record that can be believed, and
	// trouble with the backend otherwise.
	Get(ctx context.Context, key digest.Digest) (*Record, error)
	// Put keeps the record in place of any other of its key. It does not keep or
	// change r. A record that Get gave is kept without parts.
	Put(ctx context.Context, r *Record) error
}

// PartsReader is a Store that keeps parts.
type PartsReader interface {
	// ReadParts gives the parts of a record that Get gave. Its error is ErrNotFound
	// if the store has others, damaged ones or none.
	ReadParts(ctx context.Context, r *Record) ([]byte, error)
}

// Lister is a Store that can say what it has.
type Lister interface {
	// List gives every record that can be believed, in no order, without Parts. The
	// last pair may have an error: what comes after it has not been read.
	List(ctx context.Context) iter.Seq2[Entry, error]
}

// Deleter is a Store that can forget.
type Deleter interface {
	// Delete removes the record of a key, whatever its state, and whatever it takes
	// up. The error is ErrNotFound if nothing is there.
	Delete(ctx context.Context, key digest.Digest) error
}

// Pruner is a Store that can remove what is no longer worth its place.
type Pruner interface {
	// Prune removes records until the limits hold, those not used for longest first.
	Prune(ctx context.Context, l Limits) (Pruned, error)
}

// Entry is one record of a listing.
type Entry struct {
	Record *Record
	// Size is what the record takes up with its parts.
	Size int64
	// Used is when the record was last put or got, to the day; stores that do not
	// know say when it was put.
	Used time.Time
}

// Limits say what Prune leaves.
type Limits struct {
	// MaxAge is how long ago a record may have been used; 0 is any time.
	MaxAge time.Duration
	// MaxSize is what all records together may take up, in bytes; 0 is any size.
	MaxSize int64
	// All leaves nothing.
	All bool
}

// Pruned says what Prune removed and left.
type Pruned struct {
	Removed, Left           int
	RemovedBytes, LeftBytes int64
}

// Parts gives the parts of a record that s gave: nil if it has none, ErrNotFound
// if they are lost.
func Parts(ctx context.Context, s Store, r *Record) ([]byte, error) {
	if r.Parts != nil || r.PartsDigest == "" {
		return r.Parts, nil
	}
	p, ok := s.(PartsReader)
	if !ok {
		return nil, lostParts(r)
	}
	return p.ReadParts(ctx, r)
}

// lostParts is the error for parts that are not there.
func lostParts(r *Record) error {
	return fmt.Errorf("%w of the parts of %s", ErrNotFound, r.Key)
}
