package engine

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// restoring has an engine on a daemon, and one that has its memo and store and can have
// no daemon.
type restoring struct {
	t           *testing.T
	built, bare *Engine
}

func newRestoring(t *testing.T) *restoring {
	memo, store := "local="+t.TempDir(), t.TempDir()
	r := &restoring{t: t, built: engineWith(t, memo, store)}
	open := func(cfg Config) *Engine {
		e, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	r.bare = open(Config{StateDir: t.TempDir(), StoreDir: store, DaemonCommand: []string{"/bin/false"}, Memo: []string{memo}})
	return r
}

// outputs are the same outputs at another place.
func outputsAt(dir string, list []Output) []Output {
	out := make([]Output, len(list))
	for i, o := range list {
		if out[i] = o; o.Dest != "" {
			out[i].Dest = filepath.Join(dir, o.Dest)
		}
	}
	return out
}

// compare builds outputs with the daemon, and then once more without one, and holds
// what was made against each other.
func (r *restoring) compare(what string, req Request, list ...Output) {
	r.t.Helper()
	byDaemon, restored := r.t.TempDir(), r.t.TempDir()
	req.Outputs = outputsAt(byDaemon, list)
	first, err := r.built.Build(r.t.Context(), req)
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	req.Outputs = outputsAt(restored, list)
	res, err := r.bare.Build(r.t.Context(), req)
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
		return
	}
	if res.Changed || !res.Restored || res.Digest != first.Digest {
		r.t.Errorf("%s: changed %v, restored %v, digest %s, want %s", what, res.Changed, res.Restored, res.Digest, first.Digest)
	}
	for _, o := range list {
		if o.Dest == "" {
			continue
		}
		_, epoch := req.BuildArgs["SOURCE_DATE_EPOCH"]
		want, got := outputText(r.t, filepath.Join(byDaemon, o.Dest), epoch), outputText(r.t, filepath.Join(restored, o.Dest), epoch)
		if d := cmp.Diff(want, got); d != "" {
			r.t.Errorf("%s, output %s (-daemon +restored):\n%s", what, o.Type, d)
		}
	}
	again, err := r.bare.Build(r.t.Context(), req)
	if err != nil || again.Changed || again.Restored {
		r.t.Errorf("%s: once more: %+v, %v", what, again, err)
	}
}

// outputText is all that there is to an output: of an archive its bytes, too.
func outputText(t *testing.T, name string, times bool) []string {
	t.Helper()
	var list []string
	line := func(st *fstypes.Stat, data []byte) {
		if !times { // which layers keep to the second, and archives are rounded to
			st.ModTime = 0
		}
		list = append(list, fmt.Sprintf("%s %v %d:%d %d %d %q %d,%d %q %s", st.Path, fs.FileMode(st.Mode), st.Uid, st.Gid, st.ModTime, st.Size, st.Linkname, st.Devmajor, st.Devminor, st.Xattrs, data))
	}
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if !fi.IsDir() {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			line(headerStat(h), content)
		}
		if times {
			list = append(list, fmt.Sprintf("%x", data))
		}
		return list
	}
	f, err := fsutil.NewFS(name)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Walk(t.Context(), "", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			content, err = os.ReadFile(filepath.Join(name, p))
		}
		st := info.Sys().(*fstypes.Stat)
		if info.IsDir() && filepath.Base(p) == "ingest" || strings.HasSuffix(p, ".lock") {
			st.ModTime = 0
		}
		line(st, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// manyFiles has of everything that a build can leave, in several layers.
var manyFiles = map[string]string{
	"a": "a", "tree/x/y": "y", "tree/x/z": "z", "tree/w": "w",
	"Dockerfile": `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /d/e /gone /opaque/in && echo one >/d/one && ln /d/one /d/two && ln /d/one /a-third && ln -s ../one /d/e/link && ln -s /d/one /absolute && \
    echo s >/setuid && chmod 4711 /setuid && mkfifo /fifo && chown 12:34 /fifo /d/e && mkdir -m 1777 /sticky && echo g >/gone/g && echo o >/opaque/in/o && echo r >/replaced
RUN rm -r /gone && rm -r /opaque && mkdir /opaque && echo n >/opaque/new && rm /replaced && mkdir /replaced && touch -h /absolute && chmod 700 /d && rm /bin/vi
COPY --chown=5:6 --chmod=640 a /copied
COPY tree /tree
COPY --link a /linked/a
COPY ["a", "/odd name \u00e4"]
`}

func TestRestoreFiles(t *testing.T) {
	t.Parallel()
	r := newRestoring(t)
	dir := project(t, manyFiles)
	files := []Output{{Type: OutputTar, Dest: "files.tar"}, {Type: OutputLocal, Dest: "files"}}
	with := func(list ...Output) []Output { return append(list, files...) }
	epoch := map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}
	stored := Output{Type: OutputStore}

	r.compare("plain", Request{Context: dir}, with(stored)...)
	r.compare("epoch", Request{Context: dir, BuildArgs: epoch}, with(stored)...)
	r.compare("only files, the image was kept before", Request{Context: dir, BuildArgs: epoch}, files...)
	r.compare("provenance", Request{Context: dir, BuildArgs: epoch, Attests: map[string]string{"provenance": "mode=min"}, Labels: map[string]string{"l": "1"}}, with(stored)...)
	r.compare("options", Request{Context: dir, BuildArgs: epoch, Attests: map[string]string{"provenance": "mode=min"}, Labels: map[string]string{"l": "2"}},
		Output{Type: OutputStore, Attrs: map[string]string{"compression": "zstd", "force-compression": "true"}},
		Output{Type: OutputLocal, Dest: "files", Attrs: map[string]string{"attestation-prefix": "p-", "platform-split": "true"}},
		Output{Type: OutputTar, Dest: "files.tar", Attrs: map[string]string{"source-date-epoch": "1600000001"}})

	two := project(t, map[string]string{"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY a /a\nCOPY a /dir/$TARGETARCH\n", "a": "a"})
	platforms := Request{Context: two, Platforms: []string{"linux/amd64", "linux/arm64"}, BuildArgs: epoch}
	r.compare("platforms", platforms, with(stored)...)
	attested := platforms
	attested.Attests = map[string]string{"provenance": "mode=min"}
	r.compare("platforms with provenance", attested, with(stored)...)
}

// TestRestoreImages holds archives and layouts against those that the daemon makes.
func TestRestoreImages(t *testing.T) {
	t.Parallel()
	r := newRestoring(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"})
	req := Request{Context: dir, Tags: []string{"restored:1", "restored:2"}, BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}}
	archives := []Output{{Type: OutputOCI, Dest: "oci.tar"}, {Type: OutputDocker, Dest: "docker.tar"}}
	r.compare("archives", req, append(archives, Output{Type: OutputStore})...)
	annotated := req
	annotated.Annotations = map[string]string{"a": "1", "manifest-descriptor:b": "2"}
	r.compare("annotations", annotated, append(archives, Output{Type: OutputStore})...)
	platforms := req
	platforms.Platforms = []string{"linux/amd64", "linux/arm64"}
	r.compare("platforms", platforms, Output{Type: OutputOCI, Dest: "oci.tar"}, Output{Type: OutputStore})

	forgetful := engineWith(t, "off", t.TempDir())
	// A layout cannot be made together with the store, which has to have the image, too. Two builds give equal layers
	// only if the daemon has no other layer of the same content, of another time or compression.
	for what, attrs := range map[string]map[string]string{"gzip": {}, "zstd": {"compression": "zstd", "oci-mediatypes": "true"}} {
		req := req
		req.Context = project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": rand.Text()})
		stored := req
		stored.Outputs = []Output{{Type: OutputStore, Attrs: attrs}}
		if _, err := r.built.Build(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		attrs = maps.Clone(attrs)
		attrs["tar"] = "false"
		layout := Output{Type: OutputOCI, Dest: "layout", Attrs: attrs}
		byDaemon := t.TempDir()
		req.Outputs = outputsAt(byDaemon, []Output{layout})
		if _, err := forgetful.Build(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		restored := t.TempDir()
		req.Outputs = outputsAt(restored, []Output{layout})
		if res, err := r.bare.Build(t.Context(), req); err != nil || !res.Restored {
			t.Errorf("%s: %+v, %v", what, res, err)
			continue
		}
		if d := cmp.Diff(outputText(t, filepath.Join(byDaemon, "layout"), false), outputText(t, filepath.Join(restored, "layout"), false)); d != "" {
			t.Errorf("%s: layout (-daemon +restored):\n%s", what, d)
		}
	}
}

// TestRestoreLeavesToTheDaemon has outputs that the image alone does not give.
func TestRestoreLeavesToTheDaemon(t *testing.T) {
	t.Parallel()
	r := newRestoring(t)
	dir := project(t, map[string]string{"Dockerfile": base + "RUN echo l >/lower\nRUN ln /lower /other\n", "a": "a"})
	one := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"})
	two := project(t, map[string]string{"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n", "a": "a"})
	stored := Output{Type: OutputStore}
	at := func(name string) string { return filepath.Join(t.TempDir(), name) }
	for what, req := range map[string]Request{
		"a link into a lower layer": {Context: dir, Outputs: []Output{stored, {Type: OutputTar, Dest: at("f.tar")}}},
		"no image":                  {Context: one, Outputs: []Output{{Type: OutputTar, Dest: at("f.tar")}}},
		"a part of the files":       {Context: one, Labels: map[string]string{"l": "1"}, Outputs: []Output{stored, {Type: OutputLocal, Dest: at("f"), Attrs: map[string]string{"src": "/"}}}},
		"platforms in one directory": {Context: two, Platforms: []string{"linux/amd64", "linux/arm64"},
			Outputs: []Output{stored, {Type: OutputLocal, Dest: at("f"), Attrs: map[string]string{"platform-split": "false"}}}},
		"several platforms by argument": {Context: one, BuildArgs: map[string]string{"BUILDKIT_MULTI_PLATFORM": "1"}, Outputs: []Output{stored, {Type: OutputLocal, Dest: at("f")}}},
	} {
		if _, err := r.built.Build(t.Context(), req); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if res, err := r.bare.Build(t.Context(), req); err != nil || res.Restored {
			t.Errorf("%s: what is there: %+v, %v", what, res, err)
		}
		if err := os.RemoveAll(req.Outputs[len(req.Outputs)-1].Dest); err != nil {
			t.Fatal(err)
		}
		if res, err := r.bare.Build(t.Context(), req); err == nil {
			t.Errorf("%s: it was made without a daemon: %+v", what, res)
		}
	}
}

// TestRestoreIntoDirectory writes into a directory in which something is.
func TestRestoreIntoDirectory(t *testing.T) {
	t.Parallel()
	r := newRestoring(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\nCOPY a /d/b\n", "a": "a"})
	out := t.TempDir()
	req := Request{Context: dir, Outputs: []Output{{Type: OutputStore}, {Type: OutputLocal, Dest: out}}}
	if _, err := r.built.Build(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{"": "a d d/b other", "delete": "a d d/b"} {
		for name, text := range map[string]string{"a": "by hand", "other": "of somebody"} {
			if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		req.Outputs[1].Attrs = nil
		if mode != "" {
			req.Outputs[1].Attrs = map[string]string{"mode": mode}
		}
		if res, err := r.bare.Build(t.Context(), req); err != nil || !res.Restored {
			t.Fatalf("mode %q: %+v, %v", mode, res, err)
		}
		if got, err := os.ReadFile(filepath.Join(out, "a")); err != nil || string(got) != "a" {
			t.Errorf("mode %q: the file is %q, %v", mode, got, err)
		}
		var names []string
		err := filepath.WalkDir(out, func(p string, _ fs.DirEntry, err error) error {
			if rel, _ := filepath.Rel(out, p); rel != "." {
				names = append(names, rel)
			}
			return err
		})
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("mode %q: there are %s, %v; want %s", mode, got, err, want)
		}
	}
}
