package fleet

import (
	"path/filepath"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/engine"
)

// Bases says how images described in Go name what they are based on.
type Bases int

const (
	// Tags are those of the images, as in the build files.
	Tags Bases = iota
	// Stages are what the images are made of.
	Stages
)

// Builds are the same images, described in Go. Only modules have a build file, since the
// Go API has no stage for them.
func (f *Fleet) Builds(b Bases) []engine.BatchBuild {
	stages := map[string]*dag.Stage{}
	var out []engine.BatchBuild
	for _, i := range f.images {
		req := engine.Request{Tags: []string{f.Tag(i.name)}, Push: f.config.Push, Outputs: []engine.Output{{Type: engine.OutputCacheOnly}}}
		if f.config.Push {
			req.Outputs = []engine.Output{{Type: engine.OutputImage}}
		}
		if i.kind == module {
			req.Context = filepath.Join(f.Dir, i.name)
		} else {
			from := dag.Image(f.from(i))
			if b == Stages && i.base != "" {
				from = stages[i.base]
			}
			stages[i.name] = f.stage(i, from)
			req.Stage = stages[i.name]
		}
		out = append(out, engine.BatchBuild{NamedRequest: engine.NamedRequest{Name: i.name, Request: req}})
	}
	return out
}

// stage is an image in Go.
func (f *Fleet) stage(i image, from dag.Source) *dag.Stage {
	files := dag.Local(filepath.Join(f.Dir, i.name))
	steps := []dag.Step{
		dag.Copy(dag.Files{From: files, Src: []string{"data"}, Dest: "/srv/" + i.name}),
		dag.Shell(run(i.name)),
	}
	env := dag.Env("IMAGE", i.name)
	switch i.kind {
	case zimagefile:
		steps = append([]dag.Step{env}, steps...)
	case toolchain:
		steps = append(steps, env, dag.Copy(dag.Files{From: files, Src: []string{"clang"}, Dest: "/bin/clang", Chmod: "0755"}))
	default:
		steps = append(steps, env)
	}
	return dag.New(dag.Spec{Name: i.name, From: from, Steps: steps})
}
