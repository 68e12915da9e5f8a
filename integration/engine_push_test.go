package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// remoteDescriptor asks a registry of the lab for an image.
func remoteDescriptor(t testing.TB, r *lab.Registry, ref string) *remote.Descriptor {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(parsed, r.RemoteOptions(t.Context())...)
	if err != nil {
		t.Fatalf("the registry does not have %s: %v", ref, err)
	}
	return desc
}

// oneFile is a build file that needs nothing, with a layer that no other test has.
func oneFile(t testing.TB) string {
	return "FROM scratch\nCOPY <<x /x\n" + t.Name() + "\nx\n"
}

func TestEnginePush(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	tags := []string{l.Addr() + "/push/one:1", l.Addr() + "/push/one:2", l.Addr() + "/push/two"}
	for what, req := range map[string]engine.Request{
		"push":           {Push: true},
		"push and store": {Push: true, Outputs: []engine.Output{{Type: engine.OutputStore}}},
		"image output":   {Outputs: []engine.Output{{Type: engine.OutputImage, Attrs: map[string]string{"push": "true"}}}},
	} {
		req.Context, req.Tags = dir, tags
		res := build(t, e, req)
		for _, tag := range tags {
			if got := remoteDescriptor(t, l.Registry, tag).Digest.String(); got != res.Digest.String() {
				t.Errorf("%s: the registry has %s at %s, the build gave %s", what, got, tag, res.Digest)
			}
		}
		if want := []string{tags[0], tags[1], tags[2] + ":latest"}; !slices.Equal(res.Tags, want) {
			t.Errorf("%s: got tags %v, want %v", what, res.Tags, want)
		}
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	desc, err := s.Resolve(t.Context(), tags[2])
	if err != nil {
		t.Fatal(err)
	}
	if got := remoteDescriptor(t, l.Registry, tags[2]).Digest.String(); got != desc.Digest.String() {
		t.Errorf("the store has %s, the registry %s", desc.Digest, got)
	}
}

// useDockerConfig makes a docker configuration with a user for a registry.
func useDockerConfig(t *testing.T, host, user, password string) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"auths": map[string]any{
		host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	old := dockerconfig.Dir()
	dockerconfig.SetDir(files{"config.json": string(data)}.dir(t))
	t.Cleanup(func() { dockerconfig.SetDir(old) })
}

func TestEnginePushNeedsCredentials(t *testing.T) {
	e := openEngine(t)
	r, err := lab.StartRegistry(lab.RegistryConfig{User: "ann", Password: "secret-word"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tag := r.Addr() + "/private/app:1"
	dir := files{"Dockerfile": oneFile(t), "from": "FROM " + tag + "\n"}.dir(t)
	req := engine.Request{Context: dir, Tags: []string{tag}, Push: true}

	for _, what := range []string{"none", "wrong"} {
		if what == "wrong" {
			useDockerConfig(t, r.Addr(), "ann", "guessed-word")
		}
		err := buildFails(t, e, req)
		mustSay(t, err, tag)
		mustSay(t, err, "401 Unauthorized: log in with docker login "+r.Addr())
		if strings.Contains(err.Error(), "word") {
			t.Errorf("%s credentials: the error tells the password: %v", what, err)
		}
	}
	useDockerConfig(t, r.Addr(), "ann", "secret-word")
	res := build(t, e, req)
	if got := remoteDescriptor(t, r, tag).Digest.String(); got != res.Digest.String() {
		t.Errorf("the registry has %s, the build gave %s", got, res.Digest)
	}
	same(t, "pull", buildFiles(t, e, engine.Request{Context: dir, File: dir + "/from"}), files{"x": t.Name() + "\n"})
}

func TestEnginePushFails(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	answer := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	for host, want := range map[string]string{
		"127.0.0.1:1":                     "connection refused",
		answer(http.StatusNotFound):       "404 Not Found",
		answer(http.StatusForbidden):      "403 Forbidden",
		answer(http.StatusNotImplemented): "501 Not Implemented",
	} {
		err := buildFails(t, e, engine.Request{Context: dir, Tags: []string{host + "/app:1"}, Push: true})
		mustSay(t, err, want)
		mustSay(t, err, "pushing "+host+"/app:1: ")
	}
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Push: true}), "nothing to push")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Tags: []string{"UPPER"}, Push: true}), "UPPER")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Tags: []string{"a@sha256:" + strings.Repeat("0", 64)}, Push: true}), "digest")
}

// fakeDocker puts a docker into PATH that keeps what it is to load and then does as the script says.
func fakeDocker(t *testing.T, script string) (loaded string) {
	t.Helper()
	dir := t.TempDir()
	loaded = filepath.Join(dir, "loaded")
	text := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = load ] || exit 9\n%s\n", strings.ReplaceAll(script, "FILE", loaded))
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return loaded
}

func TestEngineLoad(t *testing.T) {
	e := openEngine(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	req := engine.Request{Context: dir, Tags: []string{"loaded:1", "loaded:2"}, Load: true}

	loaded := fakeDocker(t, "cat > FILE")
	build(t, e, req)
	f, err := os.Open(loaded)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var manifests []struct{ RepoTags []string }
	if err := json.Unmarshal([]byte(readFiles(t, f)["manifest.json"]), &manifests); err != nil {
		t.Fatal(err)
	}
	if want := []string{"loaded:1", "loaded:2"}; len(manifests) != 1 || !slices.Equal(manifests[0].RepoTags, want) {
		t.Errorf("docker was given %v, want %v", manifests, want)
	}

	fakeDocker(t, "cat > FILE; echo no space left >&2; exit 1")
	mustSay(t, buildFails(t, e, req), "loading into docker: exit status 1: no space left")
	fakeDocker(t, "echo cannot connect to the docker daemon >&2; exit 1")
	mustSay(t, buildFails(t, e, req), "cannot connect to the docker daemon")
	req.Platforms = []string{"linux/amd64", "linux/arm64"}
	mustBeInput(t, buildFails(t, e, req), "one platform")

	// A build that fails does not leave a docker waiting.
	loaded = fakeDocker(t, "cat > FILE; echo end >> FILE")
	broken := files{"Dockerfile": "FROM busybox\nRUN exit 3\n"}.dir(t)
	_ = buildFails(t, e, engine.Request{Context: broken, Load: true})
	if _, err := os.Stat(loaded); err == nil {
		t.Error("docker was started for a failed build")
	}
	t.Setenv("PATH", t.TempDir())
	req.Platforms = nil
	mustBeInput(t, buildFails(t, e, req), "needs the docker command")
}
