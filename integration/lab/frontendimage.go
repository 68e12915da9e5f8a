package lab

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// frontendPackage is BuildKit's own Dockerfile frontend as a program that a BuildKit runs.
const frontendPackage = "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend"

// frontendRecipe is the image that "# syntax=docker/dockerfile:1" names, compiled from the BuildKit
// that this module builds with.
func frontendRecipe() recipe {
	return recipe{
		names: append(tagged("docker/dockerfile", "1", "1-labs", "1.20", "1.20-labs", "1.99", "latest", "labs"), "docker/dockerfile-upstream:master", "docker/dockerfile-upstream:master-labs"),
		about: "BuildKit's Dockerfile frontend, compiled from the version of BuildKit that this module uses (every tag is the same program)",
		lazy:  true,
		make: func(ctx context.Context, l *Lab) (product, error) {
			version, err := goModule(ctx, "github.com/moby/buildkit")
			if err != nil {
				return product{}, err
			}
			tc, err := hostGo(ctx)
			if err != nil {
				return product{}, err
			}
			program, err := l.cachedLayer(ctx, "dockerfile-frontend", recipeKey("frontend 2", version, tc.GOVERSION), func(ctx context.Context, t *tree) error {
				l.config.Logf("compiling BuildKit's Dockerfile frontend %s (up to a minute, once)", version)
				data, err := goBuild(ctx, frontendPackage)
				t.dir("bin", 0o755)
				t.file("bin/dockerfile-frontend", 0o755, data)
				return err
			})
			if err != nil {
				return product{}, err
			}
			return imageSpec{
				config: v1.Config{
					Env:        []string{defaultPath},
					Entrypoint: []string{"/bin/dockerfile-frontend"},
					Labels: map[string]string{
						"moby.buildkit.frontend.network.none": "true",
						"moby.buildkit.frontend.caps":         "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring,moby.buildkit.frontend.contexts.zstd",
					},
				},
				layers:  []*layer{program},
				created: []string{frontendPackage + "@" + version},
			}.hostOnly()
		},
	}
}
