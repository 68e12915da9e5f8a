package flags

import (
	"errors"
	"fmt"

	"github.com/zlayer-dev/zlayer/engine"
)

// Output is one value of --output.
type Output struct {
	engine.Output
	// Stdout: the result is written to standard output (dest=-).
	Stdout bool
	// Load: the result is loaded into the local docker, and Output is unused.
	Load bool
}

// outputTypes are the values of type=, in the order that help shows.
var outputTypes = []string{"store", "image", "registry", "oci", "docker", "tar", "local", "cacheonly"}

// ParseOutput reads type=TYPE[,dest=PATH][,KEY=VALUE...]. A bare path is
// type=local, a bare "-" is type=tar to standard output, type=registry is
// type=image,push=true, and type=docker without dest loads into docker.
func ParseOutput(s string) (Output, error) {
	list, err := fields(s)
	if err != nil {
		return Output{}, err
	}
	if len(list) == 1 && list[0].bare {
		return shortOutput(s, list[0]), nil
	}
	kv, err := attrs(list)
	if err != nil {
		return Output{}, err
	}
	typ, ok := kv["type"]
	if !ok {
		return Output{}, errors.New("type= is missing: use " + oneOf(outputTypes))
	}
	dest, hasDest := kv["dest"]
	delete(kv, "type")
	delete(kv, "dest")
	if hasDest && dest == "" {
		return Output{}, errors.New("dest is empty")
	}
	out := Output{Output: engine.Output{Type: engine.OutputType(typ), Dest: dest, Attrs: kv}}
	if err := out.normalise(); err != nil {
		return Output{}, err
	}
	return out, nil
}

// shortOutput is the form without type. The field is read as it was written: a
// path may hold capitals, which keys lose.
func shortOutput(s string, f field) Output {
	if f.key == "-" {
		return Output{Output: engine.Output{Type: engine.OutputTar}, Stdout: true}
	}
	return Output{Output: engine.Output{Type: engine.OutputLocal, Dest: unquote(s)}}
}

// unquote undoes CSV's quoting of a single field.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// normalise applies the rules of each type.
func (o *Output) normalise() error {
	switch o.Type {
	case engine.OutputStore, engine.OutputImage, "registry":
		return o.image()
	case engine.OutputDocker:
		if o.Dest == "" {
			return o.load()
		}
		return o.archive()
	case engine.OutputOCI, engine.OutputTar:
		return o.archive()
	case engine.OutputLocal:
		if o.Dest == "" || o.Dest == "-" {
			return errors.New("type=local needs a directory: add dest=DIR")
		}
	case engine.OutputCacheOnly:
		if o.Dest != "" || len(o.Attrs) > 0 {
			return errors.New("type=cacheonly writes nothing and takes no other fields")
		}
	default:
		return unknown("type", string(o.Type), outputTypes)
	}
	return nil
}

func (o *Output) image() error {
	if o.Dest != "" {
		return fmt.Errorf("type=%s has no dest: use type=oci or type=docker for a file", o.Type)
	}
	if v, ok := o.Attrs["push"]; ok {
		push, err := parseBool("push", v)
		switch {
		case err != nil:
			return err
		case o.Type == engine.OutputStore:
			return errors.New("type=store does not push: use --push, or type=registry")
		case o.Type == "registry" && !push:
			return errors.New("type=registry means push=true: use type=image")
		}
	}
	if o.Type == "registry" {
		o.Type = engine.OutputImage
		o.Attrs["push"] = "true"
	}
	return nil
}

// load is type=docker without dest.
func (o *Output) load() error {
	for key := range o.Attrs {
		return fmt.Errorf("type=docker without dest loads into docker and takes no %s: add dest=FILE or use --tag", key)
	}
	o.Load = true
	return nil
}

// archive is a tar file, or with tar=false a directory.
func (o *Output) archive() error {
	asTar := true
	if v, ok := o.Attrs["tar"]; ok {
		b, err := parseBool("tar", v)
		switch {
		case err != nil:
			return err
		case o.Type == engine.OutputTar:
			return errors.New("type=tar has no field tar: use type=local for a directory")
		}
		asTar = b
	}
	o.Stdout = o.Dest == "" || o.Dest == "-"
	if o.Stdout {
		o.Dest = ""
		if !asTar {
			return errors.New("tar=false needs a directory: add dest=DIR")
		}
	}
	return nil
}

// Pushes reports whether the output goes to a registry.
func (o *Output) Pushes() bool { return o.Attrs["push"] == "true" }

// Image reports whether the output is an image, not files alone.
func (o *Output) Image() bool {
	switch o.Type {
	case engine.OutputTar, engine.OutputLocal, engine.OutputCacheOnly:
		return false
	}
	return true
}
