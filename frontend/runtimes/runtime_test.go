package runtimes

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

func TestGet(t *testing.T) {
	for canonical, names := range map[string]string{
		"node20": "node-20 nodejs20 node", "node22": "node-22 nodejs22", "node24": "node-24 nodejs24", "node26": "nodejs26",
		"python312": "python-312 python3.12 python", "python313": "python-313 python3.13", "python314": "python3.14",
		"rust": "rs", "go": "golang", "deno": "", "bun": "", "static": "nginx",
		"windows-nanoserver": "nanoserver windows_nanoserver",
		"windows-servercore": "windows-server-core servercore windows_servercore",
		"wasm":               "webassembly wasm-module wasm-preview1 wasm-preview2 wasm-component wasi-component",
	} {
		for name := range strings.FieldsSeq(canonical + " " + names) {
			for _, spelt := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
				if r, err := Get(spelt); err != nil || r.Name != canonical {
					t.Errorf("%s: got %q, %v, want %s", spelt, r.Name, err, canonical)
				}
			}
		}
	}
	for name, want := range map[string]WASM{
		"wasm": AnyWASM, "webassembly": AnyWASM, "wasm-module": WASMModule, "wasm-preview1": WASMModule,
		"WASM-Component": WASMComponent, "wasi-component": WASMComponent, "wasm-preview2": WASMComponent, "go": NotWASM,
	} {
		if r, err := Get(name); err != nil || r.WASM != want {
			t.Errorf("%s: got %v, %v, want %v", name, r.WASM, err, want)
		}
	}
	_, err := Get("pyton312")
	if want := `there is no runtime "pyton312" (did you mean python312?): zlayer runtimes lists them`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := Get("cobol"); err == nil || strings.Contains(err.Error(), "mean") {
		t.Errorf("got %v, want an error without a guess", err)
	}
}

func TestAll(t *testing.T) {
	seen := map[string]string{}
	for _, r := range All() {
		for _, n := range append([]string{r.Name}, r.Aliases...) {
			if seen[n] != "" {
				t.Errorf("%s and %s are both called %s", seen[n], r.Name, n)
			}
			seen[n] = r.Name
			if n != strings.ToLower(n) {
				t.Errorf("%s cannot be found: it is not in lower case", n)
			}
		}
		if r.Description == "" || len(r.Detect) == 0 || (r.OS == "") != (r.WASM != NotWASM) {
			t.Errorf("%+v lacks something", r)
		}
	}
}

// TestEmpty renders every runtime for a directory with nothing in it: an image that a ZImagefile
// with a command can still be put on top of, or a sentence on what is missing.
func TestEmpty(t *testing.T) {
	for _, r := range All() {
		got, err := Render(r, fstest.MapFS{})
		switch {
		case r.WASM != NotWASM:
			if !errors.Is(err, ErrWASM) {
				t.Errorf("%s: got %v, want ErrWASM", r.Name, err)
			}
		case r.Name == "go" || r.Name == "rust":
			if err == nil || !strings.Contains(err.Error(), "there is no ") {
				t.Errorf("%s: got %v, want what is missing", r.Name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", r.Name, err)
		case len(got.Notes) == 0:
			t.Errorf("%s: got no note about the empty directory", r.Name)
		}
	}
	if _, err := Detect(fstest.MapFS{}); !errors.Is(err, ErrNotDetected) {
		t.Errorf("got %v, want ErrNotDetected", err)
	}
	if _, err := Init(All()[0], fstest.MapFS{}, "makefile"); err == nil || !strings.Contains(err.Error(), `no format "makefile"`) {
		t.Errorf("got %v, want that there is no such format", err)
	}
}

// TestOverlay puts a ZImagefile on top of each kind of template.
func TestOverlay(t *testing.T) {
	for name, s := range shapes(t) {
		d, err := Detect(s.project)
		if err != nil {
			continue
		}
		r, err := Render(d.Runtime, s.project)
		if err != nil || r.OS != "linux" {
			continue
		}
		text := "runtime: " + d.Runtime.Name + "\nargs:\n  RUNTIME_IMAGE: example.com/base:1\nenv:\n  A: b\ncmd: [one, two]\n"
		f, err := zimage.Parse("ZImagefile", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		over, err := zimage.Overlay(f, r.Dockerfile, zimage.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := string(over.Text)
		for _, want := range []string{"ARG RUNTIME_IMAGE=example.com/base:1\n", "\nENV A=b\n", "CMD [\"one\",\"two\"]\n"} {
			if !strings.Contains(got, want) && !strings.Contains(got, strings.ReplaceAll(want, ",", ", ")) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
	}
}
