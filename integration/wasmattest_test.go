package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// attestedC is a build that asks for all there is to be said about its result.
func attestedC(t *testing.T, tag string) engine.Request {
	t.Helper()
	req := fakeC(t, smallModule, "  output: out/app.wasm\n")
	files{"deps.lock": "what it is made of\n"}.write(t, req.Context)
	req.Attests = map[string]string{"provenance": "mode=max", "sbom": "generator=" + labtest.Start(t).Ref("lab/sbom-scanner")}
	req.Tags = []string{tag}
	return req
}

// referrersByKind pulls what refers to an artifact with ORAS: statements by the kind of their
// predicate. go-containerregistry has to find the same.
func referrersByKind(t *testing.T, tag string) map[string][]string {
	t.Helper()
	ref, err := name.ParseReference(tag)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := orasremote.NewRepository(ref.Context().Name())
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	out := map[string][]string{}
	var digests []string
	subject := ocispecs.Descriptor{MediaType: string(desc.MediaType), Digest: digest.Digest(desc.Digest.String()), Size: desc.Size}
	err = repo.Referrers(t.Context(), subject, "", func(list []ocispecs.Descriptor) error {
		for _, d := range list {
			digests = append(digests, d.Digest.String())
			raw, err := content.FetchAll(t.Context(), repo, d)
			if err != nil {
				return err
			}
			var m ocispecs.Manifest
			if err := json.Unmarshal(raw, &m); err != nil {
				return err
			}
			if m.Subject == nil || m.Subject.Digest != subject.Digest || len(m.Layers) != 1 || m.ArtifactType != "application/vnd.in-toto+json" {
				t.Errorf("the referrer is %s", raw)
				continue
			}
			text, err := content.FetchAll(t.Context(), repo, m.Layers[0])
			if err != nil {
				return err
			}
			kind := m.Annotations["in-toto.io/predicate-type"]
			out[kind] = append(out[kind], string(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	idx, err := remote.Referrers(ref.Context().Digest(desc.Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string
	for _, d := range m.Manifests {
		theirs = append(theirs, d.Digest.String())
	}
	slices.Sort(digests)
	slices.Sort(theirs)
	if diff := cmp.Diff(digests, theirs); diff != "" {
		t.Errorf("ORAS and go-containerregistry find different referrers: %s", diff)
	}
	return out
}

const (
	provenanceKind = "https://slsa.dev/provenance/v1"
	spdxKind       = "https://spdx.dev/Document"
)

// TestWasmAttestations: what was asked to be said about an artifact refers to it, in the registry, the
// store, a layout, and as files; it changes nothing of the artifact; a second build does nothing, and
// another daemon says the same.
func TestWasmAttestations(t *testing.T) {
	t.Parallel()
	l := labtest.Start(t)
	e := openEngine(t)
	tag := l.Addr() + "/wasm/attested:1"
	req := attestedC(t, tag)
	dir := t.TempDir()
	layout, plain := filepath.Join(dir, "layout"), filepath.Join(dir, "files")
	req.Push, req.Outputs = true, []engine.Output{
		{Type: engine.OutputStore}, {Type: engine.OutputOCI, Dest: layout, Attrs: map[string]string{"tar": "false"}}, {Type: engine.OutputLocal, Dest: plain},
	}
	res := build(t, e, req)
	if len(res.Wasm.Attestations) != 3 { // two scans: of the result, and of what it is made of
		t.Errorf("attestations %+v", res.Wasm.Attestations)
	}
	pulled := referrersByKind(t, tag)
	if len(pulled[provenanceKind]) != 1 || len(pulled[spdxKind]) != 2 {
		t.Fatalf("the registry has %v", pulled)
	}
	for _, text := range slices.Concat(pulled[provenanceKind], pulled[spdxKind]) {
		for _, want := range []string{res.Digest.Encoded(), `"name":"attested.wasm"`} {
			if !strings.Contains(text, want) {
				t.Errorf("a statement is not about %s: %s", want, text)
			}
		}
	}
	if all := strings.Join(pulled[spdxKind], "\n"); !strings.Contains(all, `"fileName":"deps.lock"`) || !strings.Contains(all, `"fileName":"app.wasm"`) {
		t.Errorf("the lists of contents are %s", all)
	}
	if p := pulled[provenanceKind][0]; !strings.Contains(p, "pkg:docker/busybox") || strings.Contains(p, "startedOn") || strings.Contains(p, req.Context) {
		t.Errorf("the provenance is %s", p)
	}
	checkLayout(t, layout, pulled)
	if got, err := os.ReadFile(filepath.Join(plain, "provenance.json")); err != nil || !bytes.Equal(got, []byte(pulled[provenanceKind][0])) {
		t.Errorf("the file of provenance: %v\n%s", err, got)
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Referrers(t.Context(), res.Digest); err != nil || len(list) != 3 {
		t.Errorf("the store has %+v, %v", list, err)
	}
	again := build(t, e, req)
	if diff := cmp.Diff(res.Wasm.Attestations, again.Wasm.Attestations); diff != "" || again.Changed {
		t.Errorf("the second build: changed %v, %s", again.Changed, diff)
	}

	other := req
	other.Push, other.Outputs = false, nil
	if anew := build(t, openFreshEngine(t), other); anew.Digest != res.Digest || cmp.Diff(res.Wasm.Attestations, anew.Wasm.Attestations) != "" {
		t.Errorf("another daemon made %s with %+v, want %s with %+v", anew.Digest, anew.Wasm.Attestations, res.Digest, res.Wasm.Attestations)
	}
	if err := os.RemoveAll(filepath.Join(req.Context, "out")); err != nil {
		t.Fatal(err)
	}
	other.Attests = nil
	if bare := build(t, openEngine(t), other); bare.Digest != res.Digest || len(bare.Wasm.Attestations) != 0 {
		t.Errorf("without attestations it is %s with %+v, want %s", bare.Digest, bare.Wasm.Attestations, res.Digest)
	}
}

// checkLayout looks for the referrers in an OCI layout.
func checkLayout(t *testing.T, dir string, want map[string][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispecs.Index
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, d := range index.Manifests[1:] {
		raw, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		var m ocispecs.Manifest
		if err := json.Unmarshal(raw, &m); err != nil || m.Subject == nil || m.Subject.Digest != index.Manifests[0].Digest {
			t.Fatalf("the referrer %s: %v", raw, err)
		}
		layer, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", m.Layers[0].Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		kind := d.Annotations["in-toto.io/predicate-type"]
		got[kind] = append(got[kind], string(layer))
	}
	for _, m := range []map[string][]string{got, want} {
		for _, list := range m {
			slices.Sort(list)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the layout has other referrers: %s", diff)
	}
}
