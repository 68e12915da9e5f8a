package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// attestations are the statements of an index, by platform and predicate type.
func attestations(t testing.TB, index v1.ImageIndex) map[string]string {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	platforms := map[string]string{}
	out := map[string]string{}
	for _, d := range m.Manifests {
		if d.Annotations["vnd.docker.reference.type"] == "" {
			platforms[d.Digest.String()] = d.Platform.Architecture
		}
	}
	for _, d := range m.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
			continue
		}
		platform, known := platforms[d.Annotations["vnd.docker.reference.digest"]]
		if !known {
			t.Errorf("attestation %s is for %s, which is not in the index", d.Digest, d.Annotations["vnd.docker.reference.digest"])
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			rc, err := l.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(rc)
			rc.Close()
			if err != nil {
				t.Fatal(err)
			}
			var statement struct {
				PredicateType string `json:"predicateType"`
				Subject       []any  `json:"subject"`
			}
			if err := json.Unmarshal(data, &statement); err != nil {
				t.Fatal(err)
			}
			if len(statement.Subject) == 0 {
				t.Errorf("a statement of type %s has no subject", statement.PredicateType)
			}
			out[platform+" "+statement.PredicateType] = string(data)
		}
	}
	return out
}

func keysOf(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func TestEngineAttestations(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	text := "FROM busybox AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN echo " + t.Name() + " > /x\nFROM scratch\nCOPY --from=build /x /x\n"
	dir := files{"Dockerfile": text}.dir(t)
	scanner := "generator=" + l.Ref("lab/sbom-scanner")
	for i, c := range []struct {
		attests map[string]string
		want    []string
		max     bool
	}{
		{attests: map[string]string{"provenance": ""}, want: []string{"provenance"}, max: true},
		{attests: map[string]string{"provenance": "mode=min"}, want: []string{"provenance"}},
		{attests: map[string]string{"sbom": scanner}, want: []string{"spdx"}},
		{attests: map[string]string{"sbom": scanner, "provenance": "mode=max"}, want: []string{"provenance", "spdx"}, max: true},
		{attests: map[string]string{"sbom": "disabled=true," + scanner, "provenance": "disabled=true"}},
	} {
		tag := fmt.Sprintf("%s/attest/case:%d", l.Addr(), i)
		res := build(t, e, engine.Request{Context: dir, Attests: c.attests, Tags: []string{tag}, Platforms: []string{"linux/amd64"},
			Push: true, Outputs: []engine.Output{{Type: engine.OutputStore}}})
		desc := remoteDescriptor(t, l.Registry, tag)
		if desc.Digest.String() != res.Digest.String() {
			t.Errorf("%v: the registry has %s, the build gave %s", c.attests, desc.Digest, res.Digest)
		}
		if len(c.want) == 0 {
			if desc.MediaType.IsIndex() {
				t.Errorf("%v: got an index", c.attests)
			}
			continue
		}
		index, err := desc.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		inRegistry := attestations(t, index)
		got := keysOf(inRegistry)
		if len(got) != len(c.want) {
			t.Fatalf("%v: got %v, want %v", c.attests, got, c.want)
		}
		for i, want := range c.want {
			if !strings.Contains(got[len(got)-1-i]+got[i], want) {
				t.Errorf("%v: got %v, want %v", c.attests, got, c.want)
			}
		}
		s, err := e.Store()
		if err != nil {
			t.Fatal(err)
		}
		stored, err := s.Index(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "store", attestations(t, stored), inRegistry)
		all := strings.Join(slices.Collect(maps.Values(inRegistry)), "")
		if slices.Contains(c.want, "provenance") {
			if has := strings.Contains(all, "llbDefinition") && strings.Contains(all, "Dockerfile"); has != c.max {
				t.Errorf("%v: the provenance tells of the build file: %v, want %v", c.attests, has, c.max)
			}
		}
		if slices.Contains(c.want, "spdx") && !strings.Contains(all, `"fileName":"x"`) {
			t.Errorf("%v: the list of contents lacks the file: %s", c.attests, all)
		}
		if len(c.attests) == 1 {
			continue
		}
		if theirs := keysOf(referenceAttestations(t, dir, tag+"-reference", c.attests)); !slices.Equal(got, theirs) {
			t.Errorf("%v: got %v, BuildKit's own frontend has %v", c.attests, got, theirs)
		}
	}
}

// referenceAttestations builds the directory with the daemon's own frontend.
func referenceAttestations(t *testing.T, dir, tag string, attests map[string]string) map[string]string {
	t.Helper()
	o := client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: map[string]string{"platform": "linux/amd64"},
		SharedKey:     dir,
		LocalMounts:   map[string]fsutil.FS{"context": mountDir(t, dir), "dockerfile": mountDir(t, dir)},
		Exports:       []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{"name": tag, "push": "true"}}},
	}
	for k, v := range attests {
		o.FrontendAttrs["attest:"+k] = v
	}
	if _, err := buildkit(t).Solve(t.Context(), nil, o, nil); err != nil {
		t.Fatal(err)
	}
	index, err := remoteDescriptor(t, labtest.Start(t).Registry, tag).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	return attestations(t, index)
}

func TestEngineAttestationMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	attest := func(k, v string) engine.Request {
		return engine.Request{Context: dir, Attests: map[string]string{k: v}, Outputs: []engine.Output{{Type: engine.OutputStore}}}
	}
	mustBeInput(t, buildFails(t, e, attest("slsa", "")), `attestation "slsa"`)
	mustBeInput(t, buildFails(t, e, attest("provenance", "mode=most")), `attestation provenance: mode "most" is neither min nor max`)
	err := buildFails(t, e, attest("sbom", "generator="+l.Ref("lab/nosuch-scanner")))
	mustSay(t, err, "lab/nosuch-scanner")
	mustSay(t, err, "not found")
}

// TestEngineAttestPlatforms has attestations for each platform.
func TestEngineAttestPlatforms(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	build(t, e, engine.Request{Context: dir, Tags: []string{"both"}, Platforms: []string{"linux/amd64", "linux/arm64"},
		Attests: map[string]string{"provenance": "mode=min", "sbom": "generator=" + labtest.Start(t).Ref("lab/sbom-scanner")}})
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	index, err := s.Index(t.Context(), "both")
	if err != nil {
		t.Fatal(err)
	}
	if got := keysOf(attestations(t, index)); len(got) != 4 || !strings.HasPrefix(got[0], "amd64 ") || !strings.HasPrefix(got[3], "arm64 ") {
		t.Errorf("got %v, want two for each platform", got)
	}
}
