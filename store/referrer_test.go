package store

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// putReferrer writes a manifest that says something about a subject.
func putReferrer(t testing.TB, s *Store, subject ocispecs.Descriptor, says string) ocispecs.Descriptor {
	t.Helper()
	m := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, ArtifactType: "application/vnd.test",
		Config:      putBlob(t, s, []byte("{}"), ocispecs.MediaTypeEmptyJSON),
		Layers:      []ocispecs.Descriptor{putBlob(t, s, []byte(says), "text/plain")},
		Subject:     &ocispecs.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: map[string]string{"says": says},
	}
	return putBlob(t, s, must[[]byte](t)(json.Marshal(m)), m.MediaType)
}

// attached is a store with an image of two referrers, one of which has one itself.
func attached(t *testing.T, imageName string) (s *Store, image ocispecs.Descriptor, referrers []ocispecs.Descriptor) {
	t.Helper()
	s = openStore(t)
	image = putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, image, imageName)
	one, two := putReferrer(t, s, image, "one"), putReferrer(t, s, image, "two")
	for _, d := range []ocispecs.Descriptor{one, two, putReferrer(t, s, one, "about one")} {
		if !must[bool](t)(s.Attach(t.Context(), d)) {
			t.Fatal("it is attached already")
		}
	}
	if must[bool](t)(s.Attach(t.Context(), one)) {
		t.Error("attached twice")
	}
	referrers = must[[]ocispecs.Descriptor](t)(s.Referrers(t.Context(), image.Digest))
	if len(referrers) != 2 || referrers[0].Annotations["says"] == referrers[1].Annotations["says"] || referrers[0].ArtifactType != "application/vnd.test" {
		t.Fatalf("referrers %+v", referrers)
	}
	return s, image, referrers
}

func TestReferrersAreNoImages(t *testing.T) {
	s, _, _ := attached(t, "app")
	list := must[[]Summary](t)(s.Images(t.Context(), ListOptions{}))
	if len(list) != 1 || list[0].Name != "docker.io/library/app:latest" {
		t.Errorf("images %+v", list)
	}
	in := must[*Inspection](t)(s.Inspect(t.Context(), "app"))
	if len(in.Others) != 2 || in.Others[0].For != in.Descriptor.Digest {
		t.Errorf("others %+v", in.Others)
	}
}

func TestAttachMistakes(t *testing.T) {
	s := openStore(t)
	image := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	if _, err := s.Attach(t.Context(), image); err == nil || !strings.Contains(err.Error(), "it has no subject") {
		t.Errorf("attaching an image: %v", err)
	}
	gone := ocispecs.Descriptor{MediaType: image.MediaType, Digest: image.Digest.Algorithm().FromString("gone"), Size: 4}
	if _, err := s.Attach(t.Context(), putReferrer(t, s, gone, "x")); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("attaching to what is not there: %v", err)
	}
}

// TestGCReferrers: referrers stay as long as their subject and no longer, also those
// of referrers.
func TestGCReferrers(t *testing.T) {
	s, image, referrers := attached(t, "app")
	collect := func(p GCPolicy) GCReport {
		t.Helper()
		p.Grace = -1
		return must[GCReport](t)(s.GC(t.Context(), p))
	}
	if r := collect(GCPolicy{Untagged: true}); r.Blobs != 0 || r.Untagged != 0 {
		t.Errorf("of what is in use, this went: %+v", r)
	}
	must[Removed](t)(s.Remove(t.Context(), "app"))
	if r := collect(GCPolicy{DryRun: true}); r.Blobs == 0 || len(must[[]ocispecs.Descriptor](t)(s.Referrers(t.Context(), image.Digest))) != 2 {
		t.Errorf("a dry run: %+v", r)
	}
	if r := collect(GCPolicy{Keep: []digest.Digest{image.Digest}}); r.Blobs != 0 {
		t.Errorf("of what is to be kept, this went: %+v", r)
	}
	collect(GCPolicy{})
	for _, d := range append(referrers, image) {
		if s.has(d.Digest) {
			t.Errorf("%s is still there", d.Digest)
		}
	}
	if idx := must[*ocispecs.Index](t)(s.readIndex()); len(idx.Manifests) != 0 {
		t.Errorf("the index still has %+v", idx.Manifests)
	}
}

// TestPushReferrers pushes to registries that keep the list of referrers and to those
// that do not, twice.
func TestPushReferrers(t *testing.T) {
	for _, lists := range []bool{true, false} {
		srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(lists)))
		defer srv.Close()
		to := srv.Listener.Addr().String() + "/app:1"
		s, image, referrers := attached(t, to)
		for range 2 {
			must[Pushed](t)(s.Push(t.Context(), to, PushOptions{}))
		}
		ref := must[name.Reference](t)(name.ParseReference(to)).Context().Digest(image.Digest.String())
		idx, err := remote.Referrers(ref)
		if err != nil {
			t.Fatal(err)
		}
		m, err := idx.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, d := range m.Manifests {
			got = append(got, d.Digest.String()+d.Annotations["says"])
			if !lists && d.ArtifactType != "application/vnd.test" { // the registry for tests tells another
				t.Errorf("the tag tells of %+v", d)
			}
		}
		for _, d := range referrers {
			want = append(want, d.Digest.String()+d.Annotations["says"])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("a registry with lists of its own %v: got %v, want %v", lists, got, want)
		}
		tags := must[[]string](t)(remote.List(ref.Context()))
		if slices.Contains(tags, strings.Replace(image.Digest.String(), ":", "-", 1)) == lists {
			t.Errorf("a registry with lists of its own %v has the tags %v", lists, tags)
		}
	}
}

func TestSaveReferrers(t *testing.T) {
	s, image, referrers := attached(t, "app")
	var oci, docker bytes.Buffer
	if err := s.Save(t.Context(), &oci, []string{"app"}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), &docker, []string{"app"}, SaveOptions{Format: FormatDocker}); err != nil {
		t.Fatal(err)
	}
	other := openStore(t)
	if list := must[[]Loaded](t)(other.Load(t.Context(), &oci, LoadOptions{})); len(list) != 1 {
		t.Errorf("loaded %+v", list)
	}
	got := must[[]ocispecs.Descriptor](t)(other.Referrers(t.Context(), image.Digest))
	if len(got) != 2 || got[0].Digest != referrers[0].Digest || got[1].ArtifactType != referrers[1].ArtifactType {
		t.Errorf("loaded referrers %+v, want %+v", got, referrers)
	}
	if got := must[[]ocispecs.Descriptor](t)(other.Referrers(t.Context(), referrers[0].Digest)); len(got)+len(must[[]ocispecs.Descriptor](t)(other.Referrers(t.Context(), referrers[1].Digest))) != 1 {
		t.Errorf("what refers to referrers is %+v", got)
	}
	third := openStore(t)
	must[[]Loaded](t)(third.Load(t.Context(), &docker, LoadOptions{}))
	if got := must[[]ocispecs.Descriptor](t)(third.Referrers(t.Context(), image.Digest)); len(got) != 0 {
		t.Errorf("an archive for docker has %+v", got)
	}
}
