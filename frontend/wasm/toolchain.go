package wasm

import "fmt"

// toolchain says how the language is compiled.
func (c *compiler) toolchain() (toolchain, error) {
	switch c.language {
	case Rust:
		return rustToolchain(c.target, c.Adapter.Value != ""), nil
	case RustComponent:
		return rustComponentToolchain(), nil
	case Go:
		return goToolchain(), nil
	case TinyGo:
		return tinyGoToolchain(c.target, c.Adapter.Value != ""), nil
	case Python:
		return pythonToolchain(), nil
	case TypeScript:
		return typeScriptToolchain(), nil
	case AssemblyScript:
		return assemblyScriptToolchain(), nil
	case C:
		return cToolchain(), nil
	case Zig:
		return zigToolchain(), nil
	}
	return toolchain{}, fmt.Errorf("there is no toolchain for %q", c.language)
}
