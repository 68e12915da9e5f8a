package pipeline

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs loads the examples of the documentation, and looks for every field in its tables.
func TestDocs(t *testing.T) {
	dt, err := os.ReadFile("../../docs/pipeline.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(dt), -1)
	if len(examples) != 4 {
		t.Fatalf("found %d examples, want 4", len(examples))
	}
	for n, want := range []string{"api web |", "base app-1.25-debian app-1.25-alpine app-1.26-debian app-1.26-alpine |"} {
		if got := outline(load(t, examples[n][1], Options{})); got != want {
			t.Errorf("example %d: got %s, want %s", n+1, got, want)
		}
	}
	dir := t.TempDir()
	service := filepath.Join(dir, "services", "mail")
	if err := os.MkdirAll(service, 0o755); err != nil {
		t.Fatal(err)
	}
	monorepo := examples[2][1] + "images: {lint: {}, codegen: {}}\n" // which are in a group
	for path, text := range map[string]string{filepath.Join(dir, "ZPipeline.yaml"): monorepo, filepath.Join(service, "ZPipeline.yaml"): examples[3][1]} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Load(Options{File: filepath.Join(dir, "ZPipeline.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outline(p), "svc-mail | lint codegen"; got != want {
		t.Errorf("monorepo: got %s, want %s", got, want)
	}
	if i := p.Images[0]; i.Context != service || i.Tags[0] != "registry.example.com/mail:edge" || !i.Push {
		t.Errorf("got %+v", i)
	}
	for _, names := range [][]string{fileTable().Keys(), imageTable().Keys(), variableTable().Keys(), cacheTable().Keys()} {
		for _, name := range names {
			if !strings.Contains(string(dt), "`"+name) {
				t.Errorf("docs/pipeline.md does not tell of %s", name)
			}
		}
	}
}

// TestSettable checks that --set knows all fields of images but those that make images.
func TestSettable(t *testing.T) {
	fields := settable()
	for _, name := range defaultsTable().Keys() {
		if _, ok := fields[name]; !ok {
			t.Errorf("--set does not know %s", name)
		}
		delete(fields, name)
	}
	for name := range fields {
		t.Errorf("--set knows %s, which images do not have", name)
	}
}
