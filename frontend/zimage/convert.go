package zimage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// Convert returns the Dockerfile that a file stands for. All mistakes are reported, see [yamlfile.Errors].
//
// The order of instructions is that of the format, not of the file: ARG, ENV, WORKDIR, the steps,
// LABEL, EXPOSE, USER, VOLUME, HEALTHCHECK, STOPSIGNAL, ENTRYPOINT, CMD; what a file with stages
// says at its top follows the last stage in the same order. The file's args come before the first
// FROM; the stage of a file without stages can use them all, stages use those they declare.
//
// Relative paths that are copied from a stage start at that stage's working directory at its end.
// It is computed here: from the workdirs of the stage and of the stages it is based on, starting
// at / on an image. Where one is relative to the working directory of an image, or has a variable
// that only an image can know, the copy is refused unless its path is absolute.
func Convert(f *File, opt Options) (*Dockerfile, error) {
	c := newConverter(f, opt)
	c.windows()
	switch f.Mode() {
	case ModeWasm:
		c.out.Wasm = f.Wasm
		c.wasmWarnings()
	case ModeRuntime:
		c.Errorf(f.Runtime.Pos, "runtime %s has no Dockerfile of its own: it goes on top of a template", f.Runtime.Value)
	case ModeSingle:
		c.globalArgs()
		c.stage(c.only())
	case ModeStages:
		c.globalArgs()
		c.stages()
	default:
		c.Errorf(graph.Pos{Line: 1}, "nothing to build")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	c.out.Windows = &WindowsStages{name: f.Name, text: f.Text, opt: opt, list: c.list, target: len(c.list) - 1, file: true}
	return c.out, nil
}

// converter writes the Dockerfile of one file.
type converter struct {
	*decoder // gathers mistakes
	file     *File
	opt      Options
	out      *Dockerfile
	done     []*stageState
	args     map[string]string // values of the file's arguments
	list     []windowsStage    // all stages, as the rules for Windows see them
}

func newConverter(f *File, opt Options) *converter {
	d := newDecoder(f.Name, f.Text)
	d.index = newStageIndex(f.Stages)
	c := &converter{
		decoder: d,
		file:    f,
		opt:     opt,
		out:     &Dockerfile{},
	}
	c.args = c.globals()
	c.list = c.windowsStages()
	return c
}

// stageState is a stage that is being written, or has been.
type stageState struct {
	*Stage
	// loc names it in messages, docker in the Dockerfile ("" for no name).
	loc, docker string
	scope       *scope
	windows     bool
	drives      bool // it is, or may be, of Windows, where paths can begin with a drive
	newline     bool // its ARG is there
}

// only is the stage of a file without stages.
func (c *converter) only() *stageState {
	f := c.file
	st := &Stage{Pos: c.top(), Base: f.Base, Build: f.Build, Steps: f.Steps, Meta: f.Meta, keyed: f.keyed}
	for _, a := range f.Args {
		st.Args = append(st.Args, Pair{Key: a.Key})
	}
	return &stageState{Stage: st, loc: "the file"}
}

// top is where a file without stages says what it starts from.
func (c *converter) top() graph.Pos {
	if c.file.Base != nil {
		return c.file.Base.Pos
	}
	return c.file.Build.Pos
}

// line writes a line that comes from pos.
func (c *converter) line(pos graph.Pos, text string) {
	for _, l := range wrapLong(text) {
		if len(l) > maxLine {
			c.Errorf(pos, "this value is too long for a line of a Dockerfile")
			return
		}
		c.out.Text = append(append(c.out.Text, l...), '\n')
		c.out.Lines = append(c.out.Lines, c.clampKnown(pos))
	}
}

func (c *converter) clampKnown(pos graph.Pos) graph.Pos {
	if pos.IsZero() {
		return pos
	}
	return c.Clamp(pos)
}

// maxLine is the length of a line that BuildKit's Dockerfile parser still takes, with reserve.
const maxLine = 60_000

// wrapLong breaks an instruction that is too long for one line, where the parser joins the pieces
// to what they were: not behind a backslash, and not before what would make a comment or nothing of
// the next line.
func wrapLong(text string) []string {
	var lines []string
	for len(text) > maxLine {
		cut := maxLine - 1
		for cut > 0 && !canBreak(text, cut) {
			cut--
		}
		if cut == 0 {
			break
		}
		lines = append(lines, text[:cut]+`\`)
		text = text[cut:]
	}
	return append(lines, text)
}

func canBreak(text string, at int) bool {
	if !utf8.RuneStart(text[at]) || text[at-1] == '\\' {
		return false
	}
	next, _ := utf8.DecodeRuneInString(text[at:])
	return next != '#' && !unicode.IsSpace(next)
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// globalArgs writes what comes before the first FROM.
func (c *converter) globalArgs() {
	first := &stageState{Stage: &Stage{}}
	for _, a := range c.file.Args {
		c.arg(first, a)
	}
	if len(c.file.Args) > 0 {
		c.line(graph.Pos{}, "")
	}
}

// arg declares a build argument.
func (c *converter) arg(st *stageState, a Pair) {
	text := "ARG " + a.Key.Value
	if a.Value.Value != "" {
		w, ok := c.word(st, a.Value)
		if !ok {
			return
		}
		text += "=" + w
	}
	c.line(a.Key.Pos, text)
}

// word writes an expanded text as a word.
func (c *converter) word(st *stageState, s String) (string, bool) {
	parts, err := parseText(s.Value)
	if err != nil {
		c.Fail(s.Pos, err)
		return "", false
	}
	c.needNewline(st, parts)
	return dockerWord(parts), true
}

// literal writes a text in which nothing is expanded as a word.
func (c *converter) literal(st *stageState, s string) string {
	parts := literalParts(s)
	c.needNewline(st, parts)
	return dockerWord(parts)
}

// needNewline declares the argument for line feeds before the instruction that is about to use it.
func (c *converter) needNewline(st *stageState, parts []part) {
	if !hasNewline(parts) || st.newline {
		return
	}
	st.newline = true
	c.out.BuildArgs = map[string]string{newlineArg: "\n"}
	c.line(graph.Pos{}, "ARG "+newlineArg)
}

// stages writes all stages, and what the file says at its top after the last one.
func (c *converter) stages() {
	f := c.file
	docker := dockerNames(f, c.index)
	for i := range f.Stages {
		s := &f.Stages[i]
		c.out.Stages = append(c.out.Stages, StageName{Name: s.Name, Dockerfile: docker[i], Pos: s.Pos})
	}
	for i := range f.Stages {
		if i > 0 {
			c.line(graph.Pos{}, "")
		}
		st := &stageState{Stage: &f.Stages[i], loc: "stage '" + f.Stages[i].Name + "'", docker: docker[i]}
		c.stage(st)
		if i == len(f.Stages)-1 {
			c.head(st, &f.Meta)
			c.tail(st, &f.Meta)
		}
	}
}

// stage writes one stage.
func (c *converter) stage(st *stageState) {
	st.scope = c.newScope(st)
	st.windows = c.isWindows()
	st.drives = st.windows || c.isNested()
	c.from(st)
	for _, a := range st.Args {
		c.arg(st, a)
		st.scope.arg(a)
	}
	c.head(st, &st.Meta)
	for i := range st.Steps {
		c.step(st, &st.Steps[i])
	}
	c.tail(st, &st.Meta)
	c.done = append(c.done, st)
}

// from writes the FROM of a stage.
func (c *converter) from(st *stageState) {
	pos, base := st.Pos, ""
	switch {
	case st.Build != nil:
		pos = st.Build.Pos
		base = c.nested(st)
	case c.baseStage(st) != nil:
		base = c.baseStage(st).docker
	case strings.EqualFold(st.Base.Value, "scratch"):
		base = "scratch"
	default:
		base = st.Base.Value
		c.declared(st.Base)
	}
	if st.Base != nil {
		pos = st.Base.Pos
	}
	text := "FROM "
	if p := c.platformFlag(st); p != "" {
		text += "--platform=" + p + " "
	}
	text += base
	if st.docker != "" {
		text += " AS " + st.docker
		pos = graph.Pos{File: pos.File, Line: st.Pos.Line, Column: st.Pos.Column, EndLine: max(pos.Line, st.Pos.Line)}
		if pos.EndLine == pos.Line {
			pos.EndLine = 0
		}
	}
	c.line(pos, text)
}

// baseStage is the stage that st is based on, nil if that is an image.
func (c *converter) baseStage(st *stageState) *stageState {
	if st.Base == nil {
		return nil
	}
	if i := c.index.named(st.Base.Value); i >= 0 && i < len(c.done) {
		return c.done[i]
	}
	return nil
}

// platformFlag is the platform that the FROM of a stage names, "" for the build's.
func (c *converter) platformFlag(st *stageState) string {
	if c.baseStage(st) != nil {
		return "" // it is that of the base
	}
	platform, os := st.Platform, st.OS
	if platform == nil && os == nil {
		if c.opt.Platform != "" {
			return ""
		}
		platform, os = c.file.Platform, c.file.OS
	}
	switch {
	case platform != nil:
		return platform.Value
	case os != nil && os.Value == "windows":
		return "windows/$TARGETARCH"
	}
	return ""
}

var baseVariable = lazyregexp.New(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)

// declared notes variables of a base that nothing declares: they would be empty.
func (c *converter) declared(base *String) {
	for _, m := range baseVariable().FindAllStringSubmatch(base.Value, -1) {
		name := m[1] + m[2]
		var known []string
		for _, a := range c.file.Args {
			known = append(known, a.Key.Value)
		}
		if !slices.Contains(append(known, predefined()...), name) {
			c.Errorf(base.Pos, "base uses %s, which is not declared%s: add it to the args of the file", m[0], yamlfile.DidYouMean(name, known))
		}
	}
}

// predefined are the arguments that every FROM can use.
func predefined() []string {
	return []string{
		"BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT", "BUILDOSVERSION",
		"TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "TARGETOSVERSION", "TARGETSTAGE",
	}
}

// nested notes the nested build of a stage and returns the name of its context.
func (c *converter) nested(st *stageState) string {
	b := st.Build
	n := Nested{Stage: st.Name, Pos: b.Pos, Context: "zlayer-nested-toplevel"}
	if st.docker != "" {
		n.Context = "zlayer-nested-" + contextName(st.docker, len(c.out.Builds))
	}
	for _, s := range []struct {
		from *String
		to   *string
	}{{b.Dir, &n.Dir}, {b.File, &n.File}, {b.Target, &n.Target}} {
		if s.from != nil {
			*s.to = s.from.Value
		}
	}
	for _, a := range b.Args {
		if n.Args == nil {
			n.Args = map[string]string{}
		}
		v, _, err := evaluate(a.Value.Value, c.args)
		if err != nil {
			c.Fail(a.Value.Pos, err)
		}
		n.Args[a.Key.Value] = v
	}
	c.out.Builds = append(c.out.Builds, n)
	return n.Context
}

// globals are the values of the file's arguments.
func (c *converter) globals() map[string]string {
	vars := map[string]string{}
	for _, a := range c.file.Args {
		if v, given := c.opt.BuildArgs[a.Key.Value]; given {
			vars[a.Key.Value] = v
		} else if a.Value.Value != "" {
			if v, unknown, err := evaluate(a.Value.Value, vars); err == nil && unknown == "" {
				vars[a.Key.Value] = v
			}
		}
	}
	return vars
}

// wasmWarnings says what a WASM build does not look at.
func (c *converter) wasmWarnings() {
	for _, name := range slices.Sorted(maps.Keys(c.file.keys)) {
		switch name {
		case "version", "wasm", "labels", "runtime", "platform", "os":
		default:
			c.warn(c.file.keys[name], "%s has no meaning in a wasm file", name)
		}
	}
}

func (c *converter) warn(pos graph.Pos, format string, args ...any) {
	c.out.Warnings = append(c.out.Warnings, c.Mistake(pos, fmt.Errorf(format, args...)))
}
