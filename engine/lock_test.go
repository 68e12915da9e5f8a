package engine

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source/lock"
)

func TestNames(t *testing.T) {
	alpine := lock.Entry{Kind: lock.Image, Ref: "docker.io/library/alpine:3.22"}
	own := lock.Entry{Kind: lock.Image, Ref: "localhost:5000/team/app:1"}
	git := lock.Entry{Kind: lock.Git, Ref: "https://example.com/a.git#main"}
	http := lock.Entry{Kind: lock.HTTP, Ref: "https://example.com/a.tgz"}
	for _, c := range []struct {
		name string
		e    lock.Entry
		want bool
	}{
		{"alpine", alpine, true},
		{"alpine:3.22", alpine, true},
		{"docker.io/library/alpine", alpine, true},
		{"docker.io/library/alpine:3.22", alpine, true},
		{"alpine:*", alpine, true},
		{"alp*", alpine, true},
		{"alpine:3", alpine, false},
		{"alp", alpine, false},
		{"library/alpine", alpine, false},
		{"localhost:5000/team/app", own, true},
		{"localhost:5000/team/*", own, true},
		{"app", own, false},
		{"https://example.com/a.git", git, true},
		{"https://example.com/a.git#main", git, true},
		{"https://example.com/a.git#dev", git, false},
		{"https://example.com/a.tgz", http, true},
		{"https://example.com/*", http, true},
		{"[", alpine, false},
	} {
		if got := names(c.name, c.e); got != c.want {
			t.Errorf("%s means %s: got %v", c.name, c.e.Ref, got)
		}
	}
}

func TestOneDigest(t *testing.T) {
	f := &lock.File{}
	for _, e := range []lock.Entry{
		{Kind: lock.Image, Ref: "same", Platform: "linux/amd64", Value: "sha256:1"},
		{Kind: lock.Image, Ref: "same", Platform: "linux/arm64", Value: "sha256:1"},
		{Kind: lock.Image, Ref: "differs", Platform: "linux/amd64", Value: "sha256:1"},
		{Kind: lock.Image, Ref: "differs", Platform: "linux/arm64", Value: "sha256:2"},
		// A third platform that agrees with the first changes nothing.
		{Kind: lock.Image, Ref: "differs", Platform: "linux/s390x", Value: "sha256:1"},
		{Kind: lock.Git, Ref: "https://x#main", Value: "sha256:1"},
	} {
		f.Set(e)
	}
	if got, want := oneDigest(f), map[string]string{"same": "sha256:1"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLockable(t *testing.T) {
	commit := strings.Repeat("a", 40)
	for _, c := range []struct {
		src  graph.Source
		kind lock.Kind
		ref  string
		// pinned is the source when it is locked to the commit, or to a digest.
		pinned string
	}{
		{src: graph.Source{Scheme: "git", Ref: "example.com/a.git#main"}, kind: lock.Git, ref: "example.com/a.git#main", pinned: "example.com/a.git#" + commit},
		{src: graph.Source{Scheme: "git", Ref: "example.com/a.git#main:sub", Attrs: map[string]string{pb.AttrFullRemoteURL: "https://example.com/a.git"}}, kind: lock.Git, ref: "https://example.com/a.git#main", pinned: "example.com/a.git#" + commit + ":sub"},
		{src: graph.Source{Scheme: "git", Ref: "example.com/a.git"}, kind: lock.Git, ref: "example.com/a.git#", pinned: "example.com/a.git#" + commit},
		{src: graph.Source{Scheme: "git", Ref: "example.com/a.git#" + commit}},
		{src: graph.Source{Scheme: "https", Ref: "example.com/x"}, kind: lock.HTTP, ref: "https://example.com/x", pinned: "example.com/x"},
		{src: graph.Source{Scheme: "https", Ref: "example.com/x", Attrs: map[string]string{pb.AttrHTTPChecksum: "sha256:1"}}},
		{src: graph.Source{Scheme: "docker-image", Ref: "docker.io/library/a:1"}},
		{src: graph.Source{Scheme: "local", Ref: "context"}},
	} {
		kind, ref := lockable(c.src)
		if kind != c.kind || ref != c.ref {
			t.Errorf("%v: got %q %q, want %q %q", c.src, kind, ref, c.kind, c.ref)
		}
		if kind == "" {
			continue
		}
		before := len(c.src.Attrs)
		p := pinned(c.src, kind, map[lock.Kind]string{lock.Git: commit, lock.HTTP: "sha256:1"}[kind])
		if p.Ref != c.pinned || !graph.Pinned(p) {
			t.Errorf("%v: pinned it is %v", c.src, p)
		}
		if len(c.src.Attrs) != before {
			t.Errorf("%v: pinning has changed the source", c.src)
		}
	}
}

// A lock file is found at the root of the build, of nested ones too, or where it is
// said to be.
func TestLockPath(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"sub/Dockerfile": "FROM scratch\n", ".git/HEAD": ""})
	e := openBare(t)
	r, err := e.newRun(Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, c := range []struct {
		req  Request
		want string
	}{
		{Request{}, filepath.Join(dir, lock.FileName)},
		{Request{Root: filepath.Join(dir, "sub")}, filepath.Join(dir, "sub", lock.FileName)},
		{Request{LockFile: "elsewhere"}, "elsewhere"},
	} {
		c.req.Context, c.req.lockLater = filepath.Join(dir, "sub"), true
		j, err := r.prepareCall(c.req)
		if err != nil {
			t.Fatal(err)
		}
		if got := j.lockPath(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		_ = j.close()
	}
	for want, req := range map[string]Request{
		"there is no lock file": {Locked: true},
		"a pull mode":           {Locked: true, LockFile: filepath.Join(dir, "nosuch")},
	} {
		req.Context = filepath.Join(dir, "sub")
		_, err := r.prepareCall(req)
		if err == nil || !strings.Contains(err.Error(), "there is no lock file") {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := r.prepareCall(Request{Context: filepath.Join(dir, "sub"), Offline: true, Pull: PullAlways}); err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("offline and always: got %v", err)
	}
}
