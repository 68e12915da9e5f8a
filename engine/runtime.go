package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/zlayer-dev/zlayer/frontend/runtimes"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

// runtimeFile makes the template of a runtime the build file: that of the request,
// or the one that the project in dir suggests.
func (j *job) runtimeFile(dir string) error {
	if j.req.File != "" {
		return inputErrorf("a runtime has a build file of its own: drop -f %s or the runtime", j.req.File)
	}
	r, err := j.runtime(dir)
	if err != nil {
		return err
	}
	if r.WASM != runtimes.NotWASM {
		return j.wasmText("runtime: "+wasmRuntime(r.WASM)+"\n", "runtime "+wasmRuntime(r.WASM))
	}
	t, err := runtimes.Render(r, os.DirFS(dir))
	if err != nil {
		return asInput(err)
	}
	j.warnings = append(j.warnings, t.Notes...)
	return j.fileText(t.Dockerfile, "runtime "+r.Name)
}

// wasmRuntime is what ZImagefiles call a runtime that is WebAssembly.
func wasmRuntime(kind runtimes.WASM) string {
	switch kind {
	case runtimes.WASMModule:
		return "wasm-module"
	case runtimes.WASMComponent:
		return "wasm-component"
	}
	return "wasm"
}

func (j *job) runtime(dir string) (runtimes.Runtime, error) {
	if !j.req.RuntimeAuto {
		r, err := runtimes.Get(j.req.Runtime)
		return r, asInput(err)
	}
	if j.req.Runtime != "" {
		return runtimes.Runtime{}, inputErrorf("runtime %s is given and one is to be detected: drop one of --runtime and --runtime-auto", j.req.Runtime)
	}
	found, err := runtimes.Detect(os.DirFS(dir))
	if err != nil {
		return runtimes.Runtime{}, asInput(err)
	}
	for _, o := range found.Others {
		j.warnings = append(j.warnings, fmt.Sprintf("taken for %s, but it could be %s: %s; --runtime says which", found.Runtime.Name, o.Runtime.Name, o.Reason))
	}
	return found.Runtime, nil
}

// asInput makes an error one of the request, unless it has a place of its own.
func asInput(err error) error {
	var pe *graph.PosError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &InputError{Err: err}
}

// overlay is the Dockerfile of a ZImagefile that names a runtime.
func (c *conversion) overlay(f *zimage.File, opt zimage.Options) (*zimage.Dockerfile, error) {
	pos := f.Runtime.Pos
	if c.unit.dir == "" {
		return nil, c.at(pos, c, errors.New("a runtime needs a build context that is a directory: its template depends on what is there"))
	}
	c.inputs.loosen() // the template looks at the project as it likes
	return overlayRuntime(f, os.DirFS(c.unit.dir), opt, func(err error) error { return c.at(pos, c, err) })
}

// overlayRuntime is the Dockerfile of a ZImagefile that names a runtime, for the
// project in dir; at places errors.
func overlayRuntime(f *zimage.File, dir fs.FS, opt zimage.Options, at func(error) error) (*zimage.Dockerfile, error) {
	r, err := runtimes.Get(f.Runtime.Value)
	if err != nil {
		return nil, at(err)
	}
	t, err := runtimes.Render(r, dir)
	if err != nil {
		return nil, at(err)
	}
	d, err := zimage.Overlay(f, t.Dockerfile, opt)
	if err != nil {
		return nil, err
	}
	for _, n := range t.Notes {
		d.Warnings = append(d.Warnings, &graph.PosError{Pos: f.Runtime.Pos, Err: errors.New(n)})
	}
	return d, nil
}
