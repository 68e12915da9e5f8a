package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Kind says which of the two layers of WebAssembly a binary is of.
type Kind string

// The kinds of binaries.
const (
	Module    Kind = "module"
	Component Kind = "component"
)

// Info is what a binary says about itself. Its JSON form is what `zlayer wasm inspect` prints.
type Info struct {
	Kind Kind `json:"kind"`
	// Target is the WASI version that it is made for: preview1 or preview2.
	Target Target `json:"target"`
	Size   int64  `json:"size"`
	// Imports and Exports are in the order of the binary.
	Imports []Extern `json:"imports"`
	Exports []Extern `json:"exports"`
	// Sections are all sections of the outermost layer, in order.
	Sections []Section `json:"sections"`
	// Modules and Components count what a component contains directly.
	Modules    int `json:"modules,omitempty"`
	Components int `json:"components,omitempty"`
}

// Extern is an import or export.
type Extern struct {
	// Module is the first part of a module's import; components have none.
	Module string `json:"module,omitempty"`
	Name   string `json:"name"`
	// Kind is func, table, memory, global or tag in a module; module, func, value, type, component
	// or instance in a component.
	Kind string `json:"kind"`
}

// Section is a section of a binary.
type Section struct {
	Name string `json:"name"` // "custom NAME" for custom ones
	Size int    `json:"size"`
}

// Errors of Inspect that callers tell apart.
var (
	// ErrNotWasm says that the bytes are no WebAssembly binary at all.
	ErrNotWasm = errors.New("not a WebAssembly binary")
	// ErrVersion says that the binary is of a version that is not known.
	ErrVersion = errors.New("unknown version of WebAssembly")
)

// BinaryError is a defect of a binary.
type BinaryError struct {
	Offset int // where reading failed
	Err    error
}

// Error implements error.
func (e *BinaryError) Error() string {
	return fmt.Sprintf("damaged WebAssembly binary: at byte %d: %v", e.Offset, e.Err)
}

// Unwrap gives the defect.
func (e *BinaryError) Unwrap() error { return e.Err }

// magic begins every binary.
var magic = []byte{0, 'a', 's', 'm'}

// The versions and layers that follow the magic number.
const (
	moduleVersion    = 0x00000001
	componentVersion = 0x0001000d // layer 1, pre-standard version 13
)

// KindOf tells modules from components by the header alone.
func KindOf(header []byte) (Kind, error) {
	if len(header) < 8 || !bytes.Equal(header[:4], magic) {
		return "", fmt.Errorf("%w: it does not begin with the bytes 00 61 73 6d (\\0asm) and a version", ErrNotWasm)
	}
	version := uint32(header[4]) | uint32(header[5])<<8 | uint32(header[6])<<16 | uint32(header[7])<<24
	switch version {
	case moduleVersion:
		return Module, nil
	case componentVersion:
		return Component, nil
	}
	if header[6] == 0 && header[7] == 0 {
		return "", fmt.Errorf("%w: module version %d, known is 1", ErrVersion, version)
	}
	return "", fmt.Errorf("%w: layer %d version %d, known is layer 1 version 13 (component)", ErrVersion, version>>16, version&0xffff)
}

// Inspect reads a binary. The framing of all sections is checked, down into nested modules and
// components; of the content, imports and exports. Code is not validated: that is the runtime's part.
//
// Errors are ErrNotWasm, ErrVersion or a [BinaryError].
func Inspect(data []byte) (*Info, error) {
	kind, err := KindOf(data)
	if err != nil {
		return nil, err
	}
	info := &Info{Kind: kind, Size: int64(len(data)), Imports: []Extern{}, Exports: []Extern{}, Sections: []Section{}}
	r := &reader{data: data, at: 8}
	if kind == Module {
		info.Target = Preview1
		err = readModule(r, info)
	} else {
		info.Target = Preview2
		err = readComponent(r, info, 0)
	}
	if err != nil {
		return nil, &BinaryError{Offset: r.at, Err: err}
	}
	return info, nil
}

// Exported tells whether the binary exports the name.
func (i *Info) Exported(name string) bool {
	return slices.ContainsFunc(i.Exports, func(e Extern) bool { return e.Name == name })
}
