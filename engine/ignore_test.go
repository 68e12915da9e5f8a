package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNestedIgnore(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"Dockerfile":                "FROM scratch\nCOPY . /\n",
		"Other":                     "FROM scratch\nCOPY . /\n",
		"Other.dockerignore":        "Other*\n",
		".dockerignore":             "Dockerfile\nOther*\n.dockerignore\n**/.dockerignore\n",
		"a.log":                     "",
		"web/.dockerignore":         "*.log\n!keep.log\n",
		"web/a.log":                 "",
		"web/keep.log":              "",
		"web/index.html":            "",
		"web/deep/a.log":            "",
		"lib/ZImagefile":            "base: scratch\nsteps:\n- copy: .\n  to: /\n",
		"lib/sub/.dockerignore":     "gone\n",
		"lib/sub/gone":              "",
		"lib/sub/here":              "",
		"nested/Dockerfile":         "FROM lib\n",
		"nested/unused/placeholder": "",
	})
	list := func(req Request) string {
		t.Helper()
		req.Outputs = []Output{{Type: OutputLocal, Dest: t.TempDir()}}
		if _, err := e.Build(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		var out []string
		err := filepath.WalkDir(req.Outputs[0].Dest, func(p string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(req.Outputs[0].Dest, p); err == nil && !d.IsDir() && (strings.HasSuffix(rel, "log") || strings.Contains(rel, "sub/")) {
				out = append(out, rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct {
		name string
		req  Request
		want string
	}{
		{"as others have it", Request{Context: dir}, "a.log lib/sub/gone lib/sub/here web/a.log web/deep/a.log web/keep.log"},
		{"nested", Request{Context: dir, NestedIgnore: true}, "a.log lib/sub/here web/deep/a.log web/keep.log"},
		{"a build file's own", Request{Context: dir, File: filepath.Join(dir, "Other"), NestedIgnore: true}, "a.log lib/sub/.dockerignore lib/sub/here web/deep/a.log web/keep.log"},
		{"in nested builds", Request{
			Context: filepath.Join(dir, "nested"), Root: dir, NestedIgnore: true,
			BuildContexts: map[string]string{"lib": filepath.Join(dir, "lib")},
		}, "sub/.dockerignore sub/here"},
	} {
		if got := list(tt.req); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
