package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// FuzzLoad: mistakes have a place in the file or name an option; loading twice gives the same; a
// plan is in order, keeps its secrets, and selecting all of it again changes nothing; a comment
// changes nothing.
func FuzzLoad(f *testing.F) {
	for _, c := range goldenCases(f) {
		f.Add(c.text, strings.Join(c.opt.Set, "\n"))
	}
	for _, c := range shapes() {
		f.Add(c.text, "")
	}
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		var opt Options
		if set != "" {
			opt.Set = strings.Split(set, "\n")
		}
		opt.LookupEnv = func(name string) (string, bool) { return "env-" + name, len(name)%2 == 0 }
		checkLoad(t, text, opt)
	})
}

// loadText loads a text alone: there are no other files.
func loadText(text []byte, opt Options) (*Plan, error) {
	l := newLoader()
	l.read = func(path string) ([]byte, error) {
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
	l.glob = func(string) ([]string, error) { return nil, nil }
	opt.File, opt.Text = "ZPipeline.yaml", text
	if text == nil {
		opt.Text = []byte{}
	}
	return l.plan(opt)
}

func checkLoad(t testing.TB, text []byte, opt Options) {
	t.Helper()
	p, err := loadText(text, opt)
	q, err2 := loadText(text, opt)
	if fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("got %v, then %v", err, err2)
	}
	if err != nil {
		checkMistakes(t, err, text)
		return
	}
	first := p.JSON()
	if !bytes.Equal(first, q.JSON()) {
		t.Errorf("got %s, then %s", first, q.JSON())
	}
	checkPlan(t, p)
	back, err := p.Select(Selection{Only: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Images) != len(p.Images)+len(p.Rest) || len(back.Rest) != 0 {
		t.Errorf("of %d and %d images, * selects %d", len(p.Images), len(p.Rest), len(back.Images))
	}
	if bytes.HasPrefix(text, []byte("%")) || bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return
	}
	r, err := loadText(append([]byte("# a comment\n\n"), text...), opt)
	if err != nil {
		t.Fatalf("with a comment: %v", err)
	}
	if !bytes.Equal(first, r.JSON()) {
		t.Errorf("a comment changes the plan:\n%s\n%s", first, r.JSON())
	}
}

func checkMistakes(t testing.TB, err error, text []byte) {
	t.Helper()
	list := yamlfile.Errors(err)
	if len(list) == 0 && !strings.HasPrefix(err.Error(), "no image is left") {
		t.Errorf("got %v, want mistakes with places", err)
	}
	lines := 1 + bytes.Count(text, []byte("\n"))
	for _, e := range list {
		if strings.HasPrefix(e.Pos.File, "--set ") {
			continue
		}
		if e.Pos.File != "ZPipeline.yaml" || e.Pos.Line < 1 || e.Pos.Line > lines || !bytes.Equal(e.Source, text) {
			t.Errorf("%v is no place in a file of %d lines", e, lines)
		}
	}
}

// TestProperties holds the corpus against what FuzzLoad holds arbitrary texts against.
func TestProperties(t *testing.T) {
	for _, c := range append(goldenCases(t), shapes()...) {
		c.opt.Selection, c.opt.Platforms = Selection{}, nil
		t.Run(c.name, func(t *testing.T) { checkLoad(t, c.text, c.opt) })
	}
}

// monorepo writes a pipeline of n images on three levels.
func monorepo(n int) []byte {
	var b strings.Builder
	b.WriteString("vars: {REGISTRY: registry.example.com/acme, VERSION: '1.0'}\n")
	b.WriteString("defaults: {build_args: {VERSION: '${VERSION}'}, labels: {org.example.version: '${VERSION}'}}\n")
	b.WriteString("templates:\n  service:\n    context: services/${IMAGE_NAME}\n    file: services/${IMAGE_NAME}/Dockerfile\n    tags: ['${REGISTRY}/${IMAGE_NAME}:${VERSION}', '${REGISTRY}/${IMAGE_NAME}:latest']\n")
	b.WriteString("images:\n")
	for i := range n {
		fmt.Fprintf(&b, "  svc-%d: {inherits: service", i)
		switch {
		case i >= 10 && i < 100:
			fmt.Fprintf(&b, ", contexts: {base: 'image:svc-%d'}", i%10)
		case i >= 100:
			fmt.Fprintf(&b, ", depends_on: [svc-%d], build_args: {N: %d}", 10+i%90, i)
		}
		b.WriteString("}\n")
	}
	return []byte(b.String())
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{300, 3000} {
		text := monorepo(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := Load(Options{File: filepath.Join("some", "ZPipeline.yaml"), Text: text})
				if err != nil {
					b.Fatal(err)
				}
				if len(p.Images) != n || len(p.Levels) != 3 {
					b.Fatalf("got %d images on %d levels", len(p.Images), len(p.Levels))
				}
			}
		})
	}
}

// TestLargeChain: a chain as long as a pipeline can be costs linear time, and no stack.
func TestLargeChain(t *testing.T) {
	var b strings.Builder
	b.WriteString("images:\n  i0:\n")
	const n = 20_000
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  i%d: {depends_on: i%d}\n", i, i-1)
	}
	p, err := loadText([]byte(b.String()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Levels) != n {
		t.Errorf("got %d levels", len(p.Levels))
	}
	b.WriteString("  i20000: {depends_on: i20001}\n  i20001: {depends_on: i20000}\n")
	if _, err := loadText([]byte(b.String()), Options{}); err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "depend on each other") {
		t.Errorf("got %v", err)
	}
}
