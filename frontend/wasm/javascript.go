package wasm

import (
	_ "embed"
	"errors"
	"slices"
	"strings"
)

const (
	nodeImage = "docker.io/library/node:22-bookworm-slim"
	// The compilers, for projects that do not bring them.
	assemblyScriptPackage = "assemblyscript@0.28.20"
	esbuildPackage        = "esbuild@0.25.12"
)

// componentize makes components of JavaScript, the same ones each time.
//
//go:embed componentize.mjs
var componentize string

// componentizeFile is where the build has it.
const componentizeFile = outputDir + "/componentize.mjs"

// nodeExclude is what the package managers of the host put there.
var nodeExclude = []string{"**/node_modules"}

func typeScriptToolchain() toolchain {
	return toolchain{
		image:   nodeImage,
		install: "set -e\n" + npmInstall("jco", jcoPackage) + "\n" + npmInstall("esbuild", esbuildPackage), installMounts: npmCache(),
		makes: Preview2, only: true, optimizes: true, exclude: nodeExclude,
		dependencies: (*compiler).typeScriptDependencies, mounts: npmCache(), compile: (*compiler).compileTypeScript,
	}
}

func assemblyScriptToolchain() toolchain {
	return toolchain{
		image: nodeImage, install: npmInstall("asc", assemblyScriptPackage), installMounts: npmCache(),
		makes: Preview1, lifts: true, optimizes: true, features: true, exclude: append(nodeExclude, "build"),
		dependencies: (*compiler).npmDependencies, mounts: npmCache(), compile: (*compiler).compileAssemblyScript,
	}
}

// localPrograms lets the programs of a project go before those of the image.
const localPrograms = "export PATH=" + sourceDir + "/node_modules/.bin:$PATH; "

// typeScriptDependencies gets what compiles besides what the project brings.
func (c *compiler) typeScriptDependencies() error {
	c.line(c.Pos, "COPY <<'ZLAYER' %s\n%sZLAYER", componentizeFile, componentize)
	return c.npmDependencies()
}

// npmDependencies installs what the project depends on, before its sources are there.
func (c *compiler) npmDependencies() error {
	m, err := c.packageJSON()
	if err != nil {
		return err
	}
	if len(m.Dependencies)+len(m.DevDependencies) == 0 {
		return nil
	}
	command, files := "npm install --no-audit --no-fund", "package.json"
	for _, lock := range []struct{ file, command string }{
		{"package-lock.json", "npm ci --no-audit --no-fund"},
		{"npm-shrinkwrap.json", "npm ci --no-audit --no-fund"},
		{"pnpm-lock.yaml", "corepack pnpm install --frozen-lockfile"},
		{"yarn.lock", "corepack yarn install --frozen-lockfile"},
	} {
		if c.has(lock.file) {
			command, files = lock.command, files+" "+lock.file
			break
		}
	}
	if c.has(".npmrc") {
		files += " .npmrc"
	}
	c.line(c.Pos, "COPY %s ./", files)
	c.run(c.Pos, npmCache(), command)
	return nil
}

// entries are where the source of a program is looked for.
var scriptEntries = []string{
	"src/index.ts", "src/index.js", "src/index.mjs", "src/main.ts", "src/main.js", "index.ts", "index.js", "index.mjs", "main.ts", "main.js",
}

// compileTypeScript bundles the program to one file and makes a component of it.
func (c *compiler) compileTypeScript() (string, error) {
	m, err := c.packageJSON()
	if err != nil {
		return "", err
	}
	if c.wit == "" {
		return "", errors.New("components of JavaScript need WIT files: put them into wit, or set wasm.wit")
	}
	build, entry := "", m.Main
	_, hasBuild := m.Scripts["build"]
	switch {
	case hasBuild && m.Main != "":
		build = "npm run build\n"
	case entry == "" || !c.has(strings.TrimPrefix(entry, "./")):
		if entry = c.first(scriptEntries...); entry == "" {
			return "", errors.New("the program is not found: set main in package.json, or call it src/index.ts or src/index.js")
		}
	}
	externals := ""
	for _, ns := range c.namespaces() {
		externals += " " + quote("--external:"+ns+":*")
	}
	return localPrograms + "set -e\n" + build +
		"esbuild " + quote(strings.TrimPrefix(entry, "./")) + " --bundle --format=esm --platform=neutral --main-fields=module,main" + externals + " --outfile=" + outputDir + "/bundle.js\n" +
		"node " + componentizeFile + " " + words(outputDir+"/bundle.js", c.wit, c.worldName(), built) + "\n" +
		"touch -d @0 " + built, nil
}

// namespaces are those of what a program may import from its host.
func (c *compiler) namespaces() []string {
	list := []string{"wasi"}
	if c.world == nil {
		return list
	}
	for _, i := range c.world.Imports {
		ns, _, qualified := strings.Cut(i, ":")
		if qualified && !slices.Contains(list, ns) {
			list = append(list, ns)
		}
	}
	return list
}

// compileAssemblyScript compiles with asc.
func (c *compiler) compileAssemblyScript() (string, error) {
	text, err := c.read("asconfig.json")
	if err != nil {
		return "", err
	}
	flags := ""
	if !strings.Contains(string(text), `"entries"`) {
		entry := c.first("assembly/index.ts", "src/index.ts", "index.ts")
		if entry == "" {
			return "", errors.New("the program is not found: call it assembly/index.ts, or name it in the entries of asconfig.json")
		}
		flags += " " + entry
	}
	if text != nil {
		if c.Optimize {
			flags += " --target release"
		} else {
			flags += " --target debug"
		}
	}
	if c.Optimize {
		flags += " -O" + c.level()
	}
	for _, f := range c.featureList() {
		flags += " --enable " + quote(f)
	}
	return localPrograms + "asc" + flags + " -o " + built + " && touch -d @0 " + built, nil
}
