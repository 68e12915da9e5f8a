package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// A git reference is looked up once a run, as a tag of an image is, and stands for its commit: in ADD,
// as build context and as named context.
func TestEngineMemoGit(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	src := files{
		"Dockerfile": "FROM scratch\nCOPY x /x\nCOPY --from=named x /named\n", "x": "first", "sub/dockerfile": "FROM scratch\nCOPY x /x\n",
		"sub/x": "below", "Other": "FROM scratch\nCOPY . /all/\n", "Other.dockerignore": "sub\n",
	}.dir(t)
	repo, commit, more := serveGitRepo(t, src)
	adds := files{"Dockerfile": "FROM scratch\nADD " + repo + "#main /git/\nADD " + repo + "#v1:sub /tag/\n"}.dir(t)
	kept := files{"Dockerfile": "FROM scratch\nADD --keep-git-dir=true " + repo + "#main /git/\n"}.dir(t)
	out := t.TempDir()
	reqs := map[string]engine.Request{
		"add":     {Context: adds},
		"context": {Context: repo + "#main", BuildContexts: map[string]string{"named": repo}},
		"below":   {Context: repo + "#main:sub"},
		"ignores": {Context: repo, File: "Other"},
	}
	text := func(what, file string) string {
		data, err := os.ReadFile(filepath.Join(out, what, file))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	for what, req := range reqs {
		req.Outputs = []engine.Output{{Type: engine.OutputLocal, Dest: filepath.Join(out, what)}}
		reqs[what] = req
		m.mustBuild(req)
		m.again(req)
	}
	for file, want := range map[string]string{"add/git/x": "first", "add/tag/x": "below", "context/x": "first", "context/named": "first", "below/x": "below", "ignores/all/x": "first"} {
		if got := text("", file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	// The reference by which a commit is named is no part of what comes of it.
	same := reqs["below"]
	same.Context = repo + "#" + commit + ":sub"
	m.again(same)
	// Without asking the repository.
	offline := reqs["context"]
	offline.Offline = true
	m.again(offline)
	// What is in .git depends on more than the commit.
	for range 2 {
		m.mustBuild(engine.Request{Context: kept})
	}

	files{"x": "second"}.write(t, src)
	if more() == commit {
		t.Fatal("nothing was committed")
	}
	for what, req := range reqs {
		w, err := m.bare().Why(t.Context(), req, "")
		if err != nil || w.Same || len(w.Stages[0].Changes) == 0 || w.Stages[0].Changes[0].Kind != engine.ChangeSource {
			t.Errorf("%s: why says %+v, %v", what, w, err)
		}
		m.mustBuild(req)
		m.again(req)
		if what == "below" {
			continue
		}
		file := map[string]string{"add": "git/x", "context": "x", "ignores": "all/x"}[what]
		if got := text(what, file); got != "second" {
			t.Errorf("%s: got %q of the branch that has moved", what, got)
		}
	}
	// Mistakes have their places, whoever finds them.
	files{"Dockerfile": "FROM scratch\nCOPYY x /x\n"}.write(t, src)
	more()
	err := buildFails(t, m.open(), reqs["context"])
	mustSay(t, err, "Dockerfile:2: unknown instruction: COPYY")
	// Attributes by which a file would be converted are left to the daemon.
	files{"Dockerfile": "FROM scratch\nCOPY x /x\n", ".gitattributes": "Dockerfile text eol=crlf\n"}.write(t, src)
	more()
	for range 2 {
		m.mustBuild(reqs["context"])
	}
	if err := filepath.WalkDir(filepath.Join(m.state, "git"), func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, ".new-") {
			t.Errorf("%s is left", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// A build with an SBOM is compiled a second time, by the daemon's answers; it holds to the lock all the
// same, and what is not locked in it is not remembered.
func TestEngineLockWithSBOM(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	src := files{"x": "locked"}.dir(t)
	repo, _, more := serveGitRepo(t, src)
	req := engine.Request{
		Context: files{"Dockerfile": "FROM scratch\nADD " + repo + "#main /\n"}.dir(t), Tags: []string{"sbom:1"},
		Attests: map[string]string{"sbom": "generator=" + labtest.Require(t, "lab/sbom-scanner").Ref("lab/sbom-scanner")},
	}
	text := func(req engine.Request) string {
		t.Helper()
		res := m.mustBuild(req)
		s, err := m.bare().Store()
		if err != nil {
			t.Fatal(err)
		}
		img, err := s.Image(t.Context(), res.Tags[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		rc := mutate.Extract(img)
		defer rc.Close()
		return readFiles(t, rc)["x"]
	}
	lockAll(t, m.open(), engine.LockOptions{}, req)
	files{"x": "moved"}.write(t, src)
	more()
	if got := text(req); got != "locked" {
		t.Errorf("got %q, want what is locked", got)
	}
	if err := os.Remove(filepath.Join(req.Context, "zlayer.lock")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := text(req); got != "moved" {
			t.Errorf("without a lock: got %q", got)
		}
	}
}
