// Package fleet generates monorepos of many images for tests and measurements: three
// levels of bases, Dockerfiles and ZImagefiles mixed, with a pipeline and with the
// bake file that says the same to docker buildx.
package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Config says what to generate.
type Config struct {
	// Images is how many; at least 3.
	Images int
	// Registry is what tags begin with.
	Registry string
	// Push: images are pushed and go nowhere else; without it they stay in the cache.
	Push bool
	// Base is the image below all; empty is busybox.
	Base string
}

// Fleet is a generated monorepo.
type Fleet struct {
	Dir string
	// Root is the base of all, Mids the bases of the second level, Leaves the rest; all
	// are names of images and of directories.
	Root         string
	Mids, Leaves []string
	config       Config
}

// Write generates a monorepo in dir.
func Write(dir string, c Config) (*Fleet, error) {
	if c.Images < 3 {
		return nil, fmt.Errorf("a fleet of %d images has no three levels", c.Images)
	}
	if c.Base == "" {
		c.Base = "busybox"
	}
	f := &Fleet{Dir: dir, Root: "root", config: c}
	mids := max(1, c.Images/10)
	for i := range mids {
		f.Mids = append(f.Mids, fmt.Sprintf("mid-%03d", i))
	}
	for i := range c.Images - 1 - mids {
		f.Leaves = append(f.Leaves, fmt.Sprintf("leaf-%03d", i))
	}
	for path, text := range f.files() {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Touch changes the file that an image copies.
func (f *Fleet) Touch(name, text string) error {
	return os.WriteFile(filepath.Join(f.Dir, name, "data"), []byte(text+"\n"), 0o644)
}

// Tag is the tag of an image.
func (f *Fleet) Tag(name string) string { return f.config.Registry + "/" + name + ":1" }

// base is what an image is based on, "" for the root.
func (f *Fleet) base(name string, n int) string {
	switch {
	case name == f.Root:
		return ""
	case strings.HasPrefix(name, "mid"):
		return f.Root
	}
	return f.Mids[n%len(f.Mids)]
}

func (f *Fleet) names() []string {
	return append(append([]string{f.Root}, f.Mids...), f.Leaves...)
}

// files are all files of the monorepo.
func (f *Fleet) files() map[string]string {
	out := map[string]string{}
	var pipeline, bake strings.Builder
	fmt.Fprintf(&pipeline, "defaults:\n  tags: [\"%s/${IMAGE_NAME}:1\"]\n", f.config.Registry)
	if f.config.Push {
		pipeline.WriteString("  output: [{type: registry}]\n  push: true\n")
	} else {
		pipeline.WriteString("  output: [{type: cacheonly}]\n")
	}
	pipeline.WriteString("images:\n")
	var targets []string
	for n, name := range f.names() {
		if n > len(f.Mids) {
			n -= 1 + len(f.Mids)
		}
		base := f.base(name, n)
		from := f.config.Base
		if base != "" {
			from = f.Tag(base)
		}
		out[name+"/data"] = "the data of " + name + "\n"
		out[name+"/Dockerfile"] = f.dockerfile(name, from)
		if n%2 == 1 {
			out[name+"/ZImagefile"] = f.zimagefile(name, from)
		}
		fmt.Fprintf(&pipeline, "  %s: {context: %s}\n", name, name)
		targets = append(targets, fmt.Sprintf("%q", name))
		fmt.Fprintf(&bake, "target %q {\n  context = %q\n  tags = [%q]\n", name, name, f.Tag(name))
		if base != "" {
			fmt.Fprintf(&bake, "  contexts = { %q = \"target:%s\" }\n", from, base)
		}
		if f.config.Push {
			bake.WriteString("  output = [\"type=registry\"]\n}\n")
		} else {
			bake.WriteString("  output = [\"type=cacheonly\"]\n}\n")
		}
	}
	fmt.Fprintf(&bake, "group \"default\" {\n  targets = [%s]\n}\n", strings.Join(targets, ", "))
	out["ZPipeline.yaml"], out["docker-bake.hcl"] = pipeline.String(), bake.String()
	return out
}

// run is what the step of an image does: it prints its name, so that runs can be counted.
func (f *Fleet) run(name string) string {
	return fmt.Sprintf("echo running-%s && cat /srv/%s > /srv/%s.out", name, name, name)
}

func (f *Fleet) dockerfile(name, from string) string {
	return fmt.Sprintf("FROM %s\nCOPY data /srv/%s\nRUN %s\nENV IMAGE=%s\n", from, name, f.run(name), name)
}

func (f *Fleet) zimagefile(name, from string) string {
	return fmt.Sprintf("base: %s\nsteps:\n  - copy: data\n    to: /srv/%s\n  - run: %s\nenv:\n  IMAGE: %s\n", from, name, f.run(name), name)
}
