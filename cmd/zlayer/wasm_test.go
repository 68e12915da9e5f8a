package main

import (
	"fmt"
	"os"
	"slices"
)

// makeWasm writes a small binary: mkwasm FILE KIND.
func makeWasm() {
	data, ok := wasmBinaries()[os.Args[2]]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no binary %s\n", os.Args[2])
		os.Exit(1)
	}
	if err := os.WriteFile(os.Args[1], data, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// wasmBinaries are programs, libraries, and what is damaged.
func wasmBinaries() map[string][]byte {
	head := []byte("\x00asm\x01\x00\x00\x00")
	module := func(sections ...[]byte) []byte { return slices.Concat(head, slices.Concat(sections...)) }
	str := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, parts ...[]byte) []byte {
		body := slices.Concat(parts...)
		return append([]byte{id, byte(len(body))}, body...)
	}
	const text = "hello from wasm\n"
	preview1 := func(function string) []byte {
		return section(2, []byte{1}, str("wasi_snapshot_preview1"), str(function), []byte{0, 0})
	}
	exports := section(7, []byte{2}, str("memory"), []byte{2, 0}, str("_start"), []byte{0, 1})
	hello := module(
		section(1, []byte{2, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0}),
		preview1("fd_write"), section(3, []byte{1, 1}), section(5, []byte{1, 0, 1}), exports,
		// fd_write(1, 0, 1, 100): what the one vector at 0 says, to standard output
		section(10, []byte{1, 14, 0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 0xe4, 0, 0x10, 0, 0x1a, 0x0b}),
		section(11, []byte{2, 0, 0x41, 0, 0x0b}, str("\x08\x00\x00\x00\x10\x00\x00\x00"), []byte{0, 0x41, 8, 0x0b}, str(text)),
	)
	return map[string][]byte{
		"hello": hello,
		// proc_exit(7)
		"exit7": module(
			section(1, []byte{2, 0x60, 1, 0x7f, 0, 0x60, 0, 0}),
			preview1("proc_exit"), section(3, []byte{1, 1}), section(5, []byte{1, 0, 1}), exports,
			section(10, []byte{1, 6, 0, 0x41, 7, 0x10, 0, 0x0b}),
		),
		"library":   module(section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{1, 0}), section(7, []byte{1}, str("f"), []byte{0, 0}), section(10, []byte{1, 2, 0, 0x0b})),
		"component": slices.Concat([]byte("\x00asm\x0d\x00\x01\x00"), section(11, []byte{1, 0}, str("greet"), []byte{1, 0, 0})),
		"text":      []byte("int main() { return 0; }\n"),
		"truncated": hello[:len(hello)-30],
		"version":   []byte("\x00asm\x02\x00\x00\x00"),
		"layer":     []byte("\x00asm\x01\x00\x02\x00"),
	}
}
