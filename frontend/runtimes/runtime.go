package runtimes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/util/suggest"
)

// WASM says what kind of WebAssembly a runtime stands for.
type WASM int

// The kinds of WebAssembly.
const (
	NotWASM       WASM = iota // a runtime with a template
	AnyWASM                   // WebAssembly, by the defaults of the WASM frontend
	WASMModule                // a core module, WASI preview 1
	WASMComponent             // a component, WASI preview 2
)

// String gives the name of the WASI version that the kind builds for, "" if that is open.
func (w WASM) String() string {
	switch w {
	case WASMModule:
		return "preview1"
	case WASMComponent:
		return "preview2"
	}
	return ""
}

// Runtime is something that projects can be built for by name.
type Runtime struct {
	// Name is the name in lists and messages.
	Name string
	// Aliases are what else it is called.
	Aliases []string
	// Description is one line for people.
	Description string
	// Detect are the files of a project that suggest the runtime, as patterns.
	Detect []string
	// Language tells runtimes apart that differ in more than their version: node, bun, deno,
	// python, go, rust, static, nanoserver, servercore or wasm.
	Language string
	// Version is the release line of the language, such as 22 or 3.12; "" if the runtime has just one
	// line.
	Version string
	// OS is what the image is for, linux or windows; "" for WebAssembly.
	OS string
	// WASM is set for what the WASM frontend builds: there is nothing to render then.
	WASM WASM
}

// All returns the runtimes, in the order in which people should see them.
func All() []Runtime {
	node := func(version string, aliases ...string) Runtime {
		return Runtime{
			Name: "node" + version, Aliases: append([]string{"node-" + version, "nodejs" + version}, aliases...),
			Description: "Node.js " + version + " with npm, pnpm, yarn or bun", Detect: []string{"package.json"},
			Language: "node", Version: version, OS: "linux",
		}
	}
	python := func(version string, aliases ...string) Runtime {
		short := strings.Replace(version, ".", "", 1)
		return Runtime{
			Name: "python" + short, Aliases: append([]string{"python-" + short, "python" + version}, aliases...),
			Description: "Python " + version + " with pip, uv, Poetry or Pipenv",
			Detect:      []string{"requirements.txt", "pyproject.toml", "setup.py", "Pipfile", "poetry.lock", "uv.lock"},
			Language:    "python", Version: version, OS: "linux",
		}
	}
	return []Runtime{
		node("20", "node"), node("22"), node("24"), node("26"),
		python("3.12", "python"), python("3.13"), python("3.14"),
		{
			Name: "rust", Aliases: []string{"rs"}, Description: "Rust programs, crates and workspaces",
			Detect: []string{"Cargo.toml"}, Language: "rust", OS: "linux",
		},
		{
			Name: "go", Aliases: []string{"golang"}, Description: "Go programs, modules and workspaces",
			Detect: []string{"go.mod", "go.work"}, Language: "go", OS: "linux",
		},
		{
			Name: "deno", Description: "Deno", Detect: []string{"deno.json", "deno.jsonc", "deno.lock"},
			Language: "deno", OS: "linux",
		},
		{
			Name: "bun", Description: "Bun", Detect: []string{"bun.lock", "bun.lockb"},
			Language: "bun", OS: "linux",
		},
		{
			Name: "static", Aliases: []string{"nginx"}, Description: "Files served by nginx, as they are or built by Node.js",
			Detect: []string{"index.html"}, Language: "static", OS: "linux",
		},
		{
			Name: "windows-nanoserver", Aliases: []string{"nanoserver", "windows_nanoserver"},
			Description: "A program for Windows on Nano Server", Detect: []string{"*.exe"}, Language: "nanoserver", OS: "windows",
		},
		{
			Name: "windows-servercore", Aliases: []string{"windows-server-core", "servercore", "windows_servercore"},
			Description: ".NET projects and programs for Windows on Server Core",
			Detect:      []string{"*.sln", "*.csproj", "*.vcxproj", "project.json"}, Language: "servercore", OS: "windows",
		},
		{
			Name:        "wasm",
			Aliases:     []string{"webassembly", "wasm-module", "wasm-preview1", "wasm-component", "wasi-component", "wasm-preview2"},
			Description: "WebAssembly modules and components",
			Detect:      []string{"cargo-component.toml", "componentize-py.config"}, Language: "wasm", WASM: AnyWASM,
		},
	}
}

// Get returns the runtime of a name or alias, whatever its case. The aliases of wasm that name a
// module or a component give it with WASM set to that.
func Get(name string) (Runtime, error) {
	want := strings.ToLower(strings.TrimSpace(name))
	var names []string
	for _, r := range All() {
		if r.Name == want || slices.Contains(r.Aliases, want) {
			if r.WASM != NotWASM {
				r.WASM = wasmKind(want)
			}
			return r, nil
		}
		names = append(append(names, r.Name), r.Aliases...)
	}
	hint := ""
	if s, ok := suggest.Search(want, names, true); ok {
		hint = fmt.Sprintf(" (did you mean %s?)", s)
	}
	return Runtime{}, fmt.Errorf("there is no runtime %q%s: zlayer runtimes lists them", name, hint)
}

func wasmKind(alias string) WASM {
	switch alias {
	case "wasm-module", "wasm-preview1":
		return WASMModule
	case "wasm-component", "wasi-component", "wasm-preview2":
		return WASMComponent
	}
	return AnyWASM
}

// ofLanguage gives the runtimes of a language, oldest first.
func ofLanguage(language string) []Runtime {
	return slices.DeleteFunc(All(), func(r Runtime) bool { return r.Language != language })
}

// byLanguage gives the runtime of a language and version. A version that has no runtime of its own
// is built by the newest template, under the version that was asked for.
func byLanguage(language, version string) Runtime {
	list := ofLanguage(language)
	for _, r := range list {
		if r.Version == version {
			return r
		}
	}
	r := list[len(list)-1]
	r.Version = version
	return r
}
