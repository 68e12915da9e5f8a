package engine

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// conversion turns the build file of one unit into a Dockerfile, if it is not one.
type conversion struct {
	*composer
	unit  unit
	shown string

	// text is the build file.
	text []byte
	// builds are the nested builds of a ZImagefile, by the names that stand for them.
	builds map[string]zimage.Nested
	rules  windowsRules

	mu sync.Mutex
	// nested are the stages of other builds that the file is based on.
	nested []*graph.Stage
}

// note adds a stage of another build.
func (c *conversion) note(s *graph.Stage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nested = append(c.nested, s)
}

// convert implements dockerfile.Options.Convert.
func (c *conversion) convert(ctx context.Context, target string, text []byte) (*frontend.Text, error) {
	if t := c.convertProgram(); t != nil {
		return t, c.checkProgram(t)
	}
	c.text = text
	opt := c.zimageOptions(ctx)
	if !zimage.IsZImagefile(filepath.Base(c.unit.file), text) {
		c.rules.read(zimage.MayBeWindows(text, opt), func() *zimage.WindowsStages { return zimage.DockerfileStages(c.shown, text, target, opt) })
		warnings, err := zimage.CheckWindowsDockerfile(c.shown, text, target, opt)
		c.tell(warnings)
		return nil, err
	}
	f, err := zimage.ParseVars(c.shown, text, c.job.req.Vars)
	if err != nil {
		return nil, err
	}
	d, err := c.dockerfileOf(f, opt)
	if err != nil {
		return nil, err
	}
	c.tell(d.Warnings)
	c.rules.readZImagefile(d, target, opt)
	c.builds = map[string]zimage.Nested{}
	for _, b := range d.Builds {
		c.builds[normalName(b.Context)] = b
	}
	t := &frontend.Text{Original: text, Language: "YAML", Dockerfile: d.Text, Lines: d.Lines, BuildArgs: d.BuildArgs}
	if t.Target, err = d.Target(target); err != nil {
		return nil, inputErrorf("%s: %w", c.shown, err)
	}
	return t, nil
}

// tell passes on what is odd about the file.
func (c *conversion) tell(warnings []*graph.PosError) {
	if c.warn == nil {
		return
	}
	for _, w := range warnings {
		c.warn(solver.WarningInfo{Level: 1, Short: w.Err.Error(), Pos: w.Pos, Source: c.text})
	}
}

// checkBase checks the rules for Windows content of stages that are based on another
// build.
func (c *conversion) checkBase(ref dockerfile.Reference, g *ground) error {
	var build *zimage.Nested
	if b, ok := c.builds[normalName(ref.Name)]; ok {
		build = &b
	}
	warnings, err := c.rules.nest(ref, build, g)
	c.tell(warnings)
	return err
}

// programText is what positions in the Dockerfile of a program call it until they are
// turned into those of Go.
const programText = "program"

// checkProgram checks the rules for Windows content.
func (c *conversion) checkProgram(t *frontend.Text) error {
	opt := zimage.Options{BuildArgs: c.unit.args, Platform: c.unit.platform, Windows: buildsWindows(c.gw)}
	c.rules.place = func(p graph.Pos) graph.Pos {
		if p.File != programText {
			return p
		}
		return t.Pos(p.Line)
	}
	c.rules.read(zimage.MayBeWindows(t.Dockerfile, opt), func() *zimage.WindowsStages {
		return zimage.DockerfileStages(programText, t.Dockerfile, t.Target, opt)
	})
	_, err := zimage.CheckWindowsDockerfile(programText, t.Dockerfile, t.Target, opt)
	return c.rules.placed(err)
}

func (c *conversion) zimageOptions(ctx context.Context) zimage.Options {
	return zimage.Options{
		BuildArgs:    c.unit.args,
		Platform:     c.unit.platform,
		Windows:      buildsWindows(c.gw),
		ImageWorkdir: func(ref string) (string, bool) { return c.imageWorkdir(ctx, ref) },
	}
}

func (c *conversion) dockerfileOf(f *zimage.File, opt zimage.Options) (*zimage.Dockerfile, error) {
	if f.Mode() == zimage.ModeRuntime {
		return c.overlay(f, opt)
	}
	d, err := zimage.Convert(f, opt)
	if err != nil {
		return nil, err
	}
	if d.Wasm != nil {
		return c.wasmDockerfile(f, d)
	}
	return d, nil
}

// imageWorkdir is the working directory of an image, as its config has it.
func (c *conversion) imageWorkdir(ctx context.Context, ref string) (string, bool) {
	config, err := c.imageConfig(ctx, ref)
	if err != nil {
		return "", false
	}
	return configWorkdir(config)
}

// workdirOf is the working directory of the image ref.
func workdirOf(ctx context.Context, c gwclient.Client, ref, mode string) (string, bool) {
	_, _, config, err := c.ResolveImageConfig(ctx, ref, sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: mode}})
	if err != nil {
		return "", false
	}
	return configWorkdir(config)
}

func configWorkdir(config []byte) (string, bool) {
	var img ocispecs.Image
	if json.Unmarshal(config, &img) != nil {
		return "", false
	}
	return img.Config.WorkingDir, true
}

func (c *conversion) imageConfig(ctx context.Context, name string) ([]byte, error) {
	opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: c.job.attrs["image-resolve-mode"]}}
	if c.short != nil && dockerfile.Short(name) {
		_, _, config, err := c.resolveShort(ctx, name, opt)
		return config, err
	}
	full, err := fullName(name)
	if err != nil {
		return nil, err
	}
	_, _, config, err := c.gw.ResolveImageConfig(ctx, full, opt)
	return config, err
}

// buildsWindows reports whether the daemon is one that runs Windows containers.
func buildsWindows(gw gwclient.Client) bool {
	for _, w := range gw.BuildOpts().Workers {
		for _, p := range w.Platforms {
			if p.OS == "windows" {
				return true
			}
		}
	}
	return false
}
