package zimage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"github.com/zlayer-dev/zlayer/graph"
)

// Bottom is what the result of a build stands on, when all builds and stages below are looked
// through.
type Bottom struct {
	// Image is the base image at the bottom, as the file there names it; "" where that is not known.
	Image string
	// OS is the operating system of the result, "" if it is not known.
	OS string
	// Wasm: it is no image but the file of a WebAssembly build.
	Wasm bool
	// Way is where each build on the way down says what it is based on, the uppermost first.
	Way []graph.Pos
}

// Windows reports whether the result is an image of Windows.
func (b Bottom) Windows() bool { return strings.EqualFold(b.OS, "windows") || windowsImage(b.Image) }

// way is the chain of positions.
func (b Bottom) way() string {
	var way []string
	for _, p := range b.Way {
		way = append(way, p.String())
	}
	return strings.Join(way, " -> ")
}

// WindowsStages are the stages of one build file as the rules for Windows content see them. Builds
// that the file is based on are not known when it is read; they are added one by one.
type WindowsStages struct {
	name   string
	text   []byte
	opt    Options
	list   []windowsStage
	target int // -1 for none
	// file: it is a ZImagefile, which is refused where its last stage is one of Windows, and of which
	// all stages count.
	file bool
}

// DockerfileStages are the stages of a Dockerfile that target needs, "" being the last stage. There
// are none in a text that is not a valid Dockerfile.
func DockerfileStages(name string, text []byte, target string, opt Options) *WindowsStages {
	w := &WindowsStages{name: name, text: text, opt: opt}
	w.list, w.target = dockerfileStages(name, text, target, opt)
	return w
}

// converter gathers what is wrong.
func (w *WindowsStages) converter() *converter {
	return &converter{decoder: newDecoder(w.name, w.text), out: &Dockerfile{}, opt: w.opt}
}

// SetTarget makes another stage of a ZImagefile than the last one its target.
func (w *WindowsStages) SetTarget(stage string) {
	for i := range w.list {
		if w.file && stage != "" && w.list[i].name == stage {
			w.target = i
		}
	}
}

// NestedBase is a build that a file is based on.
type NestedBase struct {
	// Name is what FROM says. Where the file has a build of its own there, Build is set, and Stage
	// names the stage.
	Name, Stage string
	Build       bool
	// Platform is what the build was asked for, "" for the default one.
	Platform string
	Pos      graph.Pos
	Bottom   Bottom
}

// Nest adds a build that the file is based on, and checks the rules for the stages that are: that
// neither a Windows image is the base of what is built for Linux nor the other way round, and all
// that [CheckWindows] checks, with the base at the bottom of the build as theirs. Without a daemon
// for Windows, what only that can build is refused; so is what would run on a WebAssembly file. All
// violations are reported, see [yamlfile.Errors]; warnings are there beside an error, too.
func (w *WindowsStages) Nest(n NestedBase) (warnings []*graph.PosError, err error) {
	c := w.converter()
	refused := false
	for i := range w.list {
		st, root := &w.list[i], &w.list[w.list[i].root]
		if !root.isOn(n) {
			continue
		}
		if st == root {
			below := n.Bottom
			below.Way = append([]graph.Pos{n.Pos}, below.Way...)
			root.bottom = &below
			if !below.Wasm && c.mixes(root, n.Platform) {
				return nil, c.Err()
			}
		}
		if root.bottom.Wasm {
			if len(st.runs) > 0 {
				c.Errorf(st.runs[0].pos, "nothing can run here: the base is no image but a WebAssembly file (%s). Start from an image and copy the file", root.bottom.way())
			}
			continue
		}
		c.checkWindowsStage(w.list, i)
		c.checkRunEnv(w.list, i)
		if w.opt.Windows || refused || !isWindows(w.list, i) {
			continue
		}
		switch {
		case w.file && i == len(w.list)-1:
			c.Fail(st.pos, root.needsWindows())
			refused = true
		case len(st.runs) > 0:
			c.Fail(st.runs[0].pos, root.needsWindows())
			refused = true
		}
	}
	return c.out.Warnings, c.Err()
}

// checkRunEnv refuses variables beside a command in a stage of Windows.
func (c *converter) checkRunEnv(list []windowsStage, i int) {
	for _, r := range list[i].runs {
		if r.env != nil && isWindows(list, i) {
			c.Fail(*r.env, errRunEnv)
		}
	}
}

// errRunEnv is why variables cannot stand beside a command on Windows.
var errRunEnv = errors.New("env beside run is not possible on Windows: set the variables in the command")

// isOn reports whether the stage is based on a build.
func (st *windowsStage) isOn(n NestedBase) bool {
	if st.built != n.Build || n.Build && st.name != n.Stage {
		return false
	}
	if !n.Build && (st.parent >= 0 || !sameName(st.base, n.Name)) {
		return false
	}
	own, _, _ := strings.Cut(st.platform, "/")
	return !st.own || n.Platform == "" || isOS(n.Platform, own)
}

// sameName reports whether two names mean the same image.
func sameName(a, b string) bool {
	one, err := reference.ParseNormalizedNamed(a)
	if err != nil {
		return a == b
	}
	other, err := reference.ParseNormalizedNamed(b)
	return err == nil && reference.TagNameOnly(one).String() == reference.TagNameOnly(other).String()
}

// mixes notes a stage of Windows that is based on an image of Linux, or the other way round.
func (c *converter) mixes(st *windowsStage, platform string) bool {
	if !st.own && c.opt.Platform == "" || platform == "" || st.bottom.OS == "" {
		return false
	}
	switch windows := isOS(platform, "windows"); {
	case windows && !st.bottom.Windows():
		c.Errorf(st.pos, "this stage is one of Windows, and an image of %s cannot be its base: it is %s. Give the nested build a Windows base, or copy from it", systemName(st.bottom.OS), st.shownBase())
	case !windows && st.bottom.Windows():
		os, _, _ := strings.Cut(platform, "/")
		c.Errorf(st.pos, "this stage is one of %s, and an image of Windows cannot be its base: it is %s. Give the nested build another base, or copy from it", systemName(os), st.shownBase())
	default:
		return false
	}
	return true
}

func systemName(os string) string {
	if os == "linux" {
		return "Linux"
	}
	return os
}

// needsWindows is why a stage cannot be built here.
func (st *windowsStage) needsWindows() error {
	return fmt.Errorf("%w. Its base is %s", errWindows, st.shownBase())
}

// image is the image at the bottom.
func (st *windowsStage) image() string {
	if st.bottom != nil {
		return st.bottom.Image
	}
	return st.base
}

// shownBase is the image at the bottom, with the way there.
func (st *windowsStage) shownBase() string {
	if st.bottom == nil {
		return st.base
	}
	name := st.bottom.Image
	if name == "" {
		name = "a nested build"
	}
	return name + " (" + st.bottom.way() + ")"
}

// Bottom is what the target stands on. It is for when all builds have been added.
func (w *WindowsStages) Bottom() Bottom {
	if w.target < 0 || w.target >= len(w.list) {
		return Bottom{}
	}
	root := &w.list[w.list[w.target].root]
	if root.bottom != nil {
		return *root.bottom
	}
	b := Bottom{Image: root.base, Way: []graph.Pos{root.pos}}
	if isWindows(w.list, w.target) {
		b.OS = "windows"
	} else if root.own && root.platform != "" {
		b.OS, _, _ = strings.Cut(root.platform, "/")
	}
	return b
}
