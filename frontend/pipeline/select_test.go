package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load resolves a text as the pipeline of some directory.
func load(t testing.TB, yaml string, opt Options) *Plan {
	t.Helper()
	opt.File, opt.Text = "p.yaml", []byte(yaml)
	p, err := Load(opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// outline writes the selected images, those that come along in parentheses, and the rest behind a bar.
func outline(p *Plan) string {
	var b strings.Builder
	for _, i := range p.Images {
		if i.Along {
			b.WriteString("(" + i.Name + ") ")
		} else {
			b.WriteString(i.Name + " ")
		}
	}
	b.WriteString("|")
	for _, i := range p.Rest {
		b.WriteString(" " + i.Name)
		if i.Along {
			b.WriteString("!")
		}
	}
	return b.String()
}

const selectable = `
images:
  web: {depends_on: [lib]}
  api: {depends_on: [lib], contexts: {b: "image:base"}}
  lib: {depends_on: [base]}
  base: {}
  tool: {matrix: {V: [1, 2]}}
  docs: {depends_on: [tool-2]}
groups:
  front: [web]
  both: [front, docs]
`

func TestSelect(t *testing.T) {
	p := load(t, selectable, Options{})
	for _, c := range []struct {
		sel  Selection
		want string
	}{
		{Selection{}, "base lib web api tool-1 tool-2 docs |"},
		{Selection{Only: []string{"web"}}, "(base) (lib) web | api tool-1 tool-2 docs"},
		{Selection{Only: []string{"base"}}, "base | lib web api tool-1 tool-2 docs"},
		{Selection{Only: []string{"base", "api"}}, "base (lib) api | web tool-1 tool-2 docs"},
		{Selection{Only: []string{"tool"}}, "tool-1 tool-2 | base lib web api docs"},
		{Selection{Only: []string{"tool-?"}, Except: []string{"tool-1"}}, "tool-2 | base lib web api tool-1 docs"},
		{Selection{Only: []string{"*i*"}}, "(base) lib api | web tool-1 tool-2 docs"},
		{Selection{Only: []string{"t*l"}}, "tool-1 tool-2 | base lib web api docs"},
		{Selection{Only: []string{"both"}}, "(base) (lib) web (tool-2) docs | api tool-1"},
		{Selection{Groups: []string{"front"}, Only: []string{"docs"}}, "(base) (lib) web (tool-2) docs | api tool-1"},
		{Selection{Except: []string{"lib", "tool"}}, "base (lib) web api (tool-2) docs | tool-1"},
		{Selection{Except: []string{"front", "docs"}}, "base lib api tool-1 tool-2 | web docs"},
	} {
		q, err := p.Select(c.sel)
		if err != nil {
			t.Errorf("%+v: %v", c.sel, err)
			continue
		}
		if got := outline(q); got != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.sel, got, c.want)
		}
		checkPlan(t, q)
		back, err := q.Select(Selection{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(p.JSON()), string(back.JSON())); diff != "" {
			t.Errorf("%+v, and all again (-want +got):\n%s", c.sel, diff)
		}
	}
	if got, want := outline(p), "base lib web api tool-1 tool-2 docs |"; got != want {
		t.Errorf("selecting changed the plan itself: %s", got)
	}
}

func TestSelectDefault(t *testing.T) {
	p := load(t, selectable+"  default: [docs]\n", Options{})
	if got, want := outline(p), "(tool-2) docs | base lib web api tool-1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p = load(t, selectable+"  default: [docs]\n", Options{Selection: Selection{Only: []string{"*"}}})
	if got, want := outline(p), "base lib web api tool-1 tool-2 docs |"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if p.Image("web") == nil || p.Image("nothing") != nil {
		t.Error("Image does not find what is there")
	}
}

func TestSecretsStaySecret(t *testing.T) {
	p := load(t, `
variables: {TOKEN: {secret: true}, OTHER: {secret: true, default: "also-${TOKEN}"}}
images: {a: {secrets: [{id: t, value: "<${OTHER}>"}], matrix: {X: [1]}}}
`, Options{Set: []string{"TOKEN=hunter2"}})
	if got := string(p.Images[0].Secrets[0].Value); got != "<also-hunter2>" {
		t.Errorf("got %q", got)
	}
	for name, v := range p.Images[0].Vars {
		if strings.Contains(v, "hunter2") {
			t.Errorf("ZImagefiles could print it: %s", name)
		}
	}
	if strings.Contains(string(p.JSON()), "hunter2") {
		t.Errorf("the plan shows the secret: %s", p.JSON())
	}
}

func TestPlaces(t *testing.T) {
	p := load(t, "vars: {V: '1'}\nimages:\n  a:\n    tags:\n      - x\n      - y:${V}\n    build_args: {A: b}\n", Options{})
	for field, want := range map[string]string{
		"tags.0": "p.yaml:5:9", "tags.1": "p.yaml:6:9", "build_args.A": "p.yaml:7:21", "target": "p.yaml:3:3", "tags.9": "p.yaml:3:3",
	} {
		if got := p.Images[0].At(field).String(); got != want {
			t.Errorf("%s: got %s, want %s", field, got, want)
		}
	}
}

func TestPush(t *testing.T) {
	yes, no := true, false
	const yaml = "images: {a: {tags: a}, b: {tags: b, push: true}, c: {tags: c, push: false}, d: {}}\n"
	for _, c := range []struct {
		yaml string
		push *bool
		want string
	}{
		{yaml, nil, "b"}, {yaml, &yes, "ab"}, {yaml, &no, ""},
		{yaml + "push: {after_all: true}", nil, "ab"}, {yaml + "push: {after_all: true}", &no, ""},
		{yaml + "push: {after_all: false}", nil, "b"},
		{yaml + "defaults: {push: true}\n", &no, ""},
	} {
		got := ""
		if strings.Contains(c.yaml, "defaults") {
			c.yaml = strings.Replace(c.yaml, ", d: {}", "", 1)
		}
		for _, i := range load(t, c.yaml, Options{Push: c.push}).Images {
			if i.Push {
				got += i.Name
			}
		}
		if got != c.want {
			t.Errorf("%s, %v: got %q, want %q", c.yaml, c.push, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if got, err := Find(dir); got != "" || err != nil {
		t.Errorf("got %q, %v in an empty directory", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "ZPipeline.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := len(Names()) - 1; i > 0; i-- {
		want := filepath.Join(dir, Names()[i])
		if err := os.WriteFile(want, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Find(dir); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load(Options{File: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "reading the pipeline file") {
		t.Errorf("got %v", err)
	}
}
