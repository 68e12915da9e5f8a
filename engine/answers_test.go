package engine

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifests gives the media types of an image in a registry, in an archive and in the
// store, with their digests.
type manifests struct{ t *testing.T }

func (m manifests) registry(url string) (string, digest.Digest) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.Header.Get("Content-Type"), digest.FromBytes(data)
}

func (m manifests) archive(name string) (string, digest.Digest) {
	m.t.Helper()
	var idx ocispecs.Index
	for _, line := range outputText(m.t, name, false) {
		if text, ok := strings.CutPrefix(line, "index.json "); ok {
			if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &idx); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	if len(idx.Manifests) == 0 {
		m.t.Fatalf("%s has no index", name)
	}
	return idx.Manifests[0].MediaType, idx.Manifests[0].Digest
}

func (m manifests) store(e *Engine, ref string) (string, digest.Digest) {
	m.t.Helper()
	s, err := e.Store()
	if err != nil {
		m.t.Fatal(err)
	}
	desc, err := s.Resolve(m.t.Context(), ref)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := s.Verify(m.t.Context(), ref); err != nil {
		m.t.Error(err)
	}
	if _, err := s.Inspect(m.t.Context(), ref); err != nil {
		m.t.Error(err)
	}
	return desc.MediaType, desc.Digest
}

// TestOutputsOfSeveralForms: the daemon has one answer for all exporters of a call.
func TestOutputsOfSeveralForms(t *testing.T) {
	t.Parallel()
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	host, is, r := strings.TrimPrefix(srv.URL, "http://"), manifests{t}, newRestoring(t)
	out := t.TempDir()
	dockerTypes := map[string]string{"oci-mediatypes": "false"}
	dockerTar := Output{Type: OutputDocker, Dest: filepath.Join(out, "docker.tar"), Attrs: dockerTypes}
	// Another compression would do only where the daemon makes the other one first.
	annotatedTar := Output{Type: OutputOCI, Dest: filepath.Join(out, "annotated.tar"), Attrs: map[string]string{"annotation.form": "another"}}
	ociTar := Output{Type: OutputOCI, Dest: filepath.Join(out, "oci.tar")}
	pushed := Output{Type: OutputImage, Attrs: map[string]string{"push": "true", "oci-mediatypes": "false"}}
	stored := Output{Type: OutputStore}
	req := Request{Context: project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": t.Name()}), Tags: []string{host + "/app:1"}}

	req.Outputs = []Output{stored, ociTar, pushed, dockerTar, annotatedTar}
	first, err := r.built.Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if mt, d := is.store(r.built, req.Tags[0]); mt != ocispecs.MediaTypeImageManifest || d != first.Digest {
		t.Errorf("the store has %s %s, the build gave %s", mt, d, first.Digest)
	}
	if mt, _ := is.registry(srv.URL + "/v2/app/manifests/1"); mt != docker {
		t.Errorf("the registry has %s", mt)
	}
	if mt, d := is.archive(ociTar.Dest); mt != ocispecs.MediaTypeImageManifest || d != first.Digest {
		t.Errorf("the archive has %s %s, the build gave %s", mt, d, first.Digest)
	}
	if mt, _ := is.archive(dockerTar.Dest); mt != docker {
		t.Errorf("docker's archive has %s", mt)
	}

	// Without a daemon it is known what is there, and made what the store's image is.
	req.Outputs = []Output{dockerTar, stored, ociTar, annotatedTar}
	if res, err := r.bare.Build(t.Context(), req); err != nil || res.Changed || res.Restored || res.Digest != first.Digest {
		t.Errorf("once more: %+v, %v; want digest %s", res, err, first.Digest)
	}
	if why, err := r.built.Why(t.Context(), req, ""); err != nil || !why.Same {
		t.Errorf("why: %+v, %v", why, err)
	}
	if err := os.Remove(ociTar.Dest); err != nil {
		t.Fatal(err)
	}
	if res, err := r.bare.Build(t.Context(), req); err != nil || !res.Restored || res.Digest != first.Digest {
		t.Errorf("the archive of the store's image: %+v, %v", res, err)
	}
	if _, d := is.archive(ociTar.Dest); d != first.Digest {
		t.Errorf("the archive was restored with %s, want %s", d, first.Digest)
	}
	// Images of another form are not made of the store's: docker's is in the registry, the other one is nowhere.
	for _, o := range []Output{dockerTar, annotatedTar} {
		_, want := is.archive(o.Dest)
		req.Outputs = []Output{o}
		if res, err := r.bare.Build(t.Context(), req); err != nil || res.Changed || res.Restored || res.Digest != want {
			t.Errorf("%s alone: %+v, %v, want digest %s", o.Dest, res, err, want)
		}
		if err := os.Remove(o.Dest); err != nil {
			t.Fatal(err)
		}
		res, err := r.bare.Build(t.Context(), req)
		if o.Type == OutputOCI {
			if err == nil {
				t.Errorf("%s: it was made without a daemon: %+v", o.Dest, res)
			}
			continue
		}
		if err != nil || !res.Restored || res.Digest != want {
			t.Errorf("%s: %+v, %v, want digest %s", o.Dest, res, err, want)
		}
		if _, d := is.archive(o.Dest); d != want {
			t.Errorf("%s was restored with %s, want %s", o.Dest, d, want)
		}
	}
	req.Outputs = []Output{pushed}
	if res, err := r.bare.Build(t.Context(), req); err == nil {
		t.Errorf("what was pushed is known: %+v", res)
	}
	// A push that is the only image is remembered with what it is.
	res, err := r.built.Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	mt, d := is.registry(srv.URL + "/v2/app/manifests/1")
	if again, err := r.bare.Build(t.Context(), req); mt != docker || d != res.Digest || err != nil || again.Changed || again.Digest != d {
		t.Errorf("the registry has %s %s, the build gave %s, once more %+v, %v", mt, d, res.Digest, again, err)
	}
}
