package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver/memo"
)

// MemoRecord is an entry of the memo: what a build that succeeded gave.
type MemoRecord struct {
	// Key is what the record is looked up by.
	Key digest.Digest `json:"key"`
	// Kind is image, file, dir or none.
	Kind string `json:"kind"`
	// Digest is that of the image, the file or the directory.
	Digest digest.Digest `json:"digest,omitempty"`
	// Names are the image's names at the time.
	Names []string `json:"names,omitempty"`
	// Size is what the record takes up itself.
	Size int64 `json:"size"`
	// Created is when the build ended, Used the day of the last use.
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
}

// MemoLimits say what PruneMemo leaves.
type MemoLimits struct {
	// MaxAge is how long ago a record may have been used; 0 is any time.
	MaxAge time.Duration
	// MaxSize is what all records may take up, in bytes; 0 is any size.
	MaxSize int64
	// All leaves nothing.
	All bool
}

// MemoPruned says what PruneMemo removed and left.
type MemoPruned struct {
	Removed      int   `json:"removed"`
	RemovedBytes int64 `json:"removedBytes"`
	Left         int   `json:"left"`
	LeftBytes    int64 `json:"leftBytes"`
}

// Memo lists the records that the memo has on this machine, those used last first.
// What is in registries and buckets is listed by their own tools.
func (e *Engine) Memo(ctx context.Context) ([]MemoRecord, error) {
	d, err := e.memoDir()
	if err != nil {
		return nil, err
	}
	list := []MemoRecord{}
	for entry, err := range d.List(ctx) {
		if err != nil {
			return nil, fmt.Errorf("listing the memo: %w", err)
		}
		r := entry.Record
		m := MemoRecord{Key: r.Key, Kind: r.Kind, Digest: r.Digest, Names: r.Names, Size: entry.Size, Created: r.Created, Used: entry.Used}
		if m.Digest == "" && r.Image != nil {
			m.Digest = r.Image.Digest
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b MemoRecord) int {
		return cmp.Or(b.Used.Compare(a.Used), b.Created.Compare(a.Created), cmp.Compare(a.Key, b.Key))
	})
	return list, nil
}

// PruneMemo deletes records that the memo has on this machine until the limits hold,
// those not used for longest first. Without limits they are those of the memo itself,
// which it keeps to from time to time.
func (e *Engine) PruneMemo(ctx context.Context, l MemoLimits) (MemoPruned, error) {
	d, err := e.memoDir()
	if err != nil {
		return MemoPruned{}, err
	}
	if l == (MemoLimits{}) {
		l = MemoLimits{MaxAge: memo.DefaultMaxAge, MaxSize: memo.DefaultMaxSize}
	}
	p, err := d.Prune(ctx, memo.Limits{MaxAge: l.MaxAge, MaxSize: l.MaxSize, All: l.All})
	if err != nil {
		err = fmt.Errorf("pruning the memo: %w", err)
	}
	return MemoPruned{Removed: p.Removed, RemovedBytes: p.RemovedBytes, Left: p.Left, LeftBytes: p.LeftBytes}, err
}

// memoDir is the directory among the stores of the memo.
func (e *Engine) memoDir() (*memo.Dir, error) {
	c, err := memo.Parse(e.memoSpec()...)
	if err != nil {
		return nil, &InputError{Err: err}
	}
	for _, s := range c.Stores {
		if s.Type != memo.TypeLocal {
			continue
		}
		d := &memo.Dir{Path: s.Path}
		if d.Path == "" && e.stateDir() != "" {
			d.Path = filepath.Join(e.stateDir(), "memo")
		}
		if d.Path != "" {
			return d, nil
		}
	}
	return nil, &InputError{Err: errors.New("the memo keeps nothing on this machine: records in a registry or a bucket are listed and deleted by its own tools")}
}
