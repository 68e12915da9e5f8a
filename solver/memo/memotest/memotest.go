// Package memotest holds the tests that every memo.Store has to pass, and records to
// test with.
package memotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
)

// Key gives the n-th key.
func Key(n int) digest.Digest { return digest.FromString(fmt.Sprint("key ", n)) }

// Record gives a record of the n-th key in which every field is set but Parts.
func Record(n int) *memo.Record {
	return &memo.Record{
		Key:  Key(n),
		Kind: memo.KindImage,
		Image: &ocispecs.Descriptor{
			MediaType:   ocispecs.MediaTypeImageManifest,
			Digest:      digest.FromString(fmt.Sprint("image ", n)),
			Size:        int64(1000 + n),
			Annotations: map[string]string{"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
			Platform:    &ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		},
		Digest:   digest.FromString(fmt.Sprint("archive ", n)),
		Size:     int64(5000 + n),
		Metadata: map[string]string{"containerimage.digest": "sha256:…", "über": "<&>\u2028"},
		Names:    []string{"docker.io/library/app:latest", "registry.example.com/app:1"},
		Tool:     "v1.2.3",
		Created:  time.Date(2020, 2, 29, 12, 30, 0, 123456789, time.UTC),
	}
}

// WithParts gives r with parts of n bytes, which no compression makes smaller.
func WithParts(r *memo.Record, n int) *memo.Record {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString(digest.FromString(fmt.Sprint(r.Key, i)).Encoded())
	}
	r.Parts = b.Bytes()[:n]
	return r
}

// Conformance runs the tests over stores that open gives. Every call of open must
// give a store that is empty.
func Conformance(t *testing.T, open func(t *testing.T) memo.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, memo.Store)
	}{
		{"Absent", absent},
		{"RoundTrip", roundTrip},
		{"Kinds", kinds},
		{"Parts", parts},
		{"Overwrite", overwrite},
		{"NotShared", notShared},
		{"Refused", refused},
		{"TooLarge", tooLarge},
		{"Cancelled", cancelled},
		{"ConcurrentWriters", concurrentWriters},
		{"List", list},
		{"Delete", remove},
		{"Prune", prune},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func absent(t *testing.T, s memo.Store) {
	if r, err := s.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) || r != nil {
		t.Errorf("Get of nothing: %v, %v, want ErrNotFound", r, err)
	}
	put(t, s, Record(1))
	if _, err := s.Get(t.Context(), Key(2)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("Get of another key: %v, want ErrNotFound", err)
	}
}

func roundTrip(t *testing.T, s memo.Store) {
	for n := range 3 {
		r := Record(n)
		r.Created = r.Created.In(time.FixedZone("", 3600))
		put(t, s, r)
	}
	for n := range 3 {
		same(t, s, Record(n))
	}
}

func kinds(t *testing.T, s memo.Store) {
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n, r := range []*memo.Record{
		{Kind: memo.KindImage, Image: Record(1).Image},
		{Kind: memo.KindFile, Digest: digest.FromString("file")},
		{Kind: memo.KindDir, Digest: digest.FromString("dir"), Size: 7},
		{Kind: memo.KindNone},
	} {
		r.Key, r.Created = Key(n), created
		put(t, s, r)
		same(t, s, r)
	}
}

// parts come in all sizes: stores keep large ones in another way, and Get must be
// able to leave them out.
func parts(t *testing.T, s memo.Store) {
	for n, size := range []int{0, 1, 1000, 100_000, 3 << 20} {
		r := WithParts(Record(n), size)
		put(t, s, r)
		got := get(t, s, r.Key)
		if got == nil {
			continue
		}
		if got.Parts != nil {
			t.Errorf("Get gives %d bytes of parts, want none", len(got.Parts))
		}
		if got.PartsSize != int64(size) {
			t.Errorf("PartsSize = %d, want %d", got.PartsSize, size)
		}
		p, err := memo.Parts(t.Context(), s, got)
		if err != nil || !bytes.Equal(p, r.Parts) {
			t.Errorf("Parts of %d bytes: %d bytes, %v", size, len(p), err)
		}
		// What Get gave can be put elsewhere; the parts are then not there.
		other := get(t, s, r.Key)
		other.Names = []string{"other"}
		put(t, s, other)
		same(t, s, other)
		if size == 0 {
			continue
		}
		other.PartsDigest = digest.FromString("lost")
		if p, err := memo.Parts(t.Context(), s, other); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("other parts: %d bytes, %v, want ErrNotFound", len(p), err)
		}
	}
	gone := WithParts(Record(99), 100)
	gone.PartsDigest, gone.PartsSize, gone.Parts = digest.FromBytes(gone.Parts), 100, nil
	if _, err := memo.Parts(t.Context(), s, gone); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("parts of a record that is not there: %v, want ErrNotFound", err)
	}
}

func overwrite(t *testing.T, s memo.Store) {
	put(t, s, WithParts(Record(1), 200_000))
	second := Record(1)
	second.Names, second.Metadata = nil, nil
	put(t, s, second)
	same(t, s, second)
}

// notShared sees to it that a record neither stays in the caller's hands nor comes
// back twice.
func notShared(t *testing.T, s memo.Store) {
	r := Record(1)
	put(t, s, r)
	vandalize(r)
	same(t, s, Record(1))
	vandalize(get(t, s, Key(1)))
	same(t, s, Record(1))
}

func vandalize(r *memo.Record) {
	if r == nil {
		return
	}
	r.Kind = memo.KindNone
	r.Names[0] = "vandal"
	r.Metadata["containerimage.digest"] = "vandal"
	r.Image.Annotations["vandal"] = "1"
	r.Image.Platform.OS = "vandal"
}

func refused(t *testing.T, s memo.Store) {
	for name, change := range map[string]func(*memo.Record){
		"no key":            func(r *memo.Record) { r.Key = "" },
		"path as key":       func(r *memo.Record) { r.Key = "sha256:../../../../etc/passwd" },
		"short key":         func(r *memo.Record) { r.Key = "sha256:abc" },
		"other algorithm":   func(r *memo.Record) { r.Key = digest.SHA512.FromString("a") },
		"no kind":           func(r *memo.Record) { r.Kind = "" },
		"unknown kind":      func(r *memo.Record) { r.Kind = "fish" },
		"no image":          func(r *memo.Record) { r.Image = nil },
		"image of nothing":  func(r *memo.Record) { r.Image.Digest = "" },
		"negative size":     func(r *memo.Record) { r.Size = -1 },
		"file of nothing":   func(r *memo.Record) { r.Kind, r.Digest = memo.KindFile, "" },
		"bad digest":        func(r *memo.Record) { r.Digest = "sha256:zz" },
		"not UTF-8":         func(r *memo.Record) { r.Names = []string{"\xff"} },
		"parts of no size":  func(r *memo.Record) { r.PartsDigest = Key(1) },
		"parts of a number": func(r *memo.Record) { r.PartsSize = 4 },
	} {
		r := Record(1)
		change(r)
		if err := s.Put(t.Context(), r); err == nil {
			t.Errorf("%s: put", name)
		}
	}
	for _, key := range []digest.Digest{"", "sha256:abc", "sha256:../x"} {
		if _, err := s.Get(t.Context(), key); err == nil || errors.Is(err, memo.ErrNotFound) {
			t.Errorf("Get of %q: %v, want another error", key, err)
		}
	}
	if _, err := s.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("after refusals: %v, want ErrNotFound", err)
	}
}

func tooLarge(t *testing.T, s memo.Store) {
	r := Record(1)
	r.Metadata["big"] = strings.Repeat("x", memo.MaxRecord)
	if err := s.Put(t.Context(), r); !errors.Is(err, memo.ErrTooLarge) {
		t.Errorf("large record: %v, want ErrTooLarge", err)
	}
	r = Record(1)
	r.Parts = make([]byte, memo.MaxParts+1)
	if err := s.Put(t.Context(), r); !errors.Is(err, memo.ErrTooLarge) {
		t.Errorf("large parts: %v, want ErrTooLarge", err)
	}
	if _, err := s.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("after refusals: %v, want ErrNotFound", err)
	}
	// What is just within the bounds fits.
	r = Record(1)
	r.Metadata["big"] = strings.Repeat("x", memo.MaxRecord-4000)
	r.Parts = make([]byte, memo.MaxParts)
	put(t, s, r)
	same(t, s, r)
	if p, err := memo.Parts(t.Context(), s, get(t, s, Key(1))); err != nil || len(p) != memo.MaxParts {
		t.Errorf("parts: %d bytes, %v", len(p), err)
	}
}

func cancelled(t *testing.T, s memo.Store) {
	put(t, s, Record(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, Key(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want context.Canceled", err)
	}
	if err := s.Put(ctx, Record(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want context.Canceled", err)
	}
	same(t, s, Record(1))
	if _, err := s.Get(t.Context(), Key(2)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("after a cancelled Put: %v, want ErrNotFound", err)
	}
}

// concurrentWriters fight for one key, beside readers; each also writes its own.
func concurrentWriters(t *testing.T, s memo.Store) {
	const writers, rounds = 16, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				shared := WithParts(Record(0), 100+w)
				shared.Size, shared.Names = int64(w), make([]string, w)
				if err := s.Put(t.Context(), shared); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
				if err := s.Put(t.Context(), Record(1000+w*rounds+i)); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
				r, err := s.Get(t.Context(), Key(0))
				if err != nil || len(r.Names) != int(r.Size) || r.PartsSize != 100+r.Size {
					t.Errorf("reader %d: %v, %v", w, r, err)
				}
			}
		})
	}
	wg.Wait()
	for n := range writers * rounds {
		same(t, s, Record(1000+n))
	}
	r := get(t, s, Key(0))
	if r == nil {
		return
	}
	if p, err := memo.Parts(t.Context(), s, r); err != nil || int64(len(p)) != 100+r.Size {
		t.Errorf("parts of the last: %d bytes, %v", len(p), err)
	}
}

func list(t *testing.T, s memo.Store) {
	l, ok := s.(memo.Lister)
	if !ok {
		t.Skip("not a Lister")
	}
	for e, err := range l.List(t.Context()) {
		t.Errorf("an empty store lists %+v, %v", e, err)
	}
	for n := range 5 {
		put(t, s, WithParts(Record(n), n*1000))
	}
	got := map[digest.Digest]bool{}
	for e, err := range l.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[e.Record.Key] = true
		if e.Size <= e.Record.PartsSize || time.Since(e.Used) > time.Hour {
			t.Errorf("%s: size %d, parts %d, used %s", e.Record.Key, e.Size, e.Record.PartsSize, e.Used)
		}
	}
	if len(got) != 5 || !got[Key(0)] || !got[Key(4)] {
		t.Errorf("got %v", got)
	}
	for _, err := range l.List(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break // stores must bear that
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range l.List(ctx) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled: %v", last)
	}
}

func remove(t *testing.T, s memo.Store) {
	d, ok := s.(memo.Deleter)
	if !ok {
		t.Skip("not a Deleter")
	}
	put(t, s, Record(1))
	put(t, s, Record(2))
	if err := d.Delete(t.Context(), Key(1)); err != nil {
		t.Error(err)
	}
	if err := d.Delete(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("second time: %v, want ErrNotFound", err)
	}
	if _, err := s.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	same(t, s, Record(2))
}

func prune(t *testing.T, s memo.Store) {
	p, ok := s.(memo.Pruner)
	if !ok {
		t.Skip("not a Pruner")
	}
	for n := range 6 {
		put(t, s, WithParts(Record(n), 10_000))
	}
	step := func(l memo.Limits, removed, left int) {
		t.Helper()
		got, err := p.Prune(t.Context(), l)
		if err != nil || got.Removed != removed || got.Left != left {
			t.Errorf("Prune(%+v) = %+v, %v, want %d removed, %d left", l, got, err, removed, left)
		}
		if got.LeftBytes < int64(left)*10_000 || got.RemovedBytes < int64(removed)*10_000 || got.LeftBytes > int64(left)*20_000 {
			t.Errorf("Prune(%+v) = %+v", l, got)
		}
	}
	step(memo.Limits{}, 0, 6)
	step(memo.Limits{MaxAge: time.Hour, MaxSize: 1 << 20}, 0, 6)
	step(memo.Limits{MaxSize: 50_000}, 2, 4)
	step(memo.Limits{MaxSize: 50_000}, 0, 4)
	step(memo.Limits{All: true}, 4, 0)
	step(memo.Limits{All: true}, 0, 0)
	for n := range 6 {
		if _, err := s.Get(t.Context(), Key(n)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("record %d: %v, want ErrNotFound", n, err)
		}
	}
}

func put(t *testing.T, s memo.Store, r *memo.Record) {
	t.Helper()
	if err := s.Put(t.Context(), r); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(t *testing.T, s memo.Store, key digest.Digest) *memo.Record {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if err != nil {
		t.Errorf("Get: %v", err)
		return nil
	}
	return r
}

// same compares what s has with want, apart from Parts.
func same(t *testing.T, s memo.Store, want *memo.Record) {
	t.Helper()
	got := get(t, s, want.Key)
	if got == nil {
		return
	}
	w := *want
	if w.Parts != nil {
		w.PartsDigest, w.PartsSize, w.Parts = digest.FromBytes(w.Parts), int64(len(w.Parts)), nil
	}
	if diff := cmp.Diff(&w, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}
