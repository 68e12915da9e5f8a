package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// readDir reads the files below a directory.
func readDir(t testing.TB, dir string) files {
	t.Helper()
	f := files{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		f[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEngineOutputsTogether(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := files{"Dockerfile": oneFile(t)}.dir(t)
	out := t.TempDir()
	at := func(name string) string { return filepath.Join(out, name) }
	tag := l.Addr() + "/outputs/all:1"
	files{"local/kept": "before"}.write(t, out)
	var stream buffer
	res := build(t, e, engine.Request{
		Context: dir, Tags: []string{tag}, Platforms: []string{"linux/amd64"},
		Annotations: map[string]string{"plain": "p", "manifest[linux/amd64]:one": "o", "manifest,manifest-descriptor:both": "b"},
		Outputs: []engine.Output{
			{Type: engine.OutputStore},
			{Type: engine.OutputImage, Attrs: map[string]string{"push": "true"}},
			{Type: engine.OutputOCI, Dest: at("oci.tar")},
			{Type: engine.OutputDocker, Dest: at("docker.tar")},
			{Type: engine.OutputTar, Writer: &stream},
			{Type: engine.OutputTar, Dest: at("files.tar")},
			{Type: engine.OutputLocal, Dest: at("local")},
			{Type: engine.OutputCacheOnly},
		},
	})
	if !stream.closed {
		t.Error("the writer was not closed")
	}
	content := files{"x": t.Name() + "\n"}
	same(t, "tar", readFiles(t, &stream), content)
	f, err := os.ReadFile(at("files.tar"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "tar file", readFiles(t, bytes.NewReader(f)), content)
	same(t, "local", readDir(t, at("local")), files{"x": content["x"], "kept": "before"})
	if got := remoteDescriptor(t, l.Registry, tag).Digest.String(); got != res.Digest.String() {
		t.Errorf("the registry has %s, the build gave %s", got, res.Digest)
	}

	var index ocispecs.Index
	archive := readTarFile(t, at("oci.tar"))
	if err := json.Unmarshal([]byte(archive["index.json"]), &index); err != nil {
		t.Fatal(err)
	}
	if index.Manifests[0].Digest != res.Digest {
		t.Errorf("the archive has %s, the build gave %s", index.Manifests[0].Digest, res.Digest)
	}
	var manifest ocispecs.Manifest
	if err := json.Unmarshal([]byte(archive["blobs/sha256/"+res.Digest.Encoded()]), &manifest); err != nil {
		t.Fatal(err)
	}
	same(t, "annotations", manifest.Annotations, map[string]string{"plain": "p", "one": "o", "both": "b"})
	if _, ok := readTarFile(t, at("docker.tar"))["manifest.json"]; !ok {
		t.Error("the docker archive has no manifest.json")
	}
	if left, err := filepath.Glob(at(".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func readTarFile(t testing.TB, name string) files {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return readFiles(t, bytes.NewReader(data))
}

// TestEngineReproducible builds on two BuildKits, at different times.
func TestEngineReproducible(t *testing.T) {
	t.Parallel()
	dir := files{"Dockerfile": "FROM busybox\nRUN echo x > /x && mkdir -p /d/e && touch /d/e/f\nCOPY a /a\n", "a": "1"}.dir(t)
	req := engine.Request{Context: dir, BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		Outputs: []engine.Output{{Type: engine.OutputStore, Attrs: map[string]string{"rewrite-timestamp": "true"}}}}
	first, second := build(t, openEngine(t), req), build(t, openFreshEngine(t), req)
	if first.Digest != second.Digest {
		t.Errorf("got %s and %s", first.Digest, second.Digest)
	}
	req.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "1700000001"}
	if third := build(t, openEngine(t), req); third.Digest == first.Digest {
		t.Error("another epoch gave the same image")
	}
	req.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "yesterday"}
	mustSay(t, buildFails(t, openEngine(t), req), "SOURCE_DATE_EPOCH")
}

// TestEngineDiskFull exports to a file system that is too small for the image.
func TestEngineDiskFull(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=512k"); err != nil {
		unavailable(t, "mounting a small tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(small, unix.MNT_DETACH) }()
	dir := files{"Dockerfile": "FROM busybox\n"}.dir(t)
	for _, kind := range []engine.OutputType{engine.OutputOCI, engine.OutputDocker, engine.OutputTar} {
		dest := filepath.Join(small, string(kind))
		files{string(kind): "before"}.write(t, small)
		err := buildFails(t, e, engine.Request{Context: dir, Outputs: []engine.Output{{Type: kind, Dest: dest}}})
		mustSay(t, err, "no space left on device")
		same(t, "what is there", readDir(t, small), files{string(kind): "before"})
		if err := os.Remove(dest); err != nil {
			t.Fatal(err)
		}
	}
	err := buildFails(t, e, engine.Request{Context: dir, Outputs: []engine.Output{{Type: engine.OutputLocal, Dest: filepath.Join(small, "d")}}})
	mustSay(t, err, "no space left on device")
}

// brokenWriter fails after some bytes.
type brokenWriter struct{ left int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("the tape has torn")
	}
	return len(p), nil
}

func (w *brokenWriter) Close() error { return nil }

func TestEngineWriterFails(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": "FROM busybox\n"}.dir(t)
	for _, kind := range []engine.OutputType{engine.OutputOCI, engine.OutputTar} {
		err := buildFails(t, e, engine.Request{Context: dir, Outputs: []engine.Output{{Type: kind, Writer: &brokenWriter{left: 1000}}}})
		mustSay(t, err, "the tape has torn")
	}
}

func TestEngineOutputMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": oneFile(t), "file": ""}.dir(t)
	out := func(o engine.Output) engine.Request {
		return engine.Request{Context: dir, Outputs: []engine.Output{o}}
	}
	for want, o := range map[string]engine.Output{
		"is a directory: name a file": {Type: engine.OutputOCI, Dest: dir},
		"/nosuch does not exist":      {Type: engine.OutputTar, Dest: dir + "/nosuch/x.tar"},
		"needs dest=DIRECTORY":        {Type: engine.OutputLocal},
		"is a file":                   {Type: engine.OutputLocal, Dest: dir + "/file"},
		"has no destination":          {Type: engine.OutputStore, Dest: dir},
		`output type "zip"`:           {Type: "zip"},
	} {
		mustBeInput(t, buildFails(t, e, out(o)), want)
	}
	err := buildFails(t, e, out(engine.Output{Type: engine.OutputStore, Attrs: map[string]string{"compression": "lzma"}}))
	mustSay(t, err, "lzma")
	annotated := engine.Request{Context: dir, Annotations: map[string]string{"a": "b"}, Outputs: []engine.Output{{Type: engine.OutputTar, Writer: &buffer{}}}}
	mustBeInput(t, buildFails(t, e, annotated), "annotations need an image")
	annotated = engine.Request{Context: dir, Annotations: map[string]string{"manifest[linux/s390x]:a": "b"}, Outputs: []engine.Output{{Type: engine.OutputStore}}}
	mustBeInput(t, buildFails(t, e, annotated), "is for linux/s390x, which is not asked for")
	annotated = engine.Request{Context: dir, Annotations: map[string]string{"index:a": "b"}, Outputs: []engine.Output{{Type: engine.OutputStore}}}
	mustSay(t, buildFails(t, e, annotated), "index annotations not supported for single platform")
	annotated = engine.Request{Context: dir, Annotations: map[string]string{"layer:a": "b"}, Outputs: []engine.Output{{Type: engine.OutputStore}}}
	err = buildFails(t, e, annotated)
	if !strings.Contains(err.Error(), `"layer" is none of index`) {
		t.Error(err)
	}
}
