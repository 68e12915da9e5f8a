package wasm

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// leb writes an unsigned LEB128 number.
func leb(n int) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func str(s string) []byte { return append(leb(len(s)), s...) }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func section(id byte, content ...[]byte) []byte {
	c := cat(content...)
	return cat([]byte{id}, leb(len(c)), c)
}

var (
	moduleHead    = []byte("\x00asm\x01\x00\x00\x00")
	componentHead = []byte("\x00asm\x0d\x00\x01\x00")
)

// wasiModule is a module with imports of all kinds.
func wasiModule() []byte {
	return cat(moduleHead,
		section(0, str("producers"), []byte{1, 2, 3}),
		section(1, []byte{1, 0x60, 0, 0}),
		section(2, leb(6),
			str("wasi_snapshot_preview1"), str("fd_write"), []byte{0, 0},
			str("env"), str("table"), []byte{1, 0x70, 1, 1, 2},
			str("env"), str("refs"), []byte{1, 0x63, 0x6f, 0, 0},
			str("env"), str("memory"), []byte{2, 5, 1, 0x80, 1},
			str("env"), str("global"), []byte{3, 0x7f, 1},
			str("env"), str("tag"), []byte{4, 0, 0},
		),
		section(3, []byte{1, 0}),
		section(7, leb(2), str("_start"), []byte{0, 1}, str("memory"), []byte{2, 0}),
		section(12, []byte{0}),
		section(10, []byte{1, 2, 0, 0x0b}),
		section(0, str("name")),
	)
}

// httpComponent is a component that contains a module and a component.
func httpComponent() []byte {
	return cat(componentHead,
		section(7, []byte{1, 0x40, 0, 1, 0}),
		section(10, leb(4),
			[]byte{0}, str("wasi:http/types@0.2.0"), []byte{5, 0},
			[]byte{1}, str("log"), []byte{1, 0},
			[]byte{0}, str("any"), []byte{3, 1},
			[]byte{0}, str("same"), []byte{3, 0, 2},
		),
		section(1, wasiModule()),
		section(4, cat(componentHead, section(1, moduleHead))),
		section(11, leb(3),
			[]byte{0}, str("wasi:http/incoming-handler@0.2.0"), []byte{5, 3, 0},
			[]byte{0}, str("run"), []byte{1, 0, 1, 1, 0},
			[]byte{0}, str("core"), []byte{0, 0x11, 0, 0},
		),
	)
}

func TestInspectModule(t *testing.T) {
	data := wasiModule()
	got, err := Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	want := &Info{
		Kind: Module, Target: Preview1, Size: int64(len(data)),
		Imports: []Extern{
			{"wasi_snapshot_preview1", "fd_write", "func"}, {"env", "table", "table"}, {"env", "refs", "table"},
			{"env", "memory", "memory"}, {"env", "global", "global"}, {"env", "tag", "tag"},
		},
		Exports: []Extern{{Name: "_start", Kind: "func"}, {Name: "memory", Kind: "memory"}},
		Sections: []Section{
			{"custom producers", 13}, {"type", 4}, {"import", 0}, {"function", 2}, {"export", 19}, {"data count", 1},
			{"code", 4}, {"custom name", 5},
		},
	}
	want.Sections[2].Size = got.Sections[2].Size // all but the imports themselves
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !got.Exported("_start") || got.Exported("main") {
		t.Error("Exported is wrong")
	}
}

func TestInspectComponent(t *testing.T) {
	got, err := Inspect(httpComponent())
	if err != nil {
		t.Fatal(err)
	}
	got.Sections, got.Size = nil, 0
	want := &Info{
		Kind: Component, Target: Preview2, Modules: 1, Components: 1,
		Imports: []Extern{
			{Name: "wasi:http/types@0.2.0", Kind: "instance"}, {Name: "log", Kind: "func"},
			{Name: "any", Kind: "type"}, {Name: "same", Kind: "type"},
		},
		Exports: []Extern{
			{Name: "wasi:http/incoming-handler@0.2.0", Kind: "instance"}, {Name: "run", Kind: "func"}, {Name: "core", Kind: "module"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInspectDamaged: what is no binary, or half of one, is told apart and never read as something.
func TestInspectDamaged(t *testing.T) {
	deep := moduleHead
	id := byte(1)
	for range maxComponentDepth + 3 {
		deep = cat(componentHead, section(id, deep))
		id = 4
	}
	for _, c := range []struct {
		name string
		data []byte
		is   error
		want string
	}{
		{"empty", nil, ErrNotWasm, ""},
		{"text", []byte("#!/bin/sh\necho"), ErrNotWasm, ""},
		{"short", moduleHead[:7], ErrNotWasm, ""},
		{"version 2", []byte("\x00asm\x02\x00\x00\x00"), ErrVersion, "module version 2, known is 1"},
		{"old component", []byte("\x00asm\x0a\x00\x01\x00"), ErrVersion, "layer 1 version 10"},
		{"cut section", cat(moduleHead, []byte{1, 9, 1}), nil, "at byte 10: section 1 of 9 bytes: it ends too early"},
		{"unknown section", cat(moduleHead, section(14)), nil, "unknown section 14"},
		{"order", cat(moduleHead, section(3, []byte{0}), section(1, []byte{0})), nil, `section "type" is twice or out of order`},
		{"twice", cat(moduleHead, section(1, []byte{0}), section(1, []byte{0})), nil, `section "type" is twice`},
		{"many exports", cat(moduleHead, section(7, leb(1<<30))), nil, "ends too early"},
		{"trailing", cat(moduleHead, section(7, []byte{0, 0})), nil, "1 bytes too many"},
		{"name", cat(moduleHead, section(7, leb(1), []byte{1, 0xff, 0, 0})), nil, "not UTF-8"},
		{"number", cat(moduleHead, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x1f}), nil, "more than 32 bits"},
		{"export kind", cat(moduleHead, section(7, leb(1), str("x"), []byte{9, 0})), nil, `export "x" is of unknown kind 9`},
		{"import kind", cat(moduleHead, section(2, leb(1), str("x"), str("y"), []byte{9, 0})), nil, `import "y" is of unknown kind 9`},
		{"inner", cat(componentHead, section(1, []byte("nonsense"))), nil, "not a WebAssembly binary"},
		{"component inside as module", cat(componentHead, section(1, componentHead)), nil, "a component where a module"},
		{"module inside as component", cat(componentHead, section(4, moduleHead)), nil, "a module where a component"},
		{"inner damaged", cat(componentHead, section(1, moduleHead, []byte{1, 5})), nil, "ends too early"},
		{"component section", cat(componentHead, section(13)), nil, "unknown section 13"},
		{"deep", deep, nil, "nested more than 32 deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := Inspect(c.data)
			if err == nil {
				t.Fatalf("got %+v", info)
			}
			var be *BinaryError
			if c.is != nil && !errors.Is(err, c.is) || c.is == nil && !errors.As(err, &be) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v %q", err, c.is, c.want)
			}
		})
	}
}

// TestInspectTruncated: no beginning of a component is one, but for those that end with a section.
func TestInspectTruncated(t *testing.T) {
	data := httpComponent()
	ends := map[int]bool{8: true}
	for at := 8; at < len(data); {
		r := &reader{data: data, at: at}
		_, c, err := r.section()
		if err != nil {
			t.Fatal(err)
		}
		at = c.end
		ends[at] = true
	}
	for n := range data {
		if _, err := Inspect(data[:n]); (err == nil) != ends[n] {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
	}
}

// FuzzInspect: reading ends, with a description that fits the bytes or an error that says what it is.
func FuzzInspect(f *testing.F) {
	f.Add(wasiModule())
	f.Add(httpComponent())
	f.Add([]byte("\x00asm\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Inspect(data)
		var be *BinaryError
		if err != nil {
			if info != nil || !errors.Is(err, ErrNotWasm) && !errors.Is(err, ErrVersion) && !errors.As(err, &be) {
				t.Fatalf("%+v, %v", info, err)
			}
			if be != nil && (be.Offset < 8 || be.Offset > len(data)) {
				t.Fatalf("the offset %d is not in %d bytes", be.Offset, len(data))
			}
			return
		}
		size := 8
		for _, s := range info.Sections {
			size += s.Size
		}
		if kind, err := KindOf(data); err != nil || kind != info.Kind || size > len(data) {
			t.Fatalf("%s of %d bytes in sections of %d: %v", info.Kind, len(data), size, err)
		}
	})
}
