package store

import (
	"errors"
	"os"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCompleteAndNamed(t *testing.T) {
	s := openStore(t)
	img := putImage(t, s, randomImage(t, 100, 2, "linux/amd64"))
	importAs(t, s, img, "example.com/a:1")
	other := ocispecs.Descriptor{MediaType: img.MediaType, Digest: digest.FromString("another"), Size: img.Size}
	if err := s.Complete(t.Context(), img); err != nil {
		t.Error(err)
	}
	if err := s.Complete(t.Context(), other); !errors.Is(err, ErrMissing) {
		t.Errorf("of an image that is not there: got %v", err)
	}
	for _, tt := range []struct {
		desc  ocispecs.Descriptor
		names []string
		want  bool
	}{
		{img, nil, true},
		{img, []string{"example.com/a:1"}, true},
		{img, []string{"example.com/a:1", "example.com/b:1"}, false},
		{other, nil, false},
		{other, []string{"example.com/a:1"}, false},
		{img, []string{"!"}, false},
	} {
		if got := s.Named(tt.desc, tt.names...); got != tt.want {
			t.Errorf("%s %v: got %v", tt.desc.Digest, tt.names, got)
		}
	}
	// What another process changes is seen.
	if err := s.Tag(t.Context(), "example.com/a:1", "example.com/b:1"); err != nil {
		t.Fatal(err)
	}
	if !s.Named(img, "example.com/b:1") {
		t.Error("a name that was given meanwhile is not seen")
	}
	if _, err := s.Remove(t.Context(), "example.com/a:1"); err != nil {
		t.Fatal(err)
	}
	if s.Named(img, "example.com/a:1") {
		t.Error("a name that was removed meanwhile is still seen")
	}
	if err := os.Remove(s.blobPath(img.Digest)); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(t.Context(), img); !errors.Is(err, ErrMissing) {
		t.Errorf("without its manifest: got %v", err)
	}
}
