package engine

import (
	"cmp"
	"os"
	"path/filepath"
	"sync"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

// WasmFormat is the form in which a WebAssembly build leaves its result.
type WasmFormat string

// The forms.
const (
	// WasmDefault is WasmArtifact, or WasmFile where the build file says "oci: false".
	WasmDefault WasmFormat = ""
	// WasmArtifact is an OCI artifact with the module or component as its layer.
	WasmArtifact WasmFormat = "artifact"
	// WasmImage is a container image for the platform wasi/wasm with the file as its
	// entry point.
	WasmImage WasmFormat = "image"
	// WasmFile is the file alone.
	WasmFile WasmFormat = "file"
)

// WasmOptions ask for a WebAssembly build, also where there is no build file. What is
// set goes before what the wasm section of a ZImagefile says.
type WasmOptions struct {
	// Language is found out by default.
	Language string
	// Target is preview1 (a module) or preview2 (a component).
	Target string
	// Optimize builds for release and makes the result smaller; OptLevel is O, Os, Oz,
	// O2 or O3.
	Optimize bool
	OptLevel string
	// WIT is a file or directory of the build context with WIT files, World the world
	// that the result has to conform to.
	WIT, World string
	// Output is where the file goes, relative to the build context.
	Output   string
	Features []string
	// Adapter is a file of the build context, command or reactor.
	Adapter string
	// Image is the image with the toolchain.
	Image string
}

// WasmResult is what a WebAssembly build made.
type WasmResult struct {
	Info *wasm.Info
	// File is where Output put it; "" without.
	File string
	// Attestations are the statements about the artifact that were asked for.
	Attestations []WasmAttestation
}

// wasmPlatform is the platform of images of WebAssembly.
const wasmPlatform = "wasi/wasm"

// wasmJob is what a job knows of its build if that is one of WebAssembly.
type wasmJob struct {
	file   *zimage.File
	format WasmFormat
	// dir is where the daemon puts the file.
	dir string
	// output is where the result goes besides, absolute.
	output string
	// deliver are the places that the result goes to.
	deliver []func(d *wasmDelivery) error
	// files, archives and layouts are destinations that can be looked at.
	files, archives, layouts []string
	// statements are what was delivered with the result.
	statements []wasmStatement

	mu    sync.Mutex
	build *wasm.Build // once the build file has been compiled
	stat  *fileStat   // of the result, once it is there
}

func (w *wasmJob) setStat(s *fileStat) {
	w.mu.Lock()
	w.stat = s
	w.mu.Unlock()
}

func (w *wasmJob) statted() *fileStat {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stat
}

func (w *wasmJob) setBuild(b *wasm.Build) {
	w.mu.Lock()
	w.build = b
	w.mu.Unlock()
}

func (w *wasmJob) compiled() *wasm.Build {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.build
}

// setWasm finds out whether the build is one of WebAssembly.
func (j *job) setWasm() error {
	switch j.req.WasmFormat {
	case WasmDefault, WasmArtifact, WasmImage, WasmFile:
	default:
		return inputErrorf("format %q is none of artifact, image and file", j.req.WasmFormat)
	}
	var f *zimage.File
	if dir, ok := j.dirs["dockerfile"]; ok {
		if text, err := os.ReadFile(filepath.Join(dir, cmp.Or(j.attrs["filename"], "Dockerfile"))); err == nil {
			f = parseWasm(cmp.Or(j.attrs["filename"], "Dockerfile"), text)
		}
	}
	if f == nil {
		if j.req.Wasm != nil || j.req.WasmFormat != WasmDefault {
			return inputErrorf("%s does not describe a WebAssembly build: it needs a section wasm", cmp.Or(j.shownFile, "the build file"))
		}
		return nil
	}
	w := &wasmJob{file: f, format: j.req.WasmFormat}
	if w.format == WasmDefault {
		w.format = WasmArtifact
		if f.Wasm.NoOCI {
			w.format = WasmFile
		}
	}
	if err := j.wasmPlatforms(w); err != nil {
		return err
	}
	if j.req.Target != "" {
		return inputErrorf("a WebAssembly build has no stages to choose: drop target %s", j.req.Target)
	}
	if err := j.wasmOutputPath(w); err != nil {
		return err
	}
	j.wasm = w
	return nil
}

// wasmOutputPath finds out where the result goes besides its outputs.
func (j *job) wasmOutputPath(w *wasmJob) error {
	out, pos := "", w.file.Wasm.Pos
	if o := w.file.Wasm.Output; o != nil {
		out, pos = o.Value, o.Pos
	}
	given := j.req.Wasm != nil && j.req.Wasm.Output != ""
	if given {
		out = j.req.Wasm.Output
	}
	local := filepath.FromSlash(out)
	switch {
	case out == "" || j.contextDir == "":
		return nil
	case filepath.IsLocal(local):
		w.output = filepath.Join(j.contextDir, local)
		return nil
	}
	err := inputErrorf("output %s is outside of the build context: paths are relative to it", out)
	if given {
		return err
	}
	pos.File = cmp.Or(j.shownFile, pos.File)
	return &graph.PosError{Pos: pos, Err: err, Source: w.file.Text}
}

// wasmPlatforms: a module is for no machine in particular.
func (j *job) wasmPlatforms(w *wasmJob) error {
	if p := j.attrs["platform"]; p != "" && p != wasmPlatform {
		return inputErrorf("WebAssembly is not built for %s: drop the platform", p)
	}
	delete(j.attrs, "platform")
	if w.format == WasmImage {
		j.attrs["platform"] = wasmPlatform
	}
	return nil
}

// at gives a defect of the result the place of its description.
func (w *wasmJob) at(j *job, err error) error {
	if j.madeUp {
		return asInput(err)
	}
	shown := w.file.Wasm.Pos
	shown.File = cmp.Or(j.shownFile, shown.File)
	return &graph.PosError{Pos: shown, Err: err, Source: w.file.Text}
}

// isWasmArtifact tells whether the result is not an image but a file or an artifact.
func (j *job) isWasmArtifact() bool { return j.wasm != nil && j.wasm.format != WasmImage }
