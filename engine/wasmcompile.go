package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

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
	j.attrs["filename"], j.shownFile, j.inMemory, j.madeUp = "ZImagefile", shown, true, true
	j.mount("dockerfile", dir)
	return nil
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
		_, scanned := j.attrs["attest:sbom"]
		opt.Scan = scanned && j.isWasmArtifact()
		for _, o := range j.req.Outputs {
			if rel, err := filepath.Rel(c.unit.dir, absolute(o.Dest)); o.Dest != "" && err == nil && filepath.IsLocal(rel) && rel != "." {
				opt.Exclude = append(opt.Exclude, filepath.ToSlash(rel))
			}
		}
	}
	c.inputs.loosen() // it looks at the project as it likes
	root, err := os.OpenRoot(c.unit.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := compileWasm(d, s, root.FS(), opt)
	if err != nil && j != nil && j.madeUp {
		return nil, j.notInFile(err)
	}
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

// notInFile takes the place in a build file that nobody has written from what is wrong
// with a build, and says where a language could have been named instead.
func (j *job) notInFile(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, err := range all.Unwrap() {
			errs = append(errs, j.notInFile(err))
		}
		return list(errs)
	}
	var pe *graph.PosError
	if errors.As(err, &pe) && pe.Pos.File == j.shownFile {
		err = pe.Err
	}
	switch {
	case !errors.Is(err, wasm.ErrNoLanguage):
	case j.req.Wasm != nil:
		err = fmt.Errorf("%w: name it with --language", wasm.ErrNoLanguage)
	default:
		err = fmt.Errorf("%w: name it with zlayer wasm build --language", wasm.ErrNoLanguage)
	}
	return asInput(err)
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
