package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

// TestWasmMistakesWithoutFile: a mistake is at a place in the build file only if
// somebody has written one.
func TestWasmMistakesWithoutFile(t *testing.T) {
	t.Parallel()
	e := openBare(t)
	const none = "nothing here says which language this is (looked for Cargo.toml, "
	section := map[string]string{"ZImagefile": "wasm: {}\n"}
	for name, c := range map[string]struct {
		files map[string]string
		req   Request
		want  string // of the message's beginning and end
	}{
		"no language":             {req: Request{Wasm: &WasmOptions{}}, want: none + "...): name it with --language"},
		"no language, runtime":    {req: Request{Runtime: "wasm"}, want: none + "...): name it with zlayer wasm build --language"},
		"no language, file":       {files: section, req: Request{Wasm: &WasmOptions{}}, want: "ZImagefile:1:7: " + none + "...): set wasm.language"},
		"no language, only build": {files: section, want: "ZImagefile:1:7: " + none + "...): set wasm.language"},
		"unknown language":        {req: Request{Wasm: &WasmOptions{Language: "cobol"}}, want: `unknown language "cobol": ...zig`},
		"unknown language, file":  {files: section, req: Request{Wasm: &WasmOptions{Language: "cobol"}}, want: `ZImagefile:1:7: unknown language "cobol": ...zig`},
		"broken manifest":         {files: map[string]string{"Cargo.toml": "[package\n"}, req: Request{Wasm: &WasmOptions{}}, want: "Cargo.toml:1:9: ..."},
	} {
		c.req.Context = project(t, c.files)
		_, err := e.Build(t.Context(), c.req)
		if err == nil {
			t.Errorf("%s: it was built", name)
			continue
		}
		begin, end, _ := strings.Cut(c.want, "...")
		if got := strings.TrimPrefix(err.Error(), c.req.Context+"/"); !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, end) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		var input *InputError
		var pe *graph.PosError
		if !errors.As(err, &input) && !errors.As(err, &pe) {
			t.Errorf("%s: %T is no mistake of the user's", name, err)
		}
	}
}
