package zimage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIsZImagefile(t *testing.T) {
	for _, c := range []struct {
		name, head string
		want       bool
	}{
		{"ZImagefile", "", true},
		{"dir/ZImagefile.prod", "FROM x\n", true},
		{"ZImagefile.dockerignore", "", false},
		{"ZImagefile-old", "", true},
		{"build.yml", "", true},
		{"build.YAML", "", true},
		{"Dockerfile", "base: x\n", false},
		{"dockerfile.prod", "base: x\n", false},
		{"prod.Dockerfile", "base: x\n", false},
		{"Containerfile", "base: x\n", false},
		{"other", "", false},
		{"other", "FROM x\n", false},
		{"other", "# comment\n\n---\nbase: x\n", true},
		{"other", "\xef\xbb\xbf\"stages\":\r\n  a:\n", true},
		{"other", "ARG base=x:y\n", false},
		{"other", "unknown: x\n", false},
		{"other", "- base: x\n", false},
	} {
		if got := IsZImagefile(c.name, []byte(c.head)); got != c.want {
			t.Errorf("%s with %q: got %v", c.name, c.head, got)
		}
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		files []string
		want  string
		err   string
	}{
		{nil, "", ""},
		{[]string{"Dockerfile", "ZImagefile."}, "", ""},
		{[]string{"ZImagefile", "ZImagefile.a", "ZImagefile.b"}, "ZImagefile", ""},
		{[]string{"ZImagefile.a", "ZImagefile.a.dockerignore", "ZImagefile.d/"}, "ZImagefile.a", ""},
		{[]string{"ZImagefile.b", "ZImagefile.a"}, "", "several ZImagefiles (ZImagefile.a, ZImagefile.b): say which one with --file"},
	} {
		dir := t.TempDir()
		for _, f := range c.files {
			p := filepath.Join(dir, f)
			var err error
			if strings.HasSuffix(f, "/") {
				err = os.Mkdir(p, 0o755)
			} else {
				err = os.WriteFile(p, nil, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := Find(dir)
		if c.want != "" {
			c.want = filepath.Join(dir, c.want)
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.files, got, c.want)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: got error %v, want %q", c.files, err, c.err)
		}
	}
	if got, err := Find(filepath.Join(t.TempDir(), "none")); got != "" || err != nil {
		t.Errorf("no directory: got %q, %v", got, err)
	}
}
