package lab

import (
	"context"
	_ "embed"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// onBusybox makes a recipe out of the busybox layer. Such images are made at the start.
func onBusybox(image, about string, build func(context.Context, *Lab, imageSpec) (product, error)) recipe {
	return recipe{names: []string{image}, about: about, make: func(ctx context.Context, l *Lab) (product, error) {
		base, err := l.busyboxLayer(ctx)
		if err != nil {
			return product{}, err
		}
		return build(ctx, l, busyboxSpec(base))
	}}
}

// onbuildRecipe has the triggers that the Dockerfile reference allows: every kind of instruction
// but FROM, ONBUILD and the deprecated MAINTAINER.
func onbuildRecipe() recipe {
	return onBusybox("lab/onbuild:latest", "busybox with ONBUILD triggers: ARG, ENV, COPY, WORKDIR, RUN, LABEL", func(_ context.Context, _ *Lab, s imageSpec) (product, error) {
		s.config.OnBuild = []string{
			"ARG FLAVOUR=plain",
			"ENV FLAVOUR=$FLAVOUR",
			"WORKDIR /onbuild",
			"COPY onbuild.txt ./",
			`RUN cat onbuild.txt >result && echo "$FLAVOUR" >>result`,
			"LABEL onbuild=yes",
		}
		return s.multiPlatform()
	})
}

// everythingRecipe sets every field of the config that a build can inherit or override.
func everythingRecipe() recipe {
	return onBusybox("lab/everything:latest", "busybox whose config has every field set: entrypoint, cmd, env, volumes, healthcheck, stop signal, ports, user, workdir, labels, shell, history", func(_ context.Context, _ *Lab, s imageSpec) (product, error) {
		s.config = v1.Config{
			User:         "www-data:www-data",
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
			Env:          []string{defaultPath, "FROM_BASE=base value", "QUOTED=a \"b\" $c", "EMPTY="},
			Entrypoint:   []string{"/bin/sh", "-c"},
			Cmd:          []string{"echo from base"},
			Volumes:      map[string]struct{}{"/data": {}, "/var/cache/base": {}},
			WorkingDir:   "/var/www",
			Labels:       map[string]string{"org.opencontainers.image.title": "everything", "base": "yes", "spaces": "a b  c"},
			StopSignal:   "SIGQUIT",
			Shell:        []string{"/bin/ash", "-e", "-c"},
			Healthcheck: &v1.HealthConfig{
				Test:     []string{"CMD-SHELL", "test -e /tmp"},
				Interval: 30 * time.Second, Timeout: 5 * time.Second, StartPeriod: time.Second, Retries: 3,
			},
		}
		s.meta = []string{"USER www-data:www-data", "EXPOSE 80/tcp 53/udp", "HEALTHCHECK ..."}
		return s.multiPlatform()
	})
}

// layersRecipe stacks layers that add, replace, remove and hide files, and files with every kind of
// mode and owner.
func layersRecipe() recipe {
	return onBusybox("lab/layers:latest", "busybox and five layers that replace, remove (whiteout) and hide (opaque folder) files of those below", func(ctx context.Context, l *Lab, s imageSpec) (product, error) {
		for _, step := range layerSteps() {
			made, err := l.cachedLayer(ctx, "layers-"+step.name, recipeKey("layers 1", step.name), func(_ context.Context, t *tree) error {
				step.fill(t)
				return nil
			})
			if err != nil {
				return product{}, err
			}
			s.layers = append(s.layers, made)
			s.created = append(s.created, step.name)
		}
		return s.multiPlatform()
	})
}

type layerStep struct {
	name string
	fill func(*tree)
}

// layerSteps: after all of them /layers has kept, replaced (new), folder/second only, odd/.
func layerSteps() []layerStep {
	return []layerStep{
		{"files", func(t *tree) {
			t.dir("layers", 0o755)
			t.text("layers/kept", "kept\n")
			t.text("layers/replaced", "old\n")
			t.text("layers/removed", "removed\n")
			t.dir("layers/folder", 0o755)
			t.text("layers/folder/first", "first\n")
			t.dir("layers/gone", 0o755)
			t.text("layers/gone/file", "gone\n")
		}},
		{"replaces", func(t *tree) { t.text("layers/replaced", "new\n") }},
		{"removes", func(t *tree) {
			t.whiteout("layers/removed")
			t.whiteout("layers/gone")
		}},
		{"hides", func(t *tree) {
			t.dir("layers/folder", 0o750)
			t.opaque("layers/folder")
			t.text("layers/folder/second", "second\n")
		}},
		{"modes", func(t *tree) {
			t.dir("layers/odd", 0o2775)
			t.own("layers/odd", 1000, 1000)
			t.file("layers/odd/setuid", 0o4755, []byte("#!/bin/sh\n"))
			t.file("layers/odd/secret", 0o600, []byte("secret\n"))
			t.own("layers/odd/secret", 1000, 33)
			t.symlink("layers/odd/absolute", "/layers/kept")
			t.symlink("layers/odd/dangling", "nowhere")
			t.file("layers/odd/name with spaces, ünïcode", 0o644, []byte("odd\n"))
			t.hardlink("layers/odd/setuid-again", "layers/odd/setuid")
		}},
	}
}

// singleRecipe is an image without an index, for this machine's platform only.
func singleRecipe() recipe {
	return onBusybox("lab/single:latest", "busybox as one manifest without an index, of the machine's platform only", func(_ context.Context, _ *Lab, s imageSpec) (product, error) {
		return s.hostOnly()
	})
}

// dockerTypesRecipe is an image with Docker's older media types, which registries still hold.
func dockerTypesRecipe() recipe {
	return onBusybox("lab/docker-types:latest", "busybox as one manifest with Docker's media types instead of OCI's", func(_ context.Context, _ *Lab, s imageSpec) (product, error) {
		base := *s.layers[0]
		base.mediaType = types.DockerLayer
		s.layers = []*layer{&base}
		img, err := s.image(hostPlatform())
		if err != nil {
			return product{}, err
		}
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.DockerManifestSchema2), types.DockerConfigJSON)
		return product{image: img}, nil
	})
}

// The scanner speaks BuildKit's protocol for SBOM generators: it is given the file system to look at
// and a folder for its SPDX statement by environment variables.
//
//go:embed rootfs/scanner.sh
var scannerScript []byte

func scannerRecipe() recipe {
	return onBusybox("lab/sbom-scanner:latest", "an SBOM generator (for --attest type=sbom,generator=lab/sbom-scanner) that lists the files it sees as an SPDX document", func(ctx context.Context, l *Lab, s imageSpec) (product, error) {
		script, err := l.cachedLayer(ctx, "sbom-scanner", recipeKey("scanner 1", string(scannerScript)), func(_ context.Context, t *tree) error {
			t.file("bin/scanner", 0o755, scannerScript)
			return nil
		})
		if err != nil {
			return product{}, err
		}
		s.layers = append(s.layers, script)
		s.created = append(s.created, "the scanner")
		s.config.Entrypoint, s.config.Cmd = []string{"/bin/scanner"}, nil
		return s.multiPlatform()
	})
}
