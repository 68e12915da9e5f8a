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
		return t, nil
	}
	c.text = text
	if !zimage.IsZImagefile(filepath.Base(c.unit.file), text) {
		return nil, zimage.CheckWindowsDockerfile(c.shown, text, target, zimage.Options{
			BuildArgs: c.unit.args, Platform: c.unit.platform, Windows: buildsWindows(c.gw),
		})
	}
	f, err := zimage.ParseVars(c.shown, text, c.job.req.Vars)
	if err != nil {
		return nil, err
	}
	d, err := c.dockerfileOf(ctx, f)
	if err != nil {
		return nil, err
	}
	if c.warn != nil {
		for _, w := range d.Warnings {
			c.warn(solver.WarningInfo{Level: 1, Short: w.Err.Error(), Pos: w.Pos, Source: text})
		}
	}
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

func (c *conversion) dockerfileOf(ctx context.Context, f *zimage.File) (*zimage.Dockerfile, error) {
	opt := zimage.Options{
		BuildArgs:    c.unit.args,
		Platform:     c.unit.platform,
		Windows:      buildsWindows(c.gw),
		ImageWorkdir: func(ref string) (string, bool) { return c.imageWorkdir(ctx, ref) },
	}
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
