// Package wasm builds WebAssembly: it knows the languages that compile to it, the stages of such a
// build, the binary format, WIT worlds and the OCI artifact that carries a module or component.
//
// A build is text: [Compile] looks at a project and writes the Dockerfile whose last stage holds
// exactly one file, the module or component. Compilers run where every step of a build runs, in an
// image and never on the host. [Inspect] reads what came out, [World.Check] holds it against the
// world it was made for, and [Pack] makes an artifact of it.
package wasm
