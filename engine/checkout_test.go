package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCheckoutPath(t *testing.T) {
	top := t.TempDir()
	writeFiles(t, top, map[string]string{"work/sub/f": "f", "link": "-> work", "work/out": "-> " + top, "elsewhere/x": ""})
	c := &checkout{root: filepath.Join(top, "work"), dir: filepath.Join(top, "at")}
	for p, want := range map[string]string{
		"":                                     "",
		filepath.Join(top, "work"):             filepath.Join(top, "at"),
		filepath.Join(top, "work/sub"):         filepath.Join(top, "at/sub"),
		filepath.Join(top, "work/sub/../sub/"): filepath.Join(top, "at/sub"),
		// What was there at the commit need not be there now.
		filepath.Join(top, "work/gone/deep/f"): filepath.Join(top, "at/gone/deep/f"),
		// Links into the work tree lead there, links out of it out.
		filepath.Join(top, "link/sub/f"):          filepath.Join(top, "at/sub/f"),
		filepath.Join(top, "link/gone"):           filepath.Join(top, "at/gone"),
		filepath.Join(top, "work/out/elsewhere"):  filepath.Join(top, "work/out/elsewhere"),
		filepath.Join(top, "elsewhere/x"):         filepath.Join(top, "elsewhere/x"),
		filepath.Join(top, "work-is-only-prefix"): filepath.Join(top, "work-is-only-prefix"),
	} {
		if got := c.path(p); got != want {
			t.Errorf("%s: got %s, want %s", p, got, want)
		}
	}
	t.Chdir(filepath.Join(top, "work"))
	if got, want := c.path("sub"), filepath.Join(top, "at/sub"); got != want {
		t.Errorf("a relative path: got %s, want %s", got, want)
	}
}

// A checkout has what the commit has, with nothing of the work tree, and leaves the
// repository as it is.
func TestCheckout(t *testing.T) {
	r := newTestRepo(t)
	writeFiles(t, r.dir, map[string]string{"base/one/src/a": "edited", "base/one/src/new": "new"})
	r.git("rm", "-q", "--cached", "base/one/src/b")
	before := r.git("status", "--porcelain")
	c, err := newCheckout(t.Context(), filepath.Join(r.dir, "svc/api"), "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"base/one/src/a": "a", "base/one/src/b": "b", "base/one/src/new": ""} {
		got, _ := os.ReadFile(filepath.Join(c.dir, name))
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if after := r.git("status", "--porcelain"); after != before {
		t.Errorf("the state of the repository was\n%s\nand is\n%s", before, after)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("the checkout is still there: %v", err)
	}
	for _, ref := range []string{"nosuch", "--help", "HEAD:base"} {
		if _, err := newCheckout(t.Context(), r.dir, ref); err == nil {
			t.Errorf("%s was checked out", ref)
		}
	}
	if _, err := newCheckout(t.Context(), t.TempDir(), "HEAD"); err == nil {
		t.Error("a directory without git was checked out")
	}
}

func TestFindBuilds(t *testing.T) {
	r := newTestRepo(t)
	writeFiles(t, r.dir, map[string]string{
		"several/ZImagefile.a": "", "several/ZImagefile.b": "",
		"x.tmp/kept":     "",
		"old/Dockerfile": "FROM scratch\n", ".gitignore": "ignored\n",
		"ignored/Dockerfile": "FROM scratch\n", "fresh/Containerfile": "FROM scratch\n",
	})
	r.git("add", "old")
	if err := os.Remove(filepath.Join(r.dir, "old/Dockerfile")); err != nil {
		t.Fatal(err)
	}
	check := func(dir string, want ...string) {
		t.Helper()
		got, err := FindBuilds(t.Context(), filepath.Join(r.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i] = filepath.Join(r.dir, want[i])
		}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	check("", "base/one", "base/two", "fresh", "locked", "several", "svc/api", "svc/api/inner", "svc/web", "tools/a", "tools/b")
	check("svc/api", "svc/api", "svc/api/inner")
	// Without git everything counts.
	if err := os.RemoveAll(filepath.Join(r.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	check("ignored", "ignored")
	if _, err := FindBuilds(t.Context(), filepath.Join(r.dir, "nosuch")); err == nil {
		t.Error("a directory that is not there has builds")
	}
}
