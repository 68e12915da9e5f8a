package wasm

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// stages writes the Dockerfile.
func (c *compiler) stages() error {
	image := c.chain.image
	if c.Image.Value != "" {
		image = c.Image.Value
	}
	if strings.ContainsAny(image, " \t\n\"'\\$") {
		c.errorf(c.Image, "image %q is no image", image)
		return nil
	}
	finish := c.lift || c.optimizeLater()
	c.line(c.at(c.Image), "ARG %s=%s", ImageArg, image)
	if finish {
		c.line(graph.Pos{}, "ARG %s=%s", ToolsImageArg, toolsImage)
	}
	c.line(c.at(c.Image), "\nFROM --platform=$BUILDPLATFORM ${%s} AS toolchain", ImageArg)
	if c.chain.install != "" {
		c.run(c.at(c.Image), c.chain.installMounts, c.chain.install)
	}
	if err := c.buildStage(); err != nil || len(c.errs) > 0 {
		return err
	}
	last := "build"
	if finish {
		last = c.finish()
	}
	if c.options.Scan {
		c.line(c.Pos, "\nFROM scratch AS sources\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY %s. /", c.excludes())
	}
	c.line(c.Pos, "\nFROM scratch\nCOPY --from=%s %s %s", last, built, c.out.File)
	if c.options.Scan {
		// Scanned is what the last stage reads: that the pattern fits nothing does not matter.
		c.line(c.Pos, "COPY --from=sources /.zlayer-nothing-at-all* /")
	}
	if c.options.Entrypoint {
		c.line(c.Pos, "ENTRYPOINT [%q]", c.out.File)
	}
	return nil
}

// buildStage writes the stage that compiles.
func (c *compiler) buildStage() error {
	c.line(c.Pos, "\nFROM toolchain AS build\nWORKDIR %s\nWORKDIR %s", outputDir, sourceDir)
	if c.chain.dependencies != nil {
		if err := c.chain.dependencies(c); err != nil {
			return err
		}
	}
	c.line(c.Pos, "COPY %s. .", c.excludes())
	command, err := c.chain.compile(c)
	if err != nil {
		return c.place(c.Language, err)
	}
	env := c.environment()
	for _, p := range c.PreBuild {
		c.run(p.Pos, c.chain.mounts, env+p.shell())
	}
	c.run(c.Pos, c.chain.mounts, env+command)
	for _, p := range c.PostBuild {
		c.run(p.Pos, c.chain.mounts, env+p.shell())
	}
	return nil
}

// excludes are the flags that keep out of the build what it must not depend on: what earlier builds
// left, and what the caller names.
func (c *compiler) excludes() string {
	list := append([]string{".git"}, c.chain.exclude...)
	if c.Output.Value != "" {
		list = append(list, c.only(c.Output.Value))
	}
	for _, e := range c.options.Exclude {
		list = append(list, c.only(e))
	}
	slices.Sort(list)
	var b strings.Builder
	for _, e := range slices.Compact(list) {
		if plainFlag(e) {
			b.WriteString("--exclude=" + e + " ")
		}
	}
	return b.String()
}

// only gives the path, or the folder above it that has nothing else: a folder that a build makes for
// its result must not be part of the next build either.
func (c *compiler) only(name string) string {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		entries, err := fs.ReadDir(c.fs, dir)
		if err == nil && (len(entries) > 1 || len(entries) == 1 && entries[0].Name() != path.Base(name)) {
			break
		}
		name = dir
	}
	return name
}

// plainFlag tells whether a path can be written as the value of a flag.
func plainFlag(name string) bool { return !strings.ContainsAny(name, " \t\"'\\$?[!") }

// environment sets the variables of the build's commands.
func (c *compiler) environment() string {
	vars := []string{}
	for _, v := range c.Env {
		vars = append(vars, v.Name+"="+quote(v.Value))
	}
	if c.world != nil {
		vars = append(vars, "WASM_WORLD="+quote(c.world.Name), "CARGO_COMPONENT_WIT_WORLD="+quote(c.worldName()))
	}
	if c.wit != "" {
		vars = append(vars, "WASM_WIT="+quote(sourceDir+"/"+c.wit))
	}
	if len(c.PostBuild) > 0 {
		vars = append(vars, "WASM_OUTPUT="+built)
	}
	if len(vars) == 0 {
		return ""
	}
	return "export " + strings.Join(vars, " ") + "; "
}

// worldName is the world as tools are told it, "" where they find the only one.
func (c *compiler) worldName() string {
	if c.World.Value != "" || c.world == nil {
		return c.World.Value
	}
	return c.world.Name
}

// level is the level of optimisation without its O: "" for plain O.
func (c *compiler) level() string {
	if c.OptLevel.Value == "" {
		return "z"
	}
	return strings.TrimPrefix(c.OptLevel.Value, "O")
}

// featureList gives the features as they are written.
func (c *compiler) featureList() []string {
	list := make([]string, len(c.Features))
	for i, f := range c.Features {
		list[i] = f.Value
	}
	return list
}
