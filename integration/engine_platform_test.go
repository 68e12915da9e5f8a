package integration

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
)

// platformFile says in a file what it was built for, without running anything.
const platformFile = `FROM --platform=$BUILDPLATFORM busybox AS tool
COPY <<end /tool
tool
end
FROM scratch
ARG TARGETPLATFORM
COPY <<end /target
${TARGETPLATFORM}
end
COPY --from=tool /tool /tool
`

func TestEnginePlatforms(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": platformFile}.dir(t)
	for what, platforms := range map[string][]string{
		"list":  {"linux/amd64", "linux/arm64"},
		"comma": {"linux/amd64, linux/arm64"},
		"twice": {"linux/amd64,linux/arm64", "linux/arm64/v8", "linux/x86_64"},
	} {
		res := build(t, e, engine.Request{Context: dir, Platforms: platforms, Tags: []string{"multi:" + what},
			Annotations: map[string]string{"all": "a", "manifest[linux/arm64/v8]:arm": "64", "index:top": "t"}})
		if names := stageNames(res); !slices.Equal(names, []string{"tool", "stage-1", "stage-1"}) {
			t.Errorf("%s: got stages %v: the tool's should be shared", what, names)
		}
		s, err := e.Store()
		if err != nil {
			t.Fatal(err)
		}
		index, err := s.Index(t.Context(), "multi:"+what)
		if err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		same(t, "annotations of the index", m.Annotations, map[string]string{"top": "t"})
		var got []string
		for _, d := range m.Manifests {
			got = append(got, d.Platform.String())
			img, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := img.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"all": "a"}
			if d.Platform.Architecture == "arm64" {
				want["arm"] = "64"
			}
			same(t, "annotations of "+d.Platform.String(), manifest.Annotations, want)
		}
		if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(got, want) {
			t.Errorf("%s: the index has %v, want %v", what, got, want)
		}
	}
}

func stageNames(res *engine.Result) []string {
	var names []string
	for _, s := range res.Graph.Stages() {
		names = append(names, s.Name)
	}
	return names
}

func TestEnginePlatformOutputs(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": platformFile}.dir(t)
	both := []string{"linux/amd64", "linux/arm64"}
	out := t.TempDir()
	build(t, e, engine.Request{Context: dir, Platforms: both, Outputs: []engine.Output{{Type: engine.OutputLocal, Dest: out}}})
	for _, p := range []string{"amd64", "arm64"} {
		got := readDir(t, filepath.Join(out, "linux_"+p))
		same(t, p, got, files{"target": "linux/" + p + "\n", "tool": "tool\n"})
	}
	var tarOut buffer
	build(t, e, engine.Request{Context: dir, Platforms: both, Outputs: []engine.Output{{Type: engine.OutputTar, Writer: &tarOut}}})
	if got := readFiles(t, &tarOut); got["linux_arm64/target"] != "linux/arm64\n" || got["linux_amd64/target"] != "linux/amd64\n" {
		t.Errorf("tar: got %v", got)
	}
	// A single platform has no folder of its own.
	same(t, "one", buildFiles(t, e, engine.Request{Context: dir, Platforms: both[1:]}), files{"target": "linux/arm64\n", "tool": "tool\n"})

	docker := []engine.Output{{Type: engine.OutputDocker, Dest: filepath.Join(out, "docker.tar")}}
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Platforms: both, Outputs: docker}), "holds one platform")
	build(t, e, engine.Request{Context: dir, Platforms: both[1:], Outputs: docker})
	for _, p := range []string{"nosuch", "linux/amd64/v1/x", "linux/", ""} {
		mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Platforms: []string{p}}), `platform "`+p+`"`)
	}
}
