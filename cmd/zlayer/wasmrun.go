package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/zlayer-dev/zlayer/engine"
)

// wasmRun is what a module gets to see.
type wasmRun struct {
	env, dirs []string
}

func newWasmRun(a *app) *cobra.Command {
	var r wasmRun
	cmd := &cobra.Command{
		Use:   "run [flags] FILE|IMAGE [ARGUMENT...]",
		Short: "Run a WebAssembly module, to try it out",
		Long: `Run a WebAssembly module of WASI preview 1 with its arguments, standard input and
output. It sees no variables, files or network but what flags give it. The exit code
is 1 if the module's is not 0. Components are for a runtime with the component model,
such as wasmtime.`,
		Example: "  zlayer wasm run hello.wasm world\n  zlayer wasm run --dir .:/data --env MODE=test registry.example/tool:1 /data/in.txt",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("zlayer wasm run needs FILE or IMAGE")
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringArrayVar(&r.env, "env", nil, "set a variable: `NAME=VALUE` (repeatable)")
	cmd.Flags().StringArrayVar(&r.dirs, "dir", nil, "let the module use a directory: `HOST[:GUEST[:ro]]` (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := a.wasmData(cmd, args[0])
		if err != nil {
			return err
		}
		return a.runWasm(cmd.Context(), r, data, args)
	}
	return storeCommand(cmd)
}

// runWasm runs a module; args begin with its name.
func (a *app) runWasm(ctx context.Context, r wasmRun, data []byte, args []string) error {
	info, err := engine.InspectWasm(data)
	switch {
	case err != nil:
		return usage(fmt.Errorf("%s: %w", args[0], err))
	case info.Kind != "module":
		return usage(fmt.Errorf("%s is a component, and only modules can be run here: use wasmtime run, wasmtime serve for an HTTP handler, or npx @bytecodealliance/jco run", args[0]))
	case !info.Exported("_start"):
		return usage(fmt.Errorf("%s has no function _start: it is a library and no program", args[0]))
	}
	config, err := r.config(a.stdin, a.stdout, a.stderr, args)
	if err != nil {
		return usage(err)
	}
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true))
	defer runtime.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, runtime); err != nil {
		return err
	}
	_, err = runtime.InstantiateWithConfig(ctx, data, config)
	var exit *sys.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit) && exit.ExitCode() == 0:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("%s ended with exit code %d", args[0], exit.ExitCode())
	case err != nil:
		return fmt.Errorf("running %s: %w", args[0], err)
	}
	return nil
}

// config is what the module gets.
func (r wasmRun) config(in io.Reader, out, errOut io.Writer, args []string) (wazero.ModuleConfig, error) {
	c := wazero.NewModuleConfig().WithName("").WithStdin(in).WithStdout(out).WithStderr(errOut).
		WithArgs(append([]string{filepath.Base(args[0])}, args[1:]...)...).
		WithRandSource(rand.Reader).WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	for _, e := range r.env {
		name, value, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--env %q: write NAME=VALUE", e)
		}
		c = c.WithEnv(name, value)
	}
	fs := wazero.NewFSConfig()
	for _, d := range r.dirs {
		host, rest, _ := strings.Cut(d, ":")
		guest, mode, _ := strings.Cut(rest, ":")
		if guest == "" {
			guest = host
		}
		if fi, err := os.Stat(host); err != nil || !fi.IsDir() {
			return nil, fmt.Errorf("--dir %q: %s is no directory", d, host)
		}
		switch mode {
		case "":
			fs = fs.WithDirMount(host, guest)
		case "ro":
			fs = fs.WithReadOnlyDirMount(host, guest)
		default:
			return nil, fmt.Errorf("--dir %q: write HOST:GUEST:ro for a directory that is only read", d)
		}
	}
	return c.WithFSConfig(fs), nil
}
