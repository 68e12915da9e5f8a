package engine

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
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
	// files are destinations that can be looked at.
	files []string

	mu    sync.Mutex
	build *wasm.Build // once the build file has been compiled
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

// wasmFile makes the build file of dir that of the job; where that is not one of
// WebAssembly, one that says no more than that it is.
func (j *job) wasmFile(dir string) error {
	file, err := zimage.Find(dir)
	if err != nil {
		return inputErrorf("%w: name the build file with -f", err)
	}
	if file != "" {
		if text, err := os.ReadFile(file); err == nil && parseWasm(file, text) != nil {
			return j.buildFile(filepath.Join(j.req.Context, filepath.Base(file)))
		}
	}
	return j.wasmText("wasm: {}\n", "wasm")
}

// wasmText makes a ZImagefile that is nowhere the build file.
func (j *job) wasmText(text, shown string) error {
	dir, err := j.tempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ZImagefile"), []byte(text), 0o600); err != nil {
		return err
	}
	j.attrs["filename"], j.shownFile = "ZImagefile", shown
	return j.mount("dockerfile", dir)
}

// parseWasm reads a build file; nil if it is not one of WebAssembly.
func parseWasm(name string, text []byte) *zimage.File {
	// Most builds are none, and need not be read twice to know it.
	if low := bytes.ToLower(text); !bytes.Contains(low, []byte("wasm")) && !bytes.Contains(low, []byte("webassembly")) {
		return nil
	}
	if !zimage.IsZImagefile(filepath.Base(name), text) {
		return nil
	}
	f, err := zimage.Parse(name, text)
	if err != nil || f.Mode() != zimage.ModeWasm {
		return nil // its mistakes come out when it is compiled
	}
	return f
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
	for kind, v := range j.req.Attests {
		if w.format != WasmImage && v != "disabled=true" {
			return inputErrorf("attestations are not attached to WebAssembly artifacts: drop %s, or make an image (--wasm-format=image)", kind)
		}
	}
	if j.req.Target != "" {
		return inputErrorf("a WebAssembly build has no stages to choose: drop target %s", j.req.Target)
	}
	out := ""
	if f.Wasm.Output != nil {
		out = f.Wasm.Output.Value
	}
	if o := j.req.Wasm; o != nil && o.Output != "" {
		out = o.Output
	}
	if out != "" && filepath.IsLocal(filepath.FromSlash(out)) && j.contextDir != "" {
		w.output = filepath.Join(j.contextDir, filepath.FromSlash(out))
	}
	j.wasm = w
	return nil
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

// settings are those of a wasm section, in the frontend's terms.
func wasmSettings(z *zimage.Wasm) wasm.Settings {
	s := wasm.Settings{Pos: z.Pos, Optimize: z.Optimize}
	for _, f := range []struct {
		to   *wasm.Text
		from *zimage.String
	}{
		{&s.Language, z.Language}, {&s.Target, z.Target}, {&s.OptLevel, z.OptLevel}, {&s.WIT, z.WIT}, {&s.World, z.World},
		{&s.Output, z.Output}, {&s.Adapter, z.Adapter}, {&s.Image, z.Image},
	} {
		if f.from != nil {
			*f.to = wasm.Text{Value: f.from.Value, Pos: f.from.Pos}
		}
	}
	for _, f := range z.Features {
		s.Features = append(s.Features, wasm.Text{Value: f.Value, Pos: f.Pos})
	}
	for _, a := range z.BuildArgs {
		s.Env = append(s.Env, wasm.Variable{Name: a.Key.Value, Value: a.Value.Value})
	}
	s.PreBuild, s.PostBuild = wasmCommands(z.PreBuild), wasmCommands(z.PostBuild)
	return s
}

func wasmCommands(list []zimage.Command) []wasm.Command {
	var out []wasm.Command
	for _, c := range list {
		out = append(out, wasm.Command{Shell: c.Shell, Exec: c.Exec, Pos: c.Pos})
	}
	return out
}

// over puts what the request says over the settings.
func (o *WasmOptions) over(s *wasm.Settings) {
	for _, f := range []struct {
		to   *wasm.Text
		from string
	}{
		{&s.Language, o.Language}, {&s.Target, o.Target}, {&s.OptLevel, o.OptLevel}, {&s.WIT, o.WIT}, {&s.World, o.World},
		{&s.Output, o.Output}, {&s.Adapter, o.Adapter}, {&s.Image, o.Image},
	} {
		if f.from != "" {
			*f.to = wasm.Text{Value: f.from}
		}
	}
	s.Optimize = s.Optimize || o.Optimize
	if len(o.Features) > 0 {
		s.Features = nil
		for _, f := range o.Features {
			s.Features = append(s.Features, wasm.Text{Value: f})
		}
	}
}

// wasmDockerfile compiles a wasm section to a Dockerfile.
func (c *conversion) wasmDockerfile(f *zimage.File, d *zimage.Dockerfile) (*zimage.Dockerfile, error) {
	if c.unit.dir == "" {
		return nil, c.at(f.Wasm.Pos, c, inputErrorf("a WebAssembly build needs a build context that is a directory: how it is built depends on what is there"))
	}
	s := wasmSettings(f.Wasm)
	opt := wasm.Options{}
	if rel, err := filepath.Rel(c.unit.dir, c.unit.file); err == nil && filepath.IsLocal(rel) {
		opt.Exclude = append(opt.Exclude, filepath.ToSlash(rel))
	}
	j := c.unit.job // nil for a nested build, which nobody has asked anything of
	if j != nil && j.wasm != nil {
		if j.req.Wasm != nil {
			j.req.Wasm.over(&s)
		}
		opt.Entrypoint = j.wasm.format == WasmImage
		for _, o := range j.req.Outputs {
			if rel, err := filepath.Rel(c.unit.dir, absolute(o.Dest)); o.Dest != "" && err == nil && filepath.IsLocal(rel) && rel != "." {
				opt.Exclude = append(opt.Exclude, filepath.ToSlash(rel))
			}
		}
	}
	root, err := os.OpenRoot(c.unit.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := compileWasm(d, s, root.FS(), opt)
	if err != nil {
		return nil, asInput(withText(err, c.shown, c.text))
	}
	if j != nil && j.wasm != nil {
		j.wasm.setBuild(b)
	}
	return d, nil
}

// compileWasm fills in the Dockerfile of a WebAssembly build of the project in dir.
func compileWasm(d *zimage.Dockerfile, s wasm.Settings, dir fs.FS, opt wasm.Options) (*wasm.Build, error) {
	b, err := wasm.Compile(s, dir, opt)
	if err != nil {
		return nil, err
	}
	d.Text, d.Lines = b.Dockerfile, b.Lines
	d.Warnings = append(d.Warnings, b.Warnings...)
	return b, nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			return real
		}
		return abs
	}
	return path
}

// withText gives the mistakes in a file the file's text.
func withText(err error, name string, text []byte) error {
	for _, pe := range yamlfile.Errors(err) {
		if pe.Source == nil && pe.Pos.File == name {
			pe.Source = text
		}
	}
	return err
}

// isWasmArtifact tells whether the result is not an image but a file or an artifact.
func (j *job) isWasmArtifact() bool { return j.wasm != nil && j.wasm.format != WasmImage }

// wasmOutputs has the daemon give us the file, which we deliver.
func (j *job) wasmOutputs(list []Output) error {
	w := j.wasm
	dir, err := j.tempDir()
	if err != nil {
		return err
	}
	w.dir = dir
	j.outputs.exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: dir}}
	if w.output != "" {
		w.files = append(w.files, w.output)
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFile(w.output) })
	}
	if len(j.req.Outputs) == 0 && !j.req.Push && w.format == WasmFile {
		list = nil
		if w.output == "" {
			return inputErrorf("the result is a file and there is no place for it: set wasm.output, or give an output directory (-o DIR)")
		}
	}
	for _, o := range list {
		if err := j.wasmOutput(o); err != nil {
			return err
		}
	}
	for k := range j.req.Annotations {
		if _, err := wasmAnnotation(k); err != nil {
			return err
		}
	}
	return nil
}

// wasmOutput adds one place for the result.
func (j *job) wasmOutput(o Output) error {
	w := j.wasm
	if w.format == WasmFile && o.Type != OutputLocal && o.Type != OutputTar && o.Type != OutputCacheOnly {
		return inputErrorf("output %s takes artifacts, and the build makes a bare file: drop \"oci: false\", or use local or tar", o.Type)
	}
	switch o.Type {
	case OutputStore, OutputImage:
		if err := refuseDest(o); err != nil {
			return err
		}
		names := j.outputs.names
		if list := o.Attrs["name"]; list != "" {
			names = strings.Split(list, ",")
		}
		push := o.Attrs["push"] == "true"
		if push && len(names) == 0 {
			return inputErrorf("nothing to push: give the artifact a name with a tag (-t registry/name:tag)")
		}
		s, err := j.engine.Store()
		if err != nil {
			return err
		}
		j.outputs.store = s
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.store(s, names, push) })
	case OutputOCI:
		if o.Attrs["tar"] == "false" {
			if o.Dest == "" || refuseFile(o) != nil {
				return cmp.Or(refuseFile(o), inputErrorf("output oci with tar=false needs dest=DIRECTORY"))
			}
			w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.layoutDir(o.Dest) })
			return nil
		}
		return j.wasmArchive(o, (*wasmDelivery).layoutTar)
	case OutputTar:
		return j.wasmArchive(o, (*wasmDelivery).fileTar)
	case OutputLocal:
		if o.Dest == "" {
			return inputErrorf("output local needs dest=DIRECTORY")
		}
		w.files = append(w.files, o.Dest)
		if strings.HasSuffix(o.Dest, ".wasm") { // the file itself
			w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFile(o.Dest) })
			return nil
		}
		if err := refuseFile(o); err != nil {
			return err
		}
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFile(filepath.Join(o.Dest, d.file)) })
	case OutputCacheOnly:
		return refuseDest(o)
	default:
		return inputErrorf("output %s cannot take WebAssembly: use store, oci, local, tar or --push, or the format image", o.Type)
	}
	return nil
}

// wasmAnnotation is the key of an annotation without the kind of object it is for.
func wasmAnnotation(k string) (string, error) {
	m := annotationPrefix.FindStringSubmatch(k)
	if m == nil {
		return k, nil
	}
	if m[1] != "manifest" {
		return "", inputErrorf("annotation %q: an artifact of WebAssembly has a manifest and nothing else to annotate", k)
	}
	return m[2], nil
}

// wasmCreated is the time that the artifact says it was made: SOURCE_DATE_EPOCH.
func (j *job) wasmCreated() time.Time {
	if n, err := strconv.ParseInt(j.req.BuildArgs["SOURCE_DATE_EPOCH"], 10, 64); err == nil {
		return time.Unix(n, 0)
	}
	return time.Time{}
}

// wasmName is what the artifact is called: as its first tag, else as its file.
func (j *job) wasmName(file string) string {
	if len(j.outputs.names) > 0 {
		name := j.outputs.names[0]
		name = name[strings.LastIndexByte(name, '/')+1:]
		name, _, _ = strings.Cut(name, "@")
		name, _, _ = strings.Cut(name, ":")
		return name
	}
	return strings.TrimSuffix(filepath.Base(file), ".wasm")
}

// at gives a defect of the result the place of its description.
func (w *wasmJob) at(j *job, err error) error {
	shown := w.file.Wasm.Pos
	shown.File = cmp.Or(j.shownFile, shown.File)
	return &graph.PosError{Pos: shown, Err: err, Source: w.file.Text}
}

// wasmAnnotations are those of the artifact: labels, then annotations.
func (j *job) wasmAnnotations() map[string]string {
	out := map[string]string{}
	for _, l := range j.wasm.file.Labels {
		out[l.Key.Value] = l.Value.Value
	}
	for k, v := range j.req.Labels {
		out[k] = v
	}
	for k, v := range j.req.Annotations {
		if key, err := wasmAnnotation(k); err == nil {
			out[key] = v
		}
	}
	return out
}

// insecureRegistry tells whether the configuration lets a registry be asked without
// certificates.
func (c Config) insecureRegistry(host string) bool {
	return slices.Contains(c.PlainHTTP, host) || slices.Contains(c.Insecure, host)
}
