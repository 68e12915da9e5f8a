package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/store"
)

func newWasmPush(a *app) *cobra.Command {
	var annotations []string
	var world, wit string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "push [flags] FILE|IMAGE [NAME]",
		Short: "Push a WebAssembly file, or an artifact of the store, to a registry",
		Long: `Push a WebAssembly file as an artifact, or one that is in the store already, to the
registry in its name. A file needs a NAME; it is put into the store, too. The digest
in the registry is that of the store. Credentials are those of docker.`,
		Example: "  zlayer wasm push plugin.wasm registry.example/plugin:1\n  zlayer wasm push registry.example/plugin:1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return fmt.Errorf("zlayer wasm push takes FILE or IMAGE and perhaps NAME, not %d arguments", len(args))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&annotations, "annotation", nil, "add an annotation to the artifact of a file: `NAME=VALUE` (repeatable)")
	cmd.Flags().StringVar(&world, "world", "", "check a file against the `WORLD` and say it in the artifact")
	cmd.Flags().StringVar(&wit, "wit", "", "find the world in `PATH`, a file or directory with WIT files")
	cmd.Flags().BoolVar(&asJSON, "json", false, "tell what was pushed as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kv, err := unique("annotation", annotations, splitPair)
		if err != nil {
			return usage(err)
		}
		data, err := os.ReadFile(args[0])
		if errors.Is(err, os.ErrNotExist) || err != nil && len(args) == 1 {
			data = nil
		} else if err != nil {
			return usage(err)
		}
		if data != nil && len(args) == 1 {
			return usage(fmt.Errorf("%s is a file: say what it is to be called in a registry, as in zlayer wasm push %s HOST/NAME:TAG", args[0], args[0]))
		}
		if data == nil && (len(kv) > 0 || world+wit != "") {
			return usage(errors.New("--annotation, --world and --wit are for files: an artifact in the store stays as it is"))
		}
		return a.withEngine(cmd.Context(), func(e builder) error {
			return a.wasmPush(cmd, e, args, data, wasmPushing{annotations: kv, world: world, wit: wit, json: asJSON})
		})
	}
	return storeCommand(cmd, registryFlags)
}

// splitPair reads NAME=VALUE.
func splitPair(s string) (string, string, error) {
	for i := range len(s) {
		if s[i] == '=' && i > 0 {
			return s[:i], s[i+1:], nil
		}
	}
	return "", "", errors.New("write NAME=VALUE")
}

type wasmPushing struct {
	annotations map[string]string
	world, wit  string
	json        bool
}

func (a *app) wasmPush(cmd *cobra.Command, e builder, args []string, data []byte, p wasmPushing) error {
	name := args[len(args)-1]
	if data != nil {
		if err := checkWasm(data, engine.WasmChecks{World: p.world, WIT: p.wit}); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if _, err := e.ImportWasm(cmd.Context(), data, engine.WasmImport{Names: []string{name}, Annotations: p.annotations, World: p.world}); err != nil {
			return err
		}
		args = []string{name}
	}
	s, err := e.Store()
	if err != nil {
		return err
	}
	o := store.PushOptions{}
	if len(args) == 2 {
		o.Target = name
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return usage(fmt.Errorf("name %q: %w", name, err))
	}
	if o.Transport, err = a.registryTransport(reference.Domain(named)); err != nil {
		return err
	}
	o.Insecure = a.insecureRegistry(reference.Domain(named))
	pushed, err := s.Push(cmd.Context(), args[0], o)
	if err != nil {
		return err
	}
	if p.json {
		return a.printJSON(struct {
			Name   string `json:"name"`
			Digest string `json:"digest"`
		}{pushed.Reference, pushed.Descriptor.Digest.String()})
	}
	return a.print("pushed " + pushed.Reference + "@" + pushed.Descriptor.Digest.String() + "\n")
}

func checkWasm(data []byte, c engine.WasmChecks) error {
	info, err := engine.InspectWasm(data)
	if err != nil {
		return usage(err)
	}
	return engine.ValidateWasm(info, c)
}

func newWasmPull(a *app) *cobra.Command {
	var output string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "pull [flags] NAME",
		Short:   "Pull a WebAssembly artifact into the store",
		Long:    `Pull a WebAssembly artifact into the store, and with -o its module or component into a file.`,
		Example: "  zlayer wasm pull registry.example/plugin:1\n  zlayer wasm pull -o plugin.wasm registry.example/plugin:1",
		Args:    exactly("NAME"),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the module or component to `FILE`, - being standard output")
	cmd.Flags().BoolVar(&asJSON, "json", false, "tell what was pulled as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withEngine(cmd.Context(), func(e builder) error {
			data, digest, err := e.PullWasm(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			switch output {
			case "":
			case "-":
				if _, err := io.Copy(a.stdout, bytes.NewReader(data)); err != nil {
					return &stdoutError{err}
				}
				return nil
			default:
				if err := os.WriteFile(output, data, 0o644); err != nil { //nolint:gosec // meant to be read
					return err
				}
			}
			if asJSON {
				return a.printJSON(struct {
					Name   string `json:"name"`
					Digest string `json:"digest"`
					Size   int    `json:"size"`
				}{args[0], digest.String(), len(data)})
			}
			return a.print("pulled " + args[0] + "@" + digest.String() + "\n")
		})
	}
	return storeCommand(cmd, registryFlags)
}
