package zimage

import (
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// Options are what a conversion depends on beside the file.
type Options struct {
	// BuildArgs are the build arguments given from outside. They are not written into the text;
	// they are needed where a path has to be known now (see [Convert]).
	BuildArgs map[string]string
	// Platform, if not empty, has been asked for from outside: the platform of the file itself then
	// gives way. The platforms of stages stay.
	Platform string
	// Windows says that the daemon builds Windows images. Without it, a file for Windows is refused.
	Windows bool
	// ImageWorkdir returns the working directory of a base image's config, if it is known. It is
	// asked only where a stage has a relative workdir on top of an image.
	ImageWorkdir func(ref string) (dir string, ok bool)
}

// Dockerfile is the Dockerfile that a ZImagefile stands for.
type Dockerfile struct {
	// Text is nil for a file in WASM mode.
	Text []byte
	// Lines has for each line of Text the place that it comes from, or the zero Pos.
	Lines []graph.Pos
	// Builds are the nested builds that the text names as named contexts.
	Builds []Nested
	// Stages are the stages of the file in its order; nil unless it has stages.
	Stages []StageName
	// BuildArgs have to be given to the build of Text on top of the user's. They hold what a
	// Dockerfile cannot say: line feeds in the values of ENV, LABEL and ARG.
	BuildArgs map[string]string
	// Wasm is set for a file in WASM mode, whose other field of meaning is File.Labels.
	Wasm *Wasm
	// Windows are the stages as the rules for Windows content see them.
	Windows *WindowsStages
	// Warnings are what is odd about the file.
	Warnings []*graph.PosError
}

// StageName says what a stage is called in the Dockerfile.
type StageName struct {
	Name       string // in the ZImagefile
	Dockerfile string
	Pos        graph.Pos
}

// Nested is a nested build that a Dockerfile needs.
type Nested struct {
	// Context is the named context that stands for the result.
	Context string
	// Stage is the stage that is based on it, "" for the only one.
	Stage string
	// Dir is relative to the build context of the file, "" for the context itself.
	Dir string
	// File is relative to Dir; "" if it has to be found.
	File string
	// Target is the stage of the nested build that is wanted, "" for the last one.
	Target string
	// Args are its build arguments.
	Args map[string]string
	Pos  graph.Pos
}

// Pos returns the place that a line of the text comes from; lines count from 1.
func (d *Dockerfile) Pos(line int) graph.Pos {
	if line < 1 || line > len(d.Lines) {
		return graph.Pos{}
	}
	return d.Lines[line-1]
}

// Target returns what the stage of a ZImagefile is called in the Dockerfile. "" is the last stage.
func (d *Dockerfile) Target(stage string) (string, error) {
	if stage == "" {
		return "", nil
	}
	var names []string
	for _, s := range d.Stages {
		if s.Name == stage {
			return s.Dockerfile, nil
		}
		names = append(names, s.Name)
	}
	if names == nil {
		return "", fmt.Errorf("there is no stage %q: the file has no stages", stage)
	}
	return "", fmt.Errorf("there is no stage %q%s: stages are %s", stage, yamlfile.DidYouMean(stage, names), strings.Join(names, ", "))
}
