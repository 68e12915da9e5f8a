package zimage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/sys/signal"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// validate checks what takes more than one value to see.
func (d *decoder) validate(f *File) {
	wasmRuntime(f)
	d.index = newStageIndex(f.Stages)
	d.mode(f)
	d.platform(f.Platform, f.OS)
	d.meta(&f.Meta)
	d.base(f.Base)
	for i := range f.Steps {
		d.step(fmt.Sprintf("step %d", i+1), &f.Steps[i], 0)
	}
	if f.Stages == nil {
		return
	}
	if len(f.Stages) == 0 {
		d.Errorf(f.at("stages", graph.Pos{}), "stages must have at least one stage")
	}
	for i := range f.Stages {
		d.stage(f, i)
	}
}

// wasmRuntime turns the runtimes that are WebAssembly into the section they stand for.
func wasmRuntime(f *File) {
	if f.Runtime == nil || f.keys["wasm"] != (graph.Pos{}) {
		return
	}
	w := &Wasm{Pos: f.Runtime.Pos}
	switch strings.ToLower(f.Runtime.Value) {
	case "wasm", "webassembly":
	case "wasm-module", "wasm-preview1":
		w.Target = &String{Value: "preview1", Pos: f.Runtime.Pos}
	case "wasm-component", "wasi-component", "wasm-preview2":
		w.Target = &String{Value: "preview2", Pos: f.Runtime.Pos}
	default:
		return
	}
	f.Wasm, f.Runtime = w, nil
}

// mode checks that the file is in one mode and has nothing that the mode does not know.
func (d *decoder) mode(f *File) {
	modes := []string{"runtime", "base", "build", "stages", "wasm"}
	var given []string
	for _, m := range modes {
		if _, ok := f.keys[m]; ok {
			given = append(given, m)
		}
	}
	slices.SortFunc(given, func(a, b string) int { return f.keys[a].Line - f.keys[b].Line })
	switch len(given) {
	case 0:
		if f.strange {
			return
		}
		d.Errorf(graph.Pos{Line: 1}, "exactly one of %s must be set, none were found", strings.Join(modes, ", "))
		return
	case 1:
	default:
		d.Errorf(f.keys[given[1]], "exactly one of %s must be set, multiple were found: %s", strings.Join(modes, ", "), strings.Join(given, ", "))
		return
	}
	steps, has := f.keys["steps"]
	switch given[0] {
	case "stages":
		if has {
			d.Errorf(steps, "steps belong to base or build: move them into one of the stages")
		}
	case "runtime":
		if has && f.Wasm == nil {
			d.Errorf(steps, "steps cannot be added to a runtime: write it out with zlayer init and edit the result")
		} else if has {
			d.Errorf(steps, "a wasm file has no steps: use wasm.pre_build and wasm.post_build")
		}
	case "wasm":
		if has {
			d.Errorf(steps, "a wasm file has no steps: use wasm.pre_build and wasm.post_build")
		}
	}
}

// platform checks the two ways to name a platform against each other.
func (d *decoder) platform(platform, os *String) {
	if platform == nil {
		return
	}
	if strings.Contains(platform.Value, "$") {
		if strings.ContainsAny(platform.Value, " \t\"'\\") {
			d.Errorf(platform.Pos, "invalid platform %q: it must not contain blanks, quotes or backslashes", platform.Value)
		}
		return
	}
	p, err := platforms.Parse(platform.Value)
	if err != nil {
		d.Errorf(platform.Pos, "invalid platform %q: expected OS/ARCHITECTURE, like linux/arm64", platform.Value)
		return
	}
	if os != nil && strings.Contains(platform.Value, "/") && p.OS != os.Value {
		d.Errorf(os.Pos, "os %s contradicts platform %s", os.Value, platform.Value)
	}
}

// meta checks what an image config says.
func (d *decoder) meta(m *Meta) {
	if m.StopSignal != nil {
		if _, err := signal.ParseSignal(m.StopSignal.Value); err != nil {
			d.Errorf(m.StopSignal.Pos, "unknown signal %q: expected a name like SIGTERM, or a number", m.StopSignal.Value)
		}
	}
}

// base checks the name of an image or stage to start from.
func (d *decoder) base(base *String) {
	if base == nil {
		return
	}
	v := base.Value
	if strings.ContainsAny(v, " \t\"'\\") {
		d.Errorf(base.Pos, "base %q is no image: it must not contain blanks, quotes or backslashes", v)
		return
	}
	if strings.Contains(v, "$") || strings.EqualFold(v, "scratch") {
		return // variables are for the build to expand
	}
	if _, err := reference.ParseNormalizedNamed(v); err != nil {
		d.Errorf(base.Pos, "base %q is no image: %w", v, err)
	}
}

// stage checks the i-th stage.
func (d *decoder) stage(f *File, i int) {
	st := &f.Stages[i]
	_, base := st.keys["base"]
	_, build := st.keys["build"]
	switch {
	case !base && !build && st.strange:
	case !base && !build:
		d.Errorf(st.Pos, "stage '%s': exactly one of base or build must be set, neither was found", st.Name)
	case base && build:
		d.Errorf(st.keys["build"], "stage '%s': base and build are mutually exclusive, both are set", st.Name)
	}
	switch {
	case strings.TrimSpace(st.Name) == "" || strings.ContainsAny(st.Name, "\n\r"):
		d.Errorf(st.Pos, "a stage needs a name of one line")
	case strings.EqualFold(st.Name, "scratch"):
		d.Errorf(st.Pos, "a stage cannot be called scratch, the name of the empty image")
	}
	if st.Base != nil {
		switch j := d.index.named(st.Base.Value); {
		case j == i:
			d.Errorf(st.Base.Pos, "stage '%s' is based on itself: for the image of that name write %s", st.Name, unambiguous(st.Base.Value))
		case j > i:
			d.Errorf(st.Base.Pos, "stage '%s' is based on stage '%s', which comes later: move that one up, or write %s for the image of that name", st.Name, st.Base.Value, unambiguous(st.Base.Value))
		case j < 0:
			d.base(st.Base)
		}
	}
	d.platform(st.Platform, st.OS)
	d.meta(&st.Meta)
	for n := range st.Steps {
		d.step(fmt.Sprintf("stage '%s', step %d", st.Name, n+1), &st.Steps[n], i)
	}
}

// unambiguous is how to write an image that is called like a stage.
func unambiguous(name string) string {
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.TagNameOnly(ref).String()
	}
	return "its full name"
}

// stageIndex finds stages by name.
type stageIndex struct {
	names []string
	at    map[string]int
}

func newStageIndex(stages []Stage) *stageIndex {
	x := &stageIndex{at: make(map[string]int, len(stages))}
	for i := range stages {
		x.at[stages[i].Name] = i
		x.names = append(x.names, stages[i].Name)
	}
	return x
}

// named returns the index of the stage of the name, -1 if there is none.
func (x *stageIndex) named(name string) int {
	if i, ok := x.at[name]; ok {
		return i
	}
	return -1
}

// find is named for what a from says, which may be a number as well, counted from 0.
func (x *stageIndex) find(name string) int {
	if i := x.named(name); i >= 0 {
		return i
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(x.names) {
		return i
	}
	return -1
}

// step checks one step; it is one of the i-th stage if there are stages.
func (d *decoder) step(loc string, s *Step, i int) {
	var actions []string
	for _, a := range []string{"run", "copy", "add", "env", "workdir", "user"} {
		if _, ok := s.keys[a]; ok {
			actions = append(actions, a)
		}
	}
	const one = "exactly one instruction type (run, copy, add, env, workdir, user) must be set"
	transient := len(actions) == 2 && actions[0] == "run" && actions[1] == "env"
	switch {
	case len(actions) == 0 && s.strange:
		return
	case len(actions) == 0:
		d.Errorf(s.Pos, "%s: %s, none were found", loc, one)
		return
	case len(actions) > 1 && !transient:
		d.Errorf(s.Pos, "%s: %s, multiple were found: %s", loc, one, strings.Join(actions, ", "))
		return
	}
	action := actions[0]
	if _, ok := s.keys["to"]; !ok && !s.strange && (action == "copy" || action == "add") {
		d.Errorf(s.Pos, "%s: '%s' step must have a 'to' field", loc, action)
	}
	d.modifiers(loc, s, action)
	for _, list := range [][]Mount{s.Cache, s.Mounts, s.Secrets, s.SSH} {
		for n := range list {
			d.mount(loc, &list[n], i)
		}
	}
	if s.From != nil && action == "copy" {
		d.from(loc, s.From, i)
	}
	if s.Env != nil && action == "run" && s.Run != nil {
		for _, p := range s.Env {
			if len(s.Run.Exec) > 0 && strings.Contains(s.Run.Exec[0], "=") {
				d.Errorf(p.Key.Pos, "%s: env cannot go with a program that has = in its name", loc)
				break
			}
		}
	}
}

// modifiers checks that the step has none that its action does not know.
func (d *decoder) modifiers(loc string, s *Step, action string) {
	files := action == "copy" || action == "add"
	for _, m := range []string{"to", "from", "owner", "chmod", "cache", "mounts", "secrets", "ssh", "network", "security"} {
		pos, given := s.keys[m]
		if !given {
			continue
		}
		switch m {
		case "to", "owner", "chmod":
			if !files {
				d.Errorf(pos, "%s: '%s' is only valid on 'copy'/'add' steps", loc, m)
			}
		case "from":
			if action == "add" {
				d.Errorf(pos, "%s: 'from' is not valid on 'add' steps: use 'copy'", loc)
			} else if !files {
				d.Errorf(pos, "%s: 'from' is only valid on 'copy' steps", loc)
			}
		default:
			if action != "run" {
				d.Errorf(pos, "%s: '%s' is only valid on 'run' steps", loc, m)
			}
		}
	}
}

// from checks what a step of the i-th stage copies or mounts.
func (d *decoder) from(loc string, from *String, i int) {
	name := from.Value
	if strings.Contains(name, "$") {
		d.Errorf(from.Pos, "%s: variables are not expanded in 'from': declare a stage with that base and name it here", loc)
		return
	}
	switch j := d.index.find(name); {
	case j >= 0 && j == i:
		d.Errorf(from.Pos, "%s: stage '%s' cannot read from itself", loc, name)
		return
	case j > i:
		d.Errorf(from.Pos, "%s: 'from' names stage '%s', which comes later: move that one up", loc, name)
		return
	case j >= 0:
		return
	}
	if !strings.ContainsAny(name, "/:@.") {
		if s := d.nearStage(name); s != "" {
			d.Errorf(from.Pos, "%s: there is no stage '%s'%s; for an image of that name write %s", loc, name, s, unambiguous(name))
			return
		}
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		d.Errorf(from.Pos, "%s: 'from' %q is neither a stage nor an image: %w", loc, name, err)
	}
}

// nearStage is the stage that a name may be a misspelling of.
func (d *decoder) nearStage(name string) string {
	s, ok := d.near[name]
	if !ok {
		s = yamlfile.DidYouMean(name, d.index.names)
		if d.near == nil {
			d.near = map[string]string{}
		}
		d.near[name] = s
	}
	return s
}

// mount checks a mount against its type.
func (d *decoder) mount(loc string, m *Mount, i int) {
	if m.From != nil {
		d.from(loc, m.From, i)
	}
	if m.Size != nil {
		if _, err := units.RAMInBytes(m.Size.Value); err != nil {
			d.Errorf(m.Size.Pos, "%s: invalid size %q: expected a number of bytes, or one like 64m", loc, m.Size.Value)
		}
	}
	if m.Type == nil {
		return
	}
	only := func(types string, name string, given bool) {
		if given && !strings.Contains(types, m.Type.Value) {
			d.Errorf(m.Pos, "%s: '%s' has no meaning for a %s mount", loc, name, m.Type.Value)
		}
	}
	only("bind cache", "from", m.From != nil)
	only("bind cache", "source", m.Source != nil)
	only("cache", "id", m.ID != nil)
	only("cache", "sharing", m.Sharing != nil)
	only("tmpfs", "size", m.Size != nil)
	only("bind cache", "readonly", m.ReadOnly)
	only("bind", "readwrite", m.ReadWrite)
	only("cache", "mode", m.Mode != nil)
	only("cache", "uid", m.UID != nil)
	only("cache", "gid", m.GID != nil)
	if m.ReadOnly && m.ReadWrite {
		d.Errorf(m.Pos, "%s: a mount cannot be readonly and readwrite", loc)
	}
}
