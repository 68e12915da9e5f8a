package memo

import (
	"bufio"
	"bytes"
	"cmp"
	"container/list"
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Defaults of Memory.
const (
	DefaultMemoryRecords = 10_000
	DefaultMemorySize    = 64 << 20
)

// Memory is a Store that lasts as long as the process. Beyond its bounds it forgets
// what was not used for longest. Its zero value is ready; it must not be copied.
type Memory struct {
	// MaxRecords and MaxSize, in bytes, bound it; 0 is the default.
	MaxRecords int
	MaxSize    int64
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	mu      sync.Mutex
	records map[digest.Digest]*list.Element // of *kept
	recent  list.List                       // most recently used first
	size    int64
}

// kept is a record as bytes, so that nobody can change it.
type kept struct {
	key  digest.Digest
	data []byte
	used time.Time
}

var (
	_ Store       = (*Memory)(nil)
	_ PartsReader = (*Memory)(nil)
	_ Lister      = (*Memory)(nil)
	_ Deleter     = (*Memory)(nil)
	_ Pruner      = (*Memory)(nil)
)

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	data, err := m.find(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := decodeMemory(data)
	return believe(key, r, err)
}

func decodeMemory(data []byte) (*Record, error) {
	r, _, err := decodeHead(bufio.NewReaderSize(bytes.NewReader(data), maxLine), int64(len(data)))
	return r, err
}

// ReadParts implements [PartsReader].
func (m *Memory) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	data, err := m.find(ctx, r.Key)
	if errors.Is(err, ErrNotFound) {
		return nil, lostParts(r)
	}
	if err != nil {
		return nil, err
	}
	have, err := Decode(data)
	if err != nil || have.Parts == nil || have.PartsDigest != r.PartsDigest {
		return nil, lostParts(r)
	}
	return have.Parts, nil
}

func (m *Memory) find(ctx context.Context, key digest.Digest) ([]byte, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.records[key]
	if !ok {
		return nil, absent(key)
	}
	m.recent.MoveToFront(e)
	k := e.Value.(*kept)
	k.used = now(m.Now)
	return k.data, nil
}

// Put implements [Store].
func (m *Memory) Put(ctx context.Context, r *Record) error {
	if err := ready(ctx, r.Key); err != nil {
		return err
	}
	data, err := Encode(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(r.Key)
	if m.records == nil {
		m.records = map[digest.Digest]*list.Element{}
	}
	m.records[r.Key] = m.recent.PushFront(&kept{key: r.Key, data: data, used: now(m.Now)})
	m.size += int64(len(data))
	maxRecords, maxSize := cmp.Or(m.MaxRecords, DefaultMemoryRecords), cmp.Or(m.MaxSize, int64(DefaultMemorySize))
	for m.recent.Len() > 1 && (m.recent.Len() > maxRecords || m.size > maxSize) {
		m.remove(m.recent.Back().Value.(*kept).key)
	}
	return nil
}

// remove forgets a key, under the lock, and says whether it was there.
func (m *Memory) remove(key digest.Digest) bool {
	e, ok := m.records[key]
	if !ok {
		return false
	}
	m.recent.Remove(e)
	delete(m.records, key)
	m.size -= int64(len(e.Value.(*kept).data))
	return true
}

// Delete implements [Deleter].
func (m *Memory) Delete(ctx context.Context, key digest.Digest) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.remove(key) {
		return absent(key)
	}
	return nil
}

// List implements [Lister].
func (m *Memory) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		m.mu.Lock()
		all := make([]kept, 0, m.recent.Len())
		for e := m.recent.Front(); e != nil; e = e.Next() {
			all = append(all, *e.Value.(*kept))
		}
		m.mu.Unlock()
		for _, k := range all {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			r, err := decodeMemory(k.data)
			if err != nil {
				continue
			}
			if !yield(Entry{Record: r, Size: int64(len(k.data)), Used: k.used}, nil) {
				return
			}
		}
	}
}

// Prune implements [Pruner].
func (m *Memory) Prune(ctx context.Context, l Limits) (Pruned, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var items []item
	for e := m.recent.Front(); e != nil; e = e.Next() {
		k := e.Value.(*kept)
		items = append(items, item{name: string(k.key), size: int64(len(k.data)), used: k.used})
	}
	return prune(ctx, items, l, now(m.Now), func(it item) (bool, error) {
		return m.remove(digest.Digest(it.name)), nil
	})
}

// ready is what every call of every store checks first.
func ready(ctx context.Context, key digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return checkKey(key)
}

func now(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}
