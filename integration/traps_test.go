package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/zlayer-dev/zlayer/engine"
)

// TestWhatCounts changes one thing after the other of a build that is remembered. Known traps: ignore
// files that do not apply to what is hashed, names of directories and times of files that do, modes,
// links, empty directories, arguments, targets, platforms, bases and nested sources that do not.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	base := m.base("base:1", "one")
	dir := files{
		"app/Dockerfile": "ARG USED=1\nFROM " + base + " AS base\nARG NOTED\nFROM base AS unread\nCOPY unread /unread\n" +
			"FROM lib AS built\nFROM base\nARG USED\nENV U=$USED\nCOPY --from=built f /lib\nCOPY . /app\nCOPY src/*.go /go/\n",
		"app/.dockerignore": "ignored\n*.log\nother\n", "app/src/a.go": "a", "app/ignored/x": "x", "app/a.log": "log", "app/other": "other",
		"app/link": "-> src", "app/empty/": "",
		"lib/Dockerfile": "FROM scratch\nCOPY f /f\n", "lib/f": "f", "lib/unread": "unread",
	}.dir(t)
	at := func(p string) string { return filepath.Join(dir, p) }
	request := func() engine.Request {
		return engine.Request{Context: at("app"), Root: dir, BuildContexts: map[string]string{"lib": at("lib")}, Tags: []string{"counts:1"}, BuildArgs: map[string]string{"USED": "2"}}
	}
	m.mustBuild(request())
	write := func(p, text string) func() error {
		return func() error { return os.WriteFile(at(p), []byte(text), 0o644) }
	}
	for what, c := range map[string]struct {
		change, undo func() error
		req          func(*engine.Request)
		counts       bool
	}{
		"nothing":               {},
		"an ignored file":       {change: write("app/ignored/x", "y"), undo: write("app/ignored/x", "x")},
		"a new ignored file":    {change: write("app/b.log", "y"), undo: func() error { return os.Remove(at("app/b.log")) }},
		"a file of no stage":    {change: write("lib/unread", "y"), undo: write("lib/unread", "unread")},
		"a comment":             {change: write("lib/Dockerfile", "# lib\nFROM scratch\ncopy f  /f\n"), undo: write("lib/Dockerfile", "FROM scratch\nCOPY f /f\n")},
		"another name":          {req: func(r *engine.Request) { r.Tags = []string{"counts:2"} }},
		"an argument of nobody": {req: func(r *engine.Request) { r.BuildArgs["UNUSED"] = "x" }},
		"the platform's name":   {req: func(r *engine.Request) { r.Platforms = nil }},
		"the directory's name": {change: func() error { return errors.Join(os.Rename(at("app"), at("moved")), os.Rename(at("lib"), at("bil"))) },
			undo: func() error { return errors.Join(os.Rename(at("moved"), at("app")), os.Rename(at("bil"), at("lib"))) },
			req: func(r *engine.Request) {
				r.Context, r.BuildContexts = at("moved"), map[string]string{"lib": at("bil")}
			}},

		"a file":             {counts: true, change: write("app/src/a.go", "b"), undo: write("app/src/a.go", "a")},
		"a file's name":      {counts: true, change: func() error { return os.Rename(at("app/src/a.go"), at("app/src/b.go")) }, undo: func() error { return os.Rename(at("app/src/b.go"), at("app/src/a.go")) }},
		"an executable bit":  {counts: true, change: func() error { return os.Chmod(at("app/src/a.go"), 0o755) }, undo: func() error { return os.Chmod(at("app/src/a.go"), 0o644) }},
		"a group's bit":      {counts: true, change: func() error { return os.Chmod(at("app/src/a.go"), 0o664) }, undo: func() error { return os.Chmod(at("app/src/a.go"), 0o644) }},
		"a link":             {counts: true, change: relink(at("app/link"), "empty"), undo: relink(at("app/link"), "src")},
		"an empty directory": {counts: true, change: func() error { return os.Remove(at("app/empty")) }, undo: func() error { return os.Mkdir(at("app/empty"), 0o755) }},
		"the ignore file":    {counts: true, change: write("app/.dockerignore", "ignored\n*.log\n"), undo: write("app/.dockerignore", "ignored\n*.log\nother\n")},
		"an instruction of a nested build": {counts: true, change: write("lib/Dockerfile", "FROM scratch\nCOPY --chmod=600 f /f\n"),
			undo: write("lib/Dockerfile", "FROM scratch\nCOPY f /f\n")},
		"a file of a nested build": {counts: true, change: write("lib/f", "g"), undo: write("lib/f", "f")},
		"an argument":              {counts: true, req: func(r *engine.Request) { r.BuildArgs["USED"] = "3" }},
		// It is in the history of the image.
		"an argument declared": {counts: true, req: func(r *engine.Request) { r.BuildArgs["NOTED"] = "x" }},
		"no argument":          {counts: true, req: func(r *engine.Request) { r.BuildArgs = nil }},
		"the target":           {counts: true, req: func(r *engine.Request) { r.Target = "base" }},
		"a label":              {counts: true, req: func(r *engine.Request) { r.Labels = map[string]string{"a": "b"} }},
		"the frontend":         {counts: true, req: func(r *engine.Request) { r.Syntax = "example.com/frontend:1" }},
		"an attestation":       {counts: true, req: func(r *engine.Request) { r.Attests = map[string]string{"provenance": "mode=max"} }},
		"the compression": {counts: true, req: func(r *engine.Request) {
			r.Outputs = []engine.Output{{Type: engine.OutputStore, Attrs: map[string]string{"compression": "zstd"}}}
		}},
		"the base": {counts: true, change: func() error { m.base("base:1", "two"); return nil }, undo: func() error { m.base("base:1", "one"); return nil }},
	} {
		req := request()
		if c.req != nil {
			c.req(&req)
		}
		if c.change != nil {
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
		}
		// There is no daemon, so that what counts ends in an error.
		res, err := m.bare().Build(t.Context(), req)
		if (err != nil) != c.counts || err == nil && res.Changed {
			t.Errorf("%s: want a build: %v, got %v", what, c.counts, err)
		}
		if c.undo != nil {
			if err := c.undo(); err != nil {
				t.Fatal(err)
			}
		}
		m.again(request())
	}
}

func relink(path, target string) func() error {
	return func() error { return errors.Join(os.Remove(path), os.Symlink(target, path)) }
}

// A known trap: an image that was pushed is deleted from the registry, and only the memo believes in it.
func TestPushedImageIsDeleted(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	ref := m.registry.Addr() + "/gone/app:1"
	req := engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t), Tags: []string{ref}, Push: true}
	first := m.mustBuild(req)
	for _, what := range []string{"kept nowhere", "in the store"} {
		if what == "in the store" {
			kept := req
			kept.Outputs, kept.Push = []engine.Output{{Type: engine.OutputStore}}, false
			build(t, m.open(), kept)
		}
		for _, del := range []string{ref, strings.TrimSuffix(ref, ":1") + "@" + first.Digest.String()} {
			r, err := name.ParseReference(del)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Delete(r, m.registry.RemoteOptions(t.Context())...); err != nil {
				t.Fatal(err)
			}
		}
		var res *engine.Result
		if what == "kept nowhere" {
			res = m.mustBuild(req)
		} else {
			res = m.again(req)
		}
		if got := remoteDescriptor(t, m.registry, ref).Digest; got.String() != res.Digest.String() || res.Digest != first.Digest {
			t.Errorf("%s: the registry has %s, the result %s, want %s", what, got, res.Digest, first.Digest)
		}
	}
}

// Checkouts under umasks of 002 and 022 share what is remembered, by the flag that the command line has
// for it. A known trap is to lose the executable bit with the others.
func TestUmasksShareTheMemo(t *testing.T) {
	buildkit(t)
	zlayer, state, store := zlayerProgram(t), t.TempDir(), t.TempDir()
	run := func(dir string, flags ...string) string {
		t.Helper()
		args := append([]string{"build", "--addr", fixture.conn.Info.Address, "--state-dir", state, "--store-dir", store, "-t", "umask:1"}, flags...)
		cmd := exec.Command(zlayer, append(args, dir)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return lines[len(lines)-1]
	}
	digest := ""
	var dirs []string
	for i, umask := range []int{0o002, 0o022} {
		dir := t.TempDir()
		old := syscall.Umask(umask)
		err := os.MkdirAll(filepath.Join(dir, "bin"), 0o777)
		for name, mode := range map[string]os.FileMode{"Dockerfile": 0o666, "bin/tool": 0o777, "bin/text": 0o666} {
			text := name
			if name == "Dockerfile" {
				text = "FROM scratch\nCOPY bin /bin\n"
			}
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
		}
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
		word, rest, _ := strings.Cut(run(dir, "--normalize-modes"), " ")
		if want := []string{"built", "unchanged"}[i]; word != want {
			t.Errorf("umask %03o: %s %s, want %s", umask, word, rest, want)
		}
		if got := strings.Fields(rest)[1]; digest != "" && got != digest {
			t.Errorf("umask %03o: got %s, want %s", umask, got, digest)
		} else {
			digest = got
		}
	}
	// Without the flag the one is what it is, and the other what both were with it.
	if last := run(dirs[0]); !strings.HasPrefix(last, "built ") {
		t.Errorf("without the flag: %s", last)
	}
	if last := run(dirs[1]); strings.HasPrefix(last, "built ") || !strings.Contains(last, digest) {
		t.Errorf("without the flag: %s", last)
	}
	if err := os.Chmod(filepath.Join(dirs[0], "bin/text"), 0o775); err != nil {
		t.Fatal(err)
	}
	if last := run(dirs[0], "--normalize-modes"); !strings.HasPrefix(last, "built ") {
		t.Errorf("with an executable bit: %s", last)
	}
}
