// Package fleet generates monorepos of many images for tests and measurements: three
// levels of shared bases, Dockerfiles, ZImagefiles and WebAssembly mixed, with a pipeline,
// with the bake file that says the same to docker buildx, and as a program in Go.
package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Config says what to generate.
type Config struct {
	// Images is how many; at least 5.
	Images int
	// Registry is what tags begin with.
	Registry string
	// Push: images are pushed and go nowhere else; without it they stay in the cache.
	Push bool
	// Base is the image below all; empty is busybox.
	Base string
	// Wasm makes every tenth leaf a WebAssembly module, and one image the toolchain, whose
	// compiler compiles nothing. There is no bake file then.
	Wasm bool
}

// Fleet is a generated monorepo.
type Fleet struct {
	Dir string
	// Root is the base of all, Trunks and Mids are the bases of the second and third
	// level, Leaves the rest, without the modules; all are names of images and of
	// directories.
	Root                 string
	Trunks, Mids, Leaves []string
	// Tools is the toolchain, Modules are what it compiles; empty without Wasm.
	Tools   string
	Modules []string

	config Config
	images []image
}

// image is one image of a fleet.
type image struct {
	name string
	base string // the image it is based on or compiled with, "" for the root
	kind kind
}

type kind int

const (
	dockerfile kind = iota
	zimagefile      // and a Dockerfile that says the same, for bake
	toolchain
	module
)

// Write generates a monorepo in dir.
func Write(dir string, c Config) (*Fleet, error) {
	const least = 5
	if c.Images < least {
		return nil, fmt.Errorf("a fleet of %d images has no three levels of bases", c.Images)
	}
	if c.Base == "" {
		c.Base = "busybox"
	}
	f := &Fleet{Dir: dir, Root: "root", config: c}
	f.add(f.Root, "", dockerfile)
	if c.Wasm {
		f.Tools = "tools"
		f.add(f.Tools, f.Root, toolchain)
	}
	for i := range max(1, c.Images/50) {
		f.Trunks = append(f.Trunks, fmt.Sprintf("trunk-%03d", i))
		f.addText(i, f.Trunks[i], f.Root)
	}
	for i := range max(1, c.Images/10) {
		f.Mids = append(f.Mids, fmt.Sprintf("mid-%03d", i))
		f.addText(i, f.Mids[i], f.Trunks[i%len(f.Trunks)])
	}
	for i := range c.Images - len(f.images) {
		if c.Wasm && i%10 == 0 {
			name := fmt.Sprintf("module-%03d", i)
			f.Modules = append(f.Modules, name)
			f.add(name, f.Tools, module)
			continue
		}
		n := len(f.Leaves)
		f.Leaves = append(f.Leaves, fmt.Sprintf("leaf-%03d", i))
		f.addText(n, f.Leaves[n], f.Mids[n%len(f.Mids)])
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

func (f *Fleet) add(name, base string, k kind) { f.images = append(f.images, image{name, base, k}) }

// addText adds the n-th image of a level: every other one is a ZImagefile.
func (f *Fleet) addText(n int, name, base string) {
	if n%2 == 1 {
		f.add(name, base, zimagefile)
	} else {
		f.add(name, base, dockerfile)
	}
}

// Names are those of all images, each after what it is based on.
func (f *Fleet) Names() []string {
	var out []string
	for _, i := range f.images {
		out = append(out, i.name)
	}
	return out
}

// Below are the names of all that is based on an image, and its own.
func (f *Fleet) Below(name string) []string {
	below := map[string]bool{name: true}
	var out []string
	for _, i := range f.images {
		if below[i.name] || below[i.base] {
			below[i.name] = true
			out = append(out, i.name)
		}
	}
	return out
}

// Touch changes the file that an image copies.
func (f *Fleet) Touch(name, text string) error {
	return os.WriteFile(filepath.Join(f.Dir, name, "data"), []byte(text+"\n"), 0o644)
}

// Tag is the tag of an image.
func (f *Fleet) Tag(name string) string { return f.config.Registry + "/" + name + ":1" }

// from is what an image is based on, as FROM has it.
func (f *Fleet) from(i image) string {
	if i.base == "" {
		return f.config.Base
	}
	return f.Tag(i.base)
}

// files are all files of the monorepo.
func (f *Fleet) files() map[string]string {
	out := map[string]string{}
	var pipeline, bake strings.Builder
	output := "cacheonly"
	if f.config.Push {
		output = "registry"
	}
	fmt.Fprintf(&pipeline, "defaults:\n  tags: [\"%s/${IMAGE_NAME}:1\"]\n  output: [{type: %s}]\n  push: %v\nimages:\n", f.config.Registry, output, f.config.Push)
	var targets []string
	for _, i := range f.images {
		f.addFiles(out, i)
		fmt.Fprintf(&pipeline, "  %s: {context: %s}\n", i.name, i.name)
		targets = append(targets, fmt.Sprintf("%q", i.name))
		fmt.Fprintf(&bake, "target %q {\n  context = %q\n  tags = [%q]\n", i.name, i.name, f.Tag(i.name))
		if i.base != "" {
			fmt.Fprintf(&bake, "  contexts = { %q = \"target:%s\" }\n", f.from(i), i.base)
		}
		fmt.Fprintf(&bake, "  output = [\"type=%s\"]\n}\n", output)
	}
	fmt.Fprintf(&bake, "group \"default\" {\n  targets = [%s]\n}\n", strings.Join(targets, ", "))
	out["ZPipeline.yaml"] = pipeline.String()
	if !f.config.Wasm {
		out["docker-bake.hcl"] = bake.String()
	}
	return out
}

// addFiles adds the files of one image.
func (f *Fleet) addFiles(out map[string]string, i image) {
	out[i.name+"/data"] = "the data of " + i.name + "\n"
	switch i.kind {
	case module:
		out[i.name+"/main.c"] = "int main() {}\n"
		out[i.name+"/ZImagefile"] = fmt.Sprintf("wasm:\n  language: c\n  image: %s\n  build_args:\n    BINARY: '%s'\n    SAYS: running-%s\n", f.from(i), binary(i.name), i.name)
		return
	case toolchain:
		out[i.name+"/clang"] = compiler
	case zimagefile:
		out[i.name+"/ZImagefile"] = fmt.Sprintf("base: %s\nsteps:\n  - copy: data\n    to: /srv/%s\n  - run: %s\nenv:\n  IMAGE: %s\n", f.from(i), i.name, run(i.name), i.name)
	case dockerfile:
	}
	from, env := "FROM "+f.from(i)+"\n", "ENV IMAGE="+i.name+"\n"
	steps := fmt.Sprintf("COPY data /srv/%s\nRUN %s\n", i.name, run(i.name))
	switch i.kind {
	case zimagefile: // whose environment comes before its steps
		out[i.name+"/Dockerfile"] = from + env + steps
	case toolchain:
		out[i.name+"/Dockerfile"] = from + steps + env + "COPY --chmod=0755 clang /bin/clang\n"
	default:
		out[i.name+"/Dockerfile"] = from + steps + env
	}
}

// run is what the step of an image does: it prints its name, so that runs can be counted.
func run(name string) string {
	return fmt.Sprintf("echo running-%s && cat /srv/%s > /srv/%s.out", name, name, name)
}

// compiler stands in for a compiler: it writes the binary $BINARY to where it is told.
const compiler = `#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
mkdir -p "${out%/*}" && printf "$BINARY" >"$out" && echo "$SAYS"
`

// binary is an empty module with its name in a section, in the notation of printf.
func binary(name string) string {
	module := "\x00asm\x01\x00\x00\x00" + "\x00" + string(rune(len(name)+1)) + string(rune(len(name))) + name
	var b strings.Builder
	for _, c := range []byte(module) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return b.String()
}
