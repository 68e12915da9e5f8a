package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// Where things are in the stages of a build.
const (
	sourceDir = "/src"
	outputDir = "/wasm"
	// built is where the compiler's result is put, post_build commands find it and later stages take it.
	built = outputDir + "/module.wasm"
	// adapterFile is where the lift finds the adapter of the build context.
	adapterFile = outputDir + "/adapter.wasm"
)

// The build arguments that replace images.
const (
	ImageArg      = "WASM_IMAGE"
	ToolsImageArg = "WASM_TOOLS_IMAGE"
)

// toolchain is how a language is compiled.
type toolchain struct {
	// image has the compiler, or at least what install needs to get it.
	image string
	// install gets what the image lacks; "" if that is nothing.
	install string
	// installMounts are the caches of install.
	installMounts string
	// makes is what the compiler makes by itself.
	makes Target
	// only says that the other target cannot be made of that either.
	only bool
	// lifts says that the compiler's modules need a lift for preview2.
	lifts bool
	// optimizes says that the compiler does all there is to do, or nothing more can be.
	optimizes bool
	// features says that Features mean something.
	features bool
	// exclude are paths that tools put into projects, which a build must not see.
	exclude []string
	// dependencies are steps before the sources are there.
	dependencies func(c *compiler) error
	// mounts are the caches of the build's commands.
	mounts string
	// compile gives the command that leaves the result in [built].
	compile func(c *compiler) (string, error)
}

// compiler compiles one build.
type compiler struct {
	script
	project
	Settings
	options  Options
	language Language
	target   Target
	chain    toolchain
	// wit is the directory of WIT files, "" if there are none; world what the result conforms to.
	wit   string
	world *World
	lift  bool
	out   *Build
	errs  []error
}

// Compile writes the build of a project as a Dockerfile. The text depends on the settings and the
// manifests of the project only. Mistakes in the settings are graph.PosErrors, all of them together;
// without Settings.Pos there is no file that they are in.
func Compile(s Settings, dir fs.FS, o Options) (*Build, error) {
	c := &compiler{Settings: s, project: project{dir}, options: o, out: &Build{File: "/module.wasm"}}
	for _, step := range []func() error{c.chooseLanguage, c.chooseTarget, c.checkPaths, c.chooseWorld, c.stages} {
		if err := step(); err != nil {
			return nil, err
		}
		if len(c.errs) > 0 {
			return nil, errors.Join(c.errs...)
		}
	}
	c.out.Dockerfile, c.out.Lines = c.text, c.lines
	c.out.Language, c.out.Target, c.out.World = c.language, c.target, c.world
	return c.out, nil
}

// at is the place of a value, or that of the whole build.
func (c *compiler) at(t Text) graph.Pos {
	if t.Pos.IsZero() {
		return c.Pos
	}
	return t.Pos
}

func (c *compiler) errorf(t Text, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if pos := c.at(t); !pos.IsZero() {
		err = &graph.PosError{Pos: pos, Err: err}
	}
	c.errs = append(c.errs, err)
}

func (c *compiler) warn(t Text, format string, args ...any) {
	c.out.Warnings = append(c.out.Warnings, &graph.PosError{Pos: c.at(t), Err: fmt.Errorf(format, args...)})
}

func (c *compiler) chooseLanguage() error {
	var err error
	if c.Language.Value != "" {
		c.language, err = ParseLanguage(c.Language.Value)
	} else {
		c.language, err = Detect(c.fs)
	}
	if err == nil {
		return nil
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return err
	}
	if errors.Is(err, ErrNoLanguage) && !c.Pos.IsZero() {
		err = fmt.Errorf("%w: set wasm.language", err)
	}
	c.errorf(c.Language, "%w", err)
	return nil
}

// chooseTarget settles what is made and how.
func (c *compiler) chooseTarget() error {
	c.target = Target(c.Target.Value)
	switch c.target {
	case "", Preview1, Preview2:
	default:
		c.errorf(c.Target, "unknown target %q: it is preview1 or preview2", c.Target.Value)
		return nil
	}
	if c.Adapter.Value != "" {
		if c.target == Preview1 {
			c.errorf(c.Adapter, "an adapter makes a component, and target preview1 is a module: drop one of them")
		}
		c.target = Preview2
	}
	// Go's own compiler makes modules only; components of a world are TinyGo's.
	if c.language == Go && c.Adapter.Value == "" && (c.target == Preview2 || c.target == "" && c.World.Value+c.WIT.Value != "") {
		c.language = TinyGo
	}
	chain, err := c.toolchain()
	if err != nil {
		return err
	}
	c.chain = chain
	switch {
	case c.target == "" && c.World.Value != "" && chain.lifts:
		c.target = Preview2
	case c.target == "":
		c.target = chain.makes
	case chain.only && c.target != chain.makes:
		c.errorf(c.Target, "%s makes components: drop the target, or set it to preview2", c.language)
	}
	if chain.only && c.Adapter.Value != "" {
		c.errorf(c.Adapter, "%s makes components: an adapter has nothing to do, drop it", c.language)
	}
	c.lift = c.target == Preview2 && (chain.lifts || c.Adapter.Value != "")
	if c.OptLevel.Value != "" && !slices.Contains([]string{"O", "Os", "Oz", "O2", "O3"}, c.OptLevel.Value) {
		c.errorf(c.OptLevel, "unknown opt_level %q: it is one of O, Os, Oz, O2 and O3", c.OptLevel.Value)
	}
	c.warnings()
	return nil
}

// warnings are about what has no effect.
func (c *compiler) warnings() {
	if c.OptLevel.Value != "" && !c.Optimize {
		c.warn(c.OptLevel, "opt_level has no effect without optimize: true")
	}
	if len(c.Features) > 0 && !c.chain.features {
		c.warn(c.Features[0], "features have no meaning for %s", c.language)
	}
	if c.Optimize && (c.language == Python || c.language == TypeScript) {
		c.warn(Text{}, "optimize has no effect on %s: the component consists of an interpreter that is optimized already", c.language)
	}
}

// checkPaths checks the paths of the settings against the project.
func (c *compiler) checkPaths() error {
	for _, p := range []struct {
		what string
		text *Text
		must bool
	}{{"wit", &c.WIT, true}, {"output", &c.Output, false}, {"adapter", &c.Adapter, true}} {
		if p.text.Value == "" || p.what == "adapter" && c.bundledAdapter() {
			continue
		}
		clean, err := local(p.what, p.text.Value)
		switch {
		case err != nil:
			c.errorf(*p.text, "%w", err)
		case p.must && !c.exists(clean):
			c.errorf(*p.text, "%s %s does not exist: it is relative to the build context", p.what, p.text.Value)
		}
		p.text.Value = clean
	}
	if c.Output.Value != "" {
		c.out.File = "/" + path.Base(c.Output.Value)
		if !plainFlag(c.Output.Value) || strings.Contains(c.Output.Value, "*") {
			c.errorf(c.Output, "output %q has characters that a Dockerfile cannot hold there: leave out blanks, quotes, backslashes and signs of patterns", c.Output.Value)
		}
	}
	return nil
}

// bundledAdapter tells whether the adapter is one that the lift brings along.
func (c *compiler) bundledAdapter() bool {
	return c.Adapter.Value == "command" || c.Adapter.Value == "reactor"
}

// chooseWorld finds the world that the result has to conform to.
func (c *compiler) chooseWorld() error {
	c.wit = c.WIT.Value
	if c.wit == "" && c.exists("wit") {
		c.wit = "wit"
	}
	if c.target == Preview1 && c.World.Value != "" {
		c.errorf(c.World, "a world is one of components, and target preview1 is a module: drop one of them")
		return nil
	}
	var wit *WIT
	if c.wit != "" {
		var err error
		if wit, err = ReadWIT(c.fs, c.wit); err != nil {
			return c.place(c.WIT, err)
		}
	}
	if c.World.Value == "" {
		if wit != nil && len(wit.Worlds()) == 1 && c.needsWorld() {
			return c.worldOf(wit)
		}
		return nil
	}
	if wit != nil {
		if _, err := wit.find(c.World.Value); err == nil {
			return c.worldOf(wit)
		} else if _, known := KnownWorld(c.World.Value); !known {
			return c.place(c.World, err)
		}
	}
	w, known := KnownWorld(c.World.Value)
	if !known {
		c.errorf(c.World, "there is no world %s: there are no WIT files in the build context (wit, or what wasm.wit names), and the worlds known without are %s", c.World.Value, strings.Join(KnownWorlds(), ", "))
		return nil
	}
	c.world = &w
	return nil
}

// needsWorld tells whether the tools of the language work by a world.
func (c *compiler) needsWorld() bool {
	switch c.language {
	case Python, TypeScript, TinyGo, RustComponent:
		return true
	}
	return false
}

func (c *compiler) worldOf(wit *WIT) error {
	w, err := wit.World(c.World.Value)
	if err != nil {
		return c.place(c.World, err)
	}
	c.world = &w
	return nil
}

// place gives an error the place of a value, unless it has one.
func (c *compiler) place(t Text, err error) error {
	var pe *graph.PosError
	if !errors.As(err, &pe) {
		c.errorf(t, "%w", err)
		return nil
	}
	return err
}
