package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/engine"
)

func newWasm(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wasm",
		Short: "Build WebAssembly, and look at, run, push and pull it",
		Long: `Build WebAssembly modules and components from source, and look at, run, push and
pull them. Compilers run in images, never on this machine. What comes out is an OCI
artifact in the image store; zlayer images, tag, save and rm work on it, too.`,
	}
	cmd.AddCommand(newWasmBuild(a), newWasmWhy(a), newWasmInspect(a), newWasmValidate(a), newWasmPush(a), newWasmPull(a), newWasmRun(a))
	return cmd
}

// wasmFlags are the flags of WebAssembly builds.
type wasmFlags struct {
	engine.WasmOptions
	json bool
}

func (w *wasmFlags) register(f *pflag.FlagSet) {
	registerWasmOptions(f, &w.WasmOptions)
	f.BoolVar(&w.json, "json", false, "describe the result on standard output, as JSON")
}

// registerWasmOptions are the flags that say how to compile.
func registerWasmOptions(f *pflag.FlagSet, w *engine.WasmOptions) {
	f.StringVar(&w.Language, "language", "", "the `LANGUAGE` of the sources: rust, rust-component, go, tinygo, python, typescript, javascript, assemblyscript, c or zig; found out by default")
	f.StringVar(&w.Target, "target", "", "`preview1` for a module or preview2 for a component; by default what the language makes by itself")
	f.BoolVar(&w.Optimize, "optimize", false, "build for release and make the result smaller")
	f.StringVar(&w.OptLevel, "opt-level", "", "optimise by `LEVEL`: O, Os, Oz, O2 or O3 (default Oz)")
	f.StringVar(&w.WIT, "wit", "", "the file or directory `PATH` in the context with WIT files; wit by default, if it is there")
	f.StringVar(&w.World, "world", "", "the `WORLD` that the result has to conform to")
	f.StringVar(&w.Output, "out", "", "write the result to `FILE` as well, relative to the context")
	f.StringArrayVar(&w.Features, "feature", nil, "enable a `FEATURE` of the language: of cargo, a tag of Go, a macro of C, an option of Zig (repeatable)")
	f.StringVar(&w.Adapter, "adapter", "", "make a component of a module with `ADAPTER`: a file of the context, or command or reactor")
	f.StringVar(&w.Image, "image", "", "compile in the image `REF`")
}

func newWasmBuild(a *app) *cobra.Command {
	var f buildFlags
	var w wasmFlags
	cmd := &cobra.Command{
		Use:   "build [flags] [CONTEXT]",
		Short: "Build a WebAssembly module or component",
		Long: `Build a WebAssembly module or component and put it into the image store as an OCI
artifact. The context is a directory (the working directory if none is named). How
to build is said by the wasm section of its ZImagefile, and by flags, which go
first. Without a ZImagefile the language is found out.

-o FILE.wasm writes the file alone, -o type=oci an archive of the artifact.`,
		Example: `  zlayer wasm build -t registry.example/plugin:1 --push .
  zlayer wasm build --optimize -o plugin.wasm .
  zlayer wasm build --language c --adapter command -t tool .`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("zlayer wasm build takes one build context, not %d", len(args))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	w.register(flags)
	group(flags, "WebAssembly")
	f.registerWasm(flags)
	usesGlobals(cmd, remoteFlags, stateFlags, storeFlags, embeddedFlags, memoFlags, debugFlags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := f.plan(a, flags, args)
		if err != nil {
			return usage(err)
		}
		p.request.Wasm, p.resultJSON = &w.WasmOptions, w.json
		return a.build(cmd.Context(), p)
	}
	return cmd
}

// registerWasm is register without what images have and WebAssembly has not.
func (b *buildFlags) registerWasm(f *pflag.FlagSet) {
	b.whatWasm(f)
	group(f, "What to build")
	b.result(f)
	group(f, "What comes out of it")
	b.cache(f)
	group(f, "Cache")
	b.steps(f)
	group(f, "What steps may use")
	b.how(f)
	group(f, "How to go about it")
}

// whatWasm is what without what images have and WebAssembly has not.
func (b *buildFlags) whatWasm(f *pflag.FlagSet) {
	f.StringVarP(&b.file, "file", "f", "", "build by the ZImagefile `FILE`, relative to the working directory")
	f.StringArrayVar(&b.buildArgs, "build-arg", nil, "set a build argument: `NAME[=VALUE]`, such as WASM_IMAGE or WASM_TOOLS_IMAGE (repeatable)")
	f.StringArrayVar(&b.contexts, "build-context", nil, "let `NAME=PATH` stand for an image (repeatable)")
	f.StringVar(&b.root, "root", "", "let builds of other directories read what is below `DIR`; without it the git work tree of the context")
	f.StringVar(&b.defaultRegistry, "default-registry", "", "look for images with short names in `REGISTRY` (HOST[/PATH]) first")
	b.wasmForm(f)
}

func (b *buildFlags) wasmForm(f *pflag.FlagSet) {
	f.StringVar(&b.wasmFormat, "wasm-format", "", "leave the result of a WebAssembly build as `FORM`: artifact, image (a container image for wasi/wasm) or file")
}

// wasmJSON is the result of a WebAssembly build for programs.
type wasmJSON struct {
	Digest string           `json:"digest,omitempty"`
	Names  []string         `json:"names,omitempty"`
	File   string           `json:"file,omitempty"`
	Wasm   *engine.WasmInfo `json:"wasm,omitempty"`
	// Attestations are what refers to the artifact.
	Attestations []engine.WasmAttestation `json:"attestations,omitempty"`
}

func resultJSON(r *engine.Result) wasmJSON {
	out := wasmJSON{Digest: r.Digest.String(), Names: r.Tags}
	if r.Wasm != nil {
		out.Wasm, out.File, out.Attestations = r.Wasm.Info, r.Wasm.File, r.Wasm.Attestations
	}
	return out
}

// wasmData gives the binary that a file, or an artifact in the store, holds.
func (a *app) wasmData(cmd *cobra.Command, name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err == nil {
		return data, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, usage(err)
	}
	err = a.withEngine(cmd.Context(), func(e builder) error {
		var err error
		data, err = e.StoredWasm(cmd.Context(), name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("there is no file %s, and in the store: %w", name, err)
	}
	return data, nil
}
