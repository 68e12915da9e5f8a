package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/engine"
)

func newWasmInspect(a *app) *cobra.Command {
	var format dataFormat
	cmd := &cobra.Command{
		Use:     "inspect [flags] FILE|IMAGE",
		Short:   "Show what a WebAssembly binary imports and exports",
		Example: "  zlayer wasm inspect plugin.wasm\n  zlayer wasm inspect --json registry.example/plugin:1 | jq -r '.exports[].name'",
		Args:    exactly("FILE or IMAGE"),
	}
	format.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := format.asJSON(cmd)
		if err != nil {
			return err
		}
		data, err := a.wasmData(cmd, args[0])
		if err != nil {
			return err
		}
		info, err := engine.InspectWasm(data)
		if err != nil {
			return usage(fmt.Errorf("%s: %w", args[0], err))
		}
		if asJSON {
			return a.printJSON(info)
		}
		return a.print(wasmText(info))
	}
	return storeCommand(cmd)
}

// wasmText describes a binary for people.
func wasmText(info *engine.WasmInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s for WASI %s, %s, %d sections\n", info.Kind, info.Target, size(info.Size), len(info.Sections))
	if info.Modules+info.Components > 0 {
		fmt.Fprintf(&b, "contains %d modules and %d components\n", info.Modules, info.Components)
	}
	for _, e := range info.Imports {
		name := e.Name
		if e.Module != "" {
			name = e.Module + " " + name
		}
		fmt.Fprintf(&b, "import %s (%s)\n", name, e.Kind)
	}
	for _, e := range info.Exports {
		fmt.Fprintf(&b, "export %s (%s)\n", e.Name, e.Kind)
	}
	return b.String()
}

func newWasmValidate(a *app) *cobra.Command {
	var c engine.WasmChecks
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [flags] FILE|IMAGE",
		Short: "Check a WebAssembly binary, and whether it conforms to a world",
		Long: `Check that a file or an artifact in the store is a WebAssembly binary whose parts
are whole, and if asked for, that it is a module or component and conforms to a
world. What is wrong is an error. Code is not checked: that is for the runtime.`,
		Example: "  zlayer wasm validate --world zlayer-http-handler plugin.wasm\n  zlayer wasm validate --wit wit --world greeter plugin.wasm",
		Args:    exactly("FILE or IMAGE"),
	}
	cmd.Flags().StringVar(&c.Target, "target", "", "ask for `TARGET`: preview1 (a module) or preview2 (a component)")
	cmd.Flags().StringVar(&c.World, "world", "", "ask for the `WORLD`: one of the WIT files, or zlayer-plugin and its kind, wasi:cli/command or wasi:http/proxy")
	cmd.Flags().StringVar(&c.WIT, "wit", "", "find the world in `PATH`, a file or directory with WIT files")
	cmd.Flags().BoolVar(&asJSON, "json", false, "give the verdict as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := a.wasmData(cmd, args[0])
		if err != nil {
			return err
		}
		info, err := engine.InspectWasm(data)
		if err == nil {
			err = engine.ValidateWasm(info, c)
		}
		if asJSON {
			v := struct {
				Valid bool             `json:"valid"`
				Error string           `json:"error,omitempty"`
				Wasm  *engine.WasmInfo `json:"wasm,omitempty"`
			}{Valid: err == nil, Wasm: info}
			if err != nil {
				v.Error = err.Error()
			}
			if perr := a.printJSON(v); perr != nil {
				return perr
			}
			if err != nil {
				return &toldError{err}
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return a.print(fmt.Sprintf("%s is a valid %s\n", args[0], info.Kind))
	}
	return storeCommand(cmd)
}
