package engine

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
)

func TestMemoRecords(t *testing.T) {
	ctx, state := t.Context(), t.TempDir()
	e, err := Open(ctx, Config{StateDir: state, Memo: []string{"local"}})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := e.Memo(ctx); err != nil || len(list) != 0 {
		t.Fatalf("an empty memo lists %v, %v", list, err)
	}
	d := &memo.Dir{Path: filepath.Join(state, "memo")}
	image := digest.FromString("image")
	for i, r := range []*memo.Record{
		{Kind: memo.KindImage, Image: &ocispecs.Descriptor{Digest: image}, Names: []string{"docker.io/library/app:1"}},
		{Kind: memo.KindDir, Digest: digest.FromString("dir")},
	} {
		r.Key, r.Created = digest.FromString(r.Kind), time.Now().Add(time.Duration(i)*time.Hour)
		if err := d.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	list, err := e.Memo(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("got %v, %v", list, err)
	}
	for _, r := range list {
		want := digest.FromString("dir")
		if r.Kind == memo.KindImage {
			want = image
		}
		if r.Digest != want || r.Size == 0 || r.Created.IsZero() || r.Key != digest.FromString(r.Kind) {
			t.Errorf("got %+v", r)
		}
	}
	if p, err := e.PruneMemo(ctx, MemoLimits{}); err != nil || p.Removed != 0 || p.Left != 2 {
		t.Errorf("pruning what is fresh gave %+v, %v", p, err)
	}
	if p, err := e.PruneMemo(ctx, MemoLimits{All: true}); err != nil || p.Removed != 2 || p.Left != 0 || p.RemovedBytes == 0 {
		t.Errorf("pruning all gave %+v, %v", p, err)
	}
	for _, spec := range []string{"off", "registry=r.example/memo"} {
		e, err := Open(ctx, Config{StateDir: state, Memo: []string{spec}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Memo(ctx)
		var in *InputError
		if !errors.As(err, &in) {
			t.Errorf("memo %s: got %v, want an InputError", spec, err)
		}
	}
}

func TestOpenChecksTheMemo(t *testing.T) {
	_, err := Open(t.Context(), Config{Memo: []string{"nowhere"}})
	var in *InputError
	if !errors.As(err, &in) {
		t.Errorf("got %v, want an InputError", err)
	}
}
