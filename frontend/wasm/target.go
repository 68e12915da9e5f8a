package wasm

// Target is a version of WASI.
type Target string

// The targets. Preview 1 is what modules import, preview 2 is for components.
const (
	Preview1 Target = "preview1"
	Preview2 Target = "preview2"
)
