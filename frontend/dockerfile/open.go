package dockerfile

import (
	"context"
	"maps"
	"strings"

	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/zlayer-dev/zlayer/frontend"
)

// newBuild opens the build file that a client describes, and what it stands for.
func newBuild(ctx context.Context, c gwclient.Client, o Options) (*build, error) {
	opts := map[string]string{}
	maps.Copy(opts, c.BuildOpts().Opts)
	b := &build{Options: o, client: &inputClient{Client: newResolveCache(c), opts: opts}}
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	b.text = b.src.Data
	if o.Convert == nil {
		return b, nil
	}
	t, err := o.Convert(ctx, b.ui.Target, b.text)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return b, nil
	}
	b.converted, b.text = t, t.Dockerfile
	return b, b.retarget(ctx, t)
}

// retarget makes the target and the arguments those of the Dockerfile that the build
// file stands for.
func (b *build) retarget(ctx context.Context, t *frontend.Text) error {
	delete(b.opts, "target")
	if t.Target != "" {
		b.opts["target"] = t.Target
	}
	anew := false
	for k, v := range t.BuildArgs {
		b.opts["build-arg:"+k] = v
		anew = anew || strings.HasPrefix(k, "BUILDKIT_") // what is more than an argument
	}
	if anew {
		return b.load(ctx)
	}
	b.ui.Target = t.Target
	if b.ui.BuildArgs == nil {
		b.ui.BuildArgs = map[string]string{}
	}
	maps.Copy(b.ui.BuildArgs, t.BuildArgs)
	b.shown(b.src)
	return nil
}

// load reads the build file through the build's client.
func (b *build) load(ctx context.Context) error {
	var err error
	if b.ui, b.src, err = b.read(ctx, b.client); err == nil {
		b.opts = b.ui.BuildOpts().Opts
	}
	return err
}

// read opens the Dockerfile as c shows it.
func (b *build) read(ctx context.Context, c gwclient.Client) (*dockerui.Client, *dockerui.Source, error) {
	ui, err := dockerui.NewClient(c)
	if err != nil {
		return nil, nil, err
	}
	src, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, nil, err
	}
	b.shown(src)
	return ui, src, nil
}

// shown makes a source map what positions are shown in; it takes no part in lowering.
func (b *build) shown(src *dockerui.Source) {
	if b.Name != "" {
		src.Filename = b.Name
	}
	if t := b.converted; t != nil {
		src.Data, src.Language = t.Original, t.Language
	}
}
