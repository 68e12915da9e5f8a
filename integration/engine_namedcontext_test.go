package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/ociindex"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

func TestEngineNamedContextDirectory(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"app/Dockerfile":       "FROM scratch\nCOPY --from=lib . /\n",
		"lib/a":                "1",
		"lib/b":                "2",
		"lib/.dockerignore":    "b\n.dockerignore\n",
		"other/c":              "3",
		"broken/.dockerignore": "[\n",
		"file":                 "",
	}.dir(t)
	req := engine.Request{Context: dir + "/app", BuildContexts: map[string]string{"lib": dir + "/lib"}}
	same(t, "its own ignore file", buildFiles(t, e, req), files{"a": "1"})

	// Names that BuildKit's session knows for something else, and names that are not spelled as an
	// image reference is.
	for name, from := range map[string]string{
		"context":           "context",
		"dockerfile":        "dockerfile",
		"Lib":               "lib",
		"lib:latest":        "lib",
		"docker.io/lib":     "lib",
		"ghcr.io/some/lib":  "ghcr.io/some/lib",
		"lib:v1":            "lib:v1",
		"with_under-score.": "",
	} {
		files{"app/named": "FROM scratch\nCOPY --from=" + from + " . /\n"}.write(t, dir)
		req := engine.Request{Context: dir + "/app", File: dir + "/app/named", BuildContexts: map[string]string{name: dir + "/other"}}
		if strings.ToLower(name) != name || from == "" {
			mustBeInput(t, buildFails(t, e, req), "build context name "+`"`+name+`"`)
			continue
		}
		same(t, name, buildFiles(t, e, req), files{"c": "3"})
	}

	req.BuildContexts = map[string]string{"lib": dir + "/nosuch"}
	mustBeInput(t, buildFails(t, e, req), "build context lib: "+dir+"/nosuch does not exist")
	req.BuildContexts = map[string]string{"lib": dir + "/file"}
	mustBeInput(t, buildFails(t, e, req), "build context lib: "+dir+"/file is a file")
	req.BuildContexts = map[string]string{"lib": ""}
	mustBeInput(t, buildFails(t, e, req), "build context lib: no source is given")
	req.BuildContexts = map[string]string{"lib": dir + "/broken"}
	mustSay(t, buildFails(t, e, req), dir+"/broken/.dockerignore:1: syntax error in pattern")
}

func TestEngineNamedContextReplacesStage(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"app/Dockerfile": "FROM nosuch.example/image AS base\nRUN exit 1\nFROM scratch AS mid\nCOPY --from=base /a /\nFROM mid\nCOPY --from=docker.io/library/busybox:latest /a /b\n",
		"base/a":         "1",
		"image/a":        "2",
	}.dir(t)
	got := buildFiles(t, e, engine.Request{Context: dir + "/app", BuildContexts: map[string]string{"base": dir + "/base", "busybox": dir + "/image"}})
	same(t, "stage and image", got, files{"a": "1", "b": "2"})
}

func TestEngineNamedContextReplacesBase(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := files{"Dockerfile": "FROM alpine:3 AS base\nFROM base\nRUN cat /layers/kept > /got\nFROM scratch\nCOPY --from=1 /got /\n"}.dir(t)
	for _, name := range []string{"alpine:3", "docker.io/library/alpine:3", "base"} {
		req := engine.Request{Context: dir, BuildContexts: map[string]string{name: "docker-image://" + l.Ref("lab/layers")}}
		same(t, name, buildFiles(t, e, req), files{"got": "kept\n"})
	}
	req := engine.Request{Context: dir, BuildContexts: map[string]string{"alpine:3": "docker-image://" + l.Ref("lab/nosuch")}}
	err := buildFails(t, e, req)
	mustSay(t, err, dir+"/Dockerfile:1: ")
	mustSay(t, err, "not found")
	req.BuildContexts = map[string]string{"alpine:3": "docker-image://UPPER"}
	mustBeInput(t, buildFails(t, e, req), `build context alpine:3: image "UPPER"`)
	req.BuildContexts = map[string]string{"alpine:3": "docker-image://"}
	mustBeInput(t, buildFails(t, e, req), `build context alpine:3: image ""`)
}

func TestEngineNamedContextLayout(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	layout, digest := layoutOf(t, "lab/layers")
	dir := files{"Dockerfile": "FROM base AS b\nRUN cat /layers/kept > /got\nFROM scratch\nCOPY --from=b /got /\nCOPY --from=base /layers/replaced /\n"}.dir(t)
	want := files{"got": "kept\n", "replaced": "new\n"}
	named := func(from string) engine.Request {
		return engine.Request{Context: dir, BuildContexts: map[string]string{"base": "oci-layout://" + from}}
	}
	same(t, "digest", buildFiles(t, e, named(layout+"@"+digest)), want)
	same(t, "one image without a tag", buildFiles(t, e, named(layout)), want)

	// The same image under tags.
	idx := ociindex.NewStoreIndex(layout)
	descs, err := idx.Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := idx.Put(descs.Manifests[0], ociindex.Tag("v1"), ociindex.Tag("latest")); err != nil {
		t.Fatal(err)
	}
	same(t, "tag", buildFiles(t, e, named(layout+":v1")), want)
	same(t, "latest", buildFiles(t, e, named(layout)), want)
	same(t, "tag and digest", buildFiles(t, e, named(layout+":v1@"+digest)), want)
	t.Run("relative", func(t *testing.T) {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(wd, layout)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "relative", buildFiles(t, e, named(rel+":v1")), want)
	})

	mustBeInput(t, buildFails(t, e, named(layout+":nosuch")), `no image is tagged "nosuch"`)
	mustBeInput(t, buildFails(t, e, named(layout+"@sha256:short")), `digest "sha256:short"`)
	mustBeInput(t, buildFails(t, e, named(t.TempDir())), "is not an OCI layout")
	gone := "sha256:" + strings.Repeat("0", 64)
	mustBeInput(t, buildFails(t, e, named(layout+"@"+gone)), layout+" does not have "+gone)
}

func TestEngineNamedContextRemote(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	git, _ := serveGit(t, files{"a": "1", "sub/b": "2"}.dir(t))
	www := t.TempDir()
	files{"plain": "4"}.write(t, www)
	url := serveFiles(t, www)
	dir := files{"Dockerfile": "FROM scratch\nCOPY --from=lib . /\n"}.dir(t)
	named := func(from string) engine.Request {
		return engine.Request{Context: dir, BuildContexts: map[string]string{"lib": from}}
	}
	same(t, "git", buildFiles(t, e, named(git)), files{"a": "1", "sub/": "", "sub/b": "2"})
	same(t, "git subdirectory", buildFiles(t, e, named(git+"#v1:sub")), files{"b": "2"})
	// Other than the main context, this one is never unpacked: so has BuildKit it.
	same(t, "http", buildFiles(t, e, named(url+"/plain")), files{"context": "4"})
	mustSay(t, buildFails(t, e, named(url+"/nosuch")), "404")
	mustSay(t, buildFails(t, e, named(git+"#nosuch")), "nosuch")
}
