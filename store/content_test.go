package store

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestContentRoundTrip(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putBlob(t, s, []byte("hello"), "text/plain")
	b, err := content.ReadBlob(ctx, s.Content(), d)
	if err != nil || string(b) != "hello" {
		t.Fatalf("got %q, %v", b, err)
	}
	info, err := s.Content().Info(ctx, d.Digest)
	if err != nil || info.Size != 5 {
		t.Errorf("got %+v, %v", info, err)
	}
	// What BuildKit's export asks first: nothing may be sent again.
	_, err = s.Content().Writer(ctx, content.WithRef("x"), content.WithDescriptor(d))
	if !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v, want already exists", err)
	}
	var walked []digest.Digest
	if err := s.Content().Walk(ctx, func(i content.Info) error { walked = append(walked, i.Digest); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(walked, []digest.Digest{d.Digest}) {
		t.Errorf("walked %v", walked)
	}
	if err := s.Content().Delete(ctx, d.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Content().Info(ctx, d.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
	if err := s.Content().Delete(ctx, d.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
	if _, err := s.Content().ReaderAt(ctx, d); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestCommitRefuses(t *testing.T) {
	hello := digest.FromString("hello")
	for _, tt := range []struct {
		name     string
		desc     ocispecs.Descriptor
		size     int64
		expected digest.Digest
		resumes  bool
	}{
		{"another size", ocispecs.Descriptor{}, 6, hello, true},
		{"another digest", ocispecs.Descriptor{}, 5, digest.FromString("other"), true},
		{"another digest than declared", ocispecs.Descriptor{Digest: digest.FromString("other")}, 5, "", false},
		{"another digest of another kind", ocispecs.Descriptor{}, 5, digest.SHA512.FromString("other"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := openStore(t), context.Background()
			w, err := s.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(tt.desc))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(ctx, tt.size, tt.expected); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("got %v, want failed precondition", err)
			}
			if _, err := w.Write([]byte("more")); err == nil {
				t.Error("the writer is still open")
			}
			if _, err := s.Content().Info(ctx, hello); !errdefs.IsNotFound(err) {
				t.Errorf("got %v, want not found", err)
			}
			_, err = s.Content().Status(ctx, "r")
			if resumes := err == nil; resumes != tt.resumes {
				t.Errorf("got %v, want to be resumable: %v", err, tt.resumes)
			}
		})
	}
}

func TestCommitOtherAlgorithm(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	want := digest.NewDigestFromBytes(digest.SHA512, func() []byte { h := sha512.Sum512([]byte("hello")); return h[:] }())
	w := must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("r")))
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, 5, want); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(s.Dir(), "blobs", "sha512", want.Encoded())); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestOutputWaits: of two exports of one blob the second waits for the first, and takes
// over what that leaves.
func TestOutputWaits(t *testing.T) {
	s := openStore(t)
	desc := ocispecs.Descriptor{Digest: digest.FromString("hello"), Size: 5}
	open := func(ctx context.Context) (content.Writer, error) {
		return s.Output().Writer(ctx, content.WithRef("r"), content.WithDescriptor(desc))
	}
	for _, tt := range []struct {
		name string
		end  func(w content.Writer) error
		want func(w content.Writer, err error) bool
	}{
		{"given up", content.Writer.Close, func(w content.Writer, err error) bool {
			if err != nil {
				return false
			}
			st, err := w.Status()
			return err == nil && st.Offset == 3 && w.Close() == nil
		}},
		{"committed", func(w content.Writer) error {
			if _, err := w.Write([]byte("lo")); err != nil {
				return err
			}
			return w.Commit(t.Context(), desc.Size, desc.Digest)
		}, func(_ content.Writer, err error) bool { return errdefs.IsAlreadyExists(err) }},
	} {
		first := must[content.Writer](t)(open(t.Context()))
		if st, err := first.Status(); err != nil {
			t.Fatal(err)
		} else if st.Offset == 0 {
			must[int](t)(first.Write([]byte("hel")))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		impatient := errors.New("impatient")
		cancel(impatient)
		if _, err := open(ctx); !errors.Is(err, impatient) {
			t.Errorf("%s: who does not wait got %v", tt.name, err)
		}
		type answer struct {
			w   content.Writer
			err error
		}
		second := make(chan answer)
		go func() {
			w, err := open(t.Context())
			second <- answer{w, err}
		}()
		select {
		case a := <-second:
			t.Fatalf("%s: the second did not wait: %v", tt.name, a.err)
		case <-time.After(20 * time.Millisecond): // so that it has come to wait
		}
		if err := tt.end(first); err != nil {
			t.Fatal(err)
		}
		if a := <-second; !tt.want(a.w, a.err) {
			t.Errorf("%s: the second got %v", tt.name, a.err)
		}
	}
}

func TestWriterRefs(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	if _, err := s.Content().Writer(ctx); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no ref: got %v", err)
	}
	if _, err := s.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(ocispecs.Descriptor{Digest: "sha256:../../x"})); !errdefs.IsInvalidArgument(err) {
		t.Errorf("hostile digest: got %v", err)
	}
	w := must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("r")))
	if _, err := s.Content().Writer(ctx, content.WithRef("r")); !errdefs.IsUnavailable(err) {
		t.Errorf("second writer: got %v, want unavailable", err)
	}
	if _, err := w.Write([]byte("hel")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	w = must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("r")))
	if st, err := w.Status(); err != nil || st.Offset != 3 {
		t.Errorf("resumed at %+v, %v", st, err)
	}
	if _, err := w.Write([]byte("lo")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, 5, digest.FromString("hello")); err != nil {
		t.Error(err)
	}
	if list, err := s.Content().ListStatuses(ctx); err != nil || len(list) != 0 {
		t.Errorf("ingests left: %v, %v", list, err)
	}

	w = must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("q")))
	if err := s.Content().Abort(ctx, "q"); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("writing to an aborted ingest works")
	}
	w.Close()
	if err := s.Content().Abort(ctx, "q"); !errdefs.IsNotFound(err) {
		t.Errorf("aborting twice: got %v", err)
	}
	if files, _ := filepath.Glob(s.private(sessionsDir, "*", "[0-9]*")); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
}

// Two processes are two Stores: each writes its own file.
func TestTwoStoresOneRef(t *testing.T) {
	a, ctx := openStore(t), context.Background()
	b := must[*Store](t)(Open(a.Dir()))
	defer b.Close()
	d := ocispecs.Descriptor{Digest: digest.FromString("hello"), Size: 5}
	wa := must[content.Writer](t)(a.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(d)))
	wb := must[content.Writer](t)(b.Content().Writer(ctx, content.WithRef("r"), content.WithDescriptor(d)))
	for _, part := range []string{"he", "llo"} {
		for _, w := range []content.Writer{wa, wb} {
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := wa.Commit(ctx, 5, d.Digest); err != nil {
		t.Error(err)
	}
	if err := wb.Commit(ctx, 5, d.Digest); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v, want already exists", err)
	}
	checkBlobs(t, a)
}

func TestCloseDropsIngests(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	w := must[content.Writer](t)(s.Content().Writer(ctx, content.WithRef("r")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("writing after Close works")
	}
	if _, err := s.Content().Writer(ctx, content.WithRef("s")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v, want failed precondition", err)
	}
	if left, _ := os.ReadDir(s.private(sessionsDir)); len(left) != 0 {
		t.Errorf("sessions left: %v", left)
	}
}

// A blob cut off by a failing disk counts as absent when its size is known, and
// the next writer mends it.
func TestTruncatedBlobIsReplaced(t *testing.T) {
	s := openStore(t)
	d := putBlob(t, s, []byte("hello"), "text/plain")
	if err := os.Truncate(s.blobPath(d.Digest), 2); err != nil {
		t.Fatal(err)
	}
	putBlob(t, s, []byte("hello"), "text/plain")
	checkBlobs(t, s)
}

func TestReliedUponBlobGetsYounger(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putBlob(t, s, []byte("hello"), "text/plain")
	old := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(s.blobPath(d.Digest), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Content().Writer(ctx, content.WithRef("x"), content.WithDescriptor(d)); !errdefs.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	info := must[content.Info](t)(s.Content().Info(ctx, d.Digest))
	if time.Since(info.UpdatedAt) > time.Minute {
		t.Errorf("last used %v, want now", info.UpdatedAt)
	}
}

func TestManyWriters(t *testing.T) {
	s := openStore(t)
	errs := make(chan error)
	for i := range 32 {
		go func() {
			b := fmt.Appendf(nil, "blob %d", i%4)
			d := ocispecs.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
			errs <- content.WriteBlob(context.Background(), s.Content(), d.Digest.String(), bytes.NewReader(b), d)
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	checkBlobs(t, s)
}

func TestLockGivesUpWithContext(t *testing.T) {
	s := openStore(t)
	unlock := must[func()](t)(s.lockBlobs(context.Background(), false))
	defer unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	if _, err := s.lockBlobs(ctx, true); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
