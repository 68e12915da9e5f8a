package engine

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

// TestFindWasm finds a binary wherever a build has left it, and takes nothing else for it.
func TestFindWasm(t *testing.T) {
	data := []byte("\x00asm of this build")
	rec := &memo.Record{Digest: digest.FromBytes(data), Size: int64(len(data))}
	dir := t.TempDir()
	archive := func(name string, files map[string][]byte) string {
		t.Helper()
		var names []string
		for n := range files {
			names = append(names, n)
		}
		var b bytes.Buffer
		if err := writeTar(&b, names, files); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	other := bytes.ToUpper(data) // of the same size
	blob := "layout/blobs/sha256/" + rec.Digest.Encoded()
	writeFiles(t, dir, map[string]string{"out/x.wasm": string(data), "other.wasm": string(other), blob: string(data), "torn.tar": "torn" + string(make([]byte, 600))})
	for what, c := range map[string]struct {
		job  *wasmJob
		want bool
	}{
		"nowhere":         {&wasmJob{}, false},
		"file":            {&wasmJob{files: []string{filepath.Join(dir, "out", "x.wasm")}}, true},
		"directory":       {&wasmJob{files: []string{filepath.Join(dir, "out")}}, true},
		"another file":    {&wasmJob{files: []string{filepath.Join(dir, "other.wasm")}}, false},
		"layout":          {&wasmJob{layouts: []string{filepath.Join(dir, "layout")}}, true},
		"no layout":       {&wasmJob{layouts: []string{filepath.Join(dir, "out")}}, false},
		"archive":         {&wasmJob{archives: []string{archive("a.tar", map[string][]byte{"other": other, "x.wasm": data, "empty": nil})}}, true},
		"another archive": {&wasmJob{archives: []string{archive("b.tar", map[string][]byte{"x.wasm": other})}}, false},
		"no archive":      {&wasmJob{archives: []string{filepath.Join(dir, "torn.tar"), filepath.Join(dir, "none.tar"), dir}}, false},
	} {
		c.job.build = &wasm.Build{File: "x.wasm"}
		j := &job{engine: openBare(t), wasm: c.job}
		if got := j.findWasm(t.Context(), rec); bytes.Equal(got, data) != c.want || (got != nil) != c.want {
			t.Errorf("%s: found %q", what, got)
		}
	}
}

// TestWasmArchiveStays: an archive that is what it would be is not written again.
func TestWasmArchiveStays(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "x.tar")
	j := &job{engine: openBare(t), wasm: &wasmJob{}}
	if err := j.wasmArchive(Output{Type: OutputTar, Dest: dest}, (*wasmDelivery).fileTar); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("wasm"), 50_000)
	deliver := func(data []byte) bool {
		t.Helper()
		d := &wasmDelivery{ctx: t.Context(), job: j, file: "x.wasm", data: data}
		if err := j.wasm.deliver[0](d); err != nil {
			t.Fatal(err)
		}
		return d.changed
	}
	if !deliver(data) {
		t.Error("the first archive is no change")
	}
	before, err := os.Stat(dest)
	if err != nil {
		t.Fatal(err)
	}
	if deliver(data) {
		t.Error("the same archive is a change")
	}
	if after, err := os.Stat(dest); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again: %v", err)
	}
	if !deliver(data[:len(data)-1]) {
		t.Error("another binary is no change")
	}
	if got := archived(dest, &memo.Record{Digest: digest.FromBytes(data[:len(data)-1]), Size: int64(len(data) - 1)}); got == nil {
		t.Error("the archive has another binary")
	}
}

func TestFileIs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	text := bytes.Repeat([]byte("0123456789"), 10_000)
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(text)
	changed[70_000]++
	for what, c := range map[string]struct {
		file string
		text []byte
		want bool
	}{
		"the same": {name, text, true}, "shorter": {name, text[:len(text)-1], false}, "longer": {name, append(bytes.Clone(text), 0), false},
		"changed": {name, changed, false}, "no file": {name + "x", nil, false}, "a directory": {filepath.Dir(name), nil, false},
	} {
		got := fileIs(c.file, func(w io.Writer) error {
			for part := range bytes.Lines(bytes.ReplaceAll(c.text, []byte("9"), []byte("\n"))) {
				if _, err := w.Write(bytes.ReplaceAll(part, []byte("\n"), []byte("9"))); err != nil {
					return err
				}
			}
			return nil
		})
		if got != c.want {
			t.Errorf("%s: %v", what, got)
		}
		if whole := fileIs(c.file, func(w io.Writer) error { _, err := w.Write(c.text); return err }); whole != c.want {
			t.Errorf("%s, at once: %v", what, whole)
		}
	}
	if fileIs(name, func(w io.Writer) error { _, err := w.Write(text); return errors.Join(err, io.ErrUnexpectedEOF) }) {
		t.Error("what could not be written was taken for the same")
	}
}
