package wasm

import (
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// The image and the programs of npm that optimise and lift.
const (
	toolsImage      = "docker.io/library/node:22-bookworm-slim"
	jcoPackage      = "@bytecodealliance/jco@1.15.4"
	binaryenPackage = "binaryen@123.0.0"
)

// featureFlags name what all engines of today know; binaries that do not say what they use need it.
const featureFlags = "--enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd"

// npmCache keeps what npm downloads.
func npmCache() string { return cacheMount("npm", "/root/.npm", "shared") }

// npmInstall gets programs from npm unless they are there.
func npmInstall(program string, packages ...string) string {
	return "command -v " + program + " >/dev/null || npm install --global --no-audit --no-fund " + strings.Join(packages, " ")
}

// optimizeLater tells whether the result is optimised after the compiler.
func (c *compiler) optimizeLater() bool { return c.Optimize && !c.chain.optimizes }

// finish writes the stages after the compiler's, and gives the name of the last one.
func (c *compiler) finish() string {
	last := "build"
	c.line(graph.Pos{}, "\nFROM --platform=$BUILDPLATFORM ${%s} AS tools", ToolsImageArg)
	if c.lift || c.chain.makes == Preview2 && c.target == Preview2 {
		c.run(c.Pos, npmCache(), npmInstall("jco", jcoPackage))
	}
	if c.optimizeLater() {
		c.run(c.Pos, npmCache(), npmInstall("wasm-opt", binaryenPackage))
		c.line(c.Pos, "\nFROM tools AS optimize\nCOPY --from=build %s %s", built, outputDir+"/in.wasm")
		c.run(c.Pos, "", c.optimizeScript())
		last = "optimize"
	}
	if c.lift {
		c.line(c.Pos, "\nFROM tools AS lift\nCOPY --from=%s %s %s", last, built, outputDir+"/in.wasm")
		if c.Adapter.Value != "" && !c.bundledAdapter() {
			c.line(c.at(c.Adapter), "COPY [%q, %q]", c.Adapter.Value, adapterFile)
		}
		c.run(c.at(c.Adapter), "", c.liftScript())
		last = "lift"
	}
	return last
}

// optimizeScript optimises modules, and components through the modules in them.
func (c *compiler) optimizeScript() string {
	flag := "-O" + c.level()
	module := "wasm-opt " + flag + " " + featureFlags + " -o " + built + " " + outputDir + "/in.wasm"
	if c.lift || c.target == Preview1 {
		return module + " && touch -d @0 " + built
	}
	return "jco opt " + outputDir + "/in.wasm -o " + built + " -- " + flag + " " + featureFlags + " && touch -d @0 " + built
}

// startExported asks node whether a module is a program, which has a start function, or a library.
const startExported = `node -e 'process.exit(WebAssembly.Module.exports(new WebAssembly.Module(require("fs").readFileSync("/wasm/in.wasm"))).some((e) => e.name === "_start") ? 0 : 1)'`

// liftScript makes a component of a module. What is one already is left alone.
func (c *compiler) liftScript() string {
	adapt := `if ` + startExported + `; then adapter=--wasi-command; else adapter=--wasi-reactor; fi`
	switch {
	case c.bundledAdapter():
		adapt = "adapter=--wasi-" + c.Adapter.Value
	case c.Adapter.Value != "":
		adapt = "adapter='--adapt wasi_snapshot_preview1=" + adapterFile + "'"
	}
	return `set -e
if [ "$(od -An -tx1 -j4 -N4 /wasm/in.wasm | tr -d ' \n')" != 01000000 ]; then
  cp /wasm/in.wasm ` + built + `
else
  ` + adapt + `
  jco new /wasm/in.wasm $adapter -o ` + built + `
fi
touch -d @0 ` + built
}
