package gitrepo

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is one to be looked at.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	for k, v := range map[string]string{
		"HOME": t.TempDir(), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
		"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
		"GIT_DIR": "/nowhere", // as in a hook
	} {
		t.Setenv(k, v)
	}
	r := &repository{t, t.TempDir()}
	r.git("init", "-q", "-b", "main")
	r.git("config", "uploadpack.allowFilter", "true")
	return r
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_DIR="+filepath.Join(r.dir, ".git"), "GIT_WORK_TREE="+r.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repository) commit(files map[string]string) string {
	r.t.Helper()
	for name, text := range files {
		p := filepath.Join(r.dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); err == nil && ok {
			err = os.Symlink(target, p)
		} else if err == nil {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", r.git("rev-list", "--all", "--count"))
	return r.git("rev-parse", "HEAD")
}

func TestCommit(t *testing.T) {
	repo := newRepository(t)
	first := repo.commit(nil)
	repo.git("tag", "-a", "-m", "x", "annotated")
	repo.git("tag", "both")
	repo.git("checkout", "-q", "-b", "a/main") // its name ends in that of another
	other := repo.commit(nil)
	repo.git("branch", "both")
	repo.git("update-ref", "refs/pull/1/head", other)
	repo.git("checkout", "-q", "main")
	r := &Repos{Dir: t.TempDir()}
	for name, want := range map[string]string{
		"": first, "main": first, "a/main": other, "annotated": first, "both": other, "refs/tags/both": first,
		"refs/heads/main": first, "refs/pull/1/head": other, "pull/1/head": other, first: first,
	} {
		if got, err := r.Commit(t.Context(), repo.dir, name); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"nothing", "mai", "head", "--upload-pack=touch x"} {
		if got, err := r.Commit(t.Context(), repo.dir, name); err == nil {
			t.Errorf("%q: got %s", name, got)
		}
	}
	// It is asked once a run, and remembered for others.
	second := repo.commit(nil)
	if got, err := r.Commit(t.Context(), repo.dir, "main"); err != nil || got != first {
		t.Errorf("again: got %s, %v, want %s", got, err, first)
	}
	if got, ok := r.Looked(repo.dir, "main"); !ok || got != first || !r.Gave(first) || r.Gave(second) {
		t.Errorf("looked up %s %v", got, ok)
	}
	next := &Repos{Dir: r.Dir}
	if got, err := next.Last(repo.dir, "main"); err != nil || got != first {
		t.Errorf("the last one is %s, %v, want %s", got, err, first)
	}
	if _, ok := next.Looked(repo.dir, "main"); ok {
		t.Error("the next run has looked")
	}
	if got, err := next.Commit(t.Context(), repo.dir, "main"); err != nil || got != second {
		t.Errorf("the next run: got %s, %v, want %s", got, err, second)
	}
	if _, err := next.Last(repo.dir, "never"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Repos{}).Commit(ctx, repo.dir, "main"); err == nil {
		t.Error("went on after the end")
	}
}

func TestFiles(t *testing.T) {
	repo := newRepository(t)
	commit := repo.commit(map[string]string{
		"a": "text", "sub/b": "below", "link": "-> a", "linked": "-> sub", "crlf/.gitattributes": "* text eol=crlf\n", "crlf/c/d": "x\n",
		".gitattributes": "*.bin binary\n",
	})
	r := &Repos{Dir: t.TempDir()}
	if _, err := r.Open(t.Context(), repo.dir, "main", commit, true); !errors.Is(err, ErrUnknown) {
		t.Errorf("offline: got %v, want ErrUnknown", err)
	}
	f, err := r.Open(t.Context(), repo.dir, "main", commit, false)
	if err != nil {
		t.Fatal(err)
	}
	check := func(f *Files) {
		t.Helper()
		for name, want := range map[string]string{"a": "text", "/sub/b": "below", "sub/../a": "text", "../a": "text"} {
			size, serr := f.Size(t.Context(), name)
			if got, err := f.Read(t.Context(), name, 100); err != nil || string(got) != want || serr != nil || size != int64(len(want)) {
				t.Errorf("%s: got %q of %d, %v %v, want %q", name, got, size, err, serr, want)
			}
		}
	}
	check(f)
	for name, want := range map[string]error{"none": fs.ErrNotExist, "sub/none": fs.ErrNotExist, "linked/b": fs.ErrNotExist, "link": ErrOther, "sub": ErrOther, "crlf/c/d": ErrOther} {
		if got, err := f.Read(t.Context(), name, 100); !errors.Is(err, want) {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, want)
		}
	}
	if _, err := f.Read(t.Context(), "a", 3); !errors.Is(err, ErrOther) {
		t.Errorf("too large: %v", err)
	}
	// The repository goes away; what was read is still there.
	if err := os.Rename(repo.dir, repo.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if f, err = (&Repos{Dir: r.Dir}).Open(t.Context(), repo.dir, "main", commit, true); err != nil {
		t.Fatal(err)
	}
	check(f)
	if _, err := r.Open(t.Context(), repo.dir, "main", strings.Repeat("a", 40), false); err == nil {
		t.Error("a commit that is not there was opened")
	}
}

func TestHasPassword(t *testing.T) {
	for address, want := range map[string]bool{
		"https://example.com/x": false, "https://token@example.com/x": true, "https://a:b@example.com/x": true,
		"ssh://git@example.com/x": false, "ssh://git:pw@example.com/x": true, "git@example.com:x/y.git": false,
	} {
		if HasPassword(address) != want {
			t.Errorf("%s: got %v", address, !want)
		}
	}
}
