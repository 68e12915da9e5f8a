package zimage

import (
	"maps"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// scope is what is known, without building, about variables and the working directory at a point
// of a stage.
type scope struct {
	vars      map[string]string // those whose value is certain
	shared    bool              // with the stage this one is based on, so far
	buildArgs map[string]string
	globals   map[string]string
	dir       string // absolute, as it is on Linux and in sources of COPY
	// dirUnknown says why dir is not known, "" if it is.
	dirUnknown string
	// image is the base image whose working directory is still the one of the stage, "" for none.
	image string
}

// newScope is the scope at the beginning of a stage.
func (c *converter) newScope(st *stageState) *scope {
	if b := c.baseStage(st); b != nil {
		s := *b.scope
		s.shared = true
		return &s
	}
	s := &scope{vars: map[string]string{}, buildArgs: c.opt.BuildArgs, globals: c.args, dir: "/"}
	switch {
	case st.Build != nil:
		s.image = "the result of a nested build"
	case !strings.EqualFold(st.Base.Value, "scratch"):
		s.image = st.Base.Value
		if v, unknown, err := evaluate(s.image, s.globals); err == nil && unknown == "" {
			s.image = v
		}
	}
	return s
}

// own makes the variables those of the stage alone.
func (s *scope) own() {
	if s.shared {
		s.vars, s.shared = maps.Clone(s.vars), false
	}
}

// arg follows a declaration.
func (s *scope) arg(a Pair) {
	s.own()
	name := a.Key.Value
	v, given := s.buildArgs[name]
	if !given && a.Value.Value != "" {
		var unknown string
		var err error
		v, unknown, err = evaluate(a.Value.Value, s.vars)
		if err != nil || unknown != "" {
			delete(s.vars, name)
			return
		}
		given = true
	}
	if !given {
		if v, given = s.globals[name]; !given {
			return
		}
	}
	s.vars[name] = v
}

// env follows an instruction that sets variables.
func (s *scope) env(env []Pair) {
	if len(env) == 0 {
		return
	}
	s.own()
	before := maps.Clone(s.vars)
	for _, p := range env {
		if v, unknown, err := evaluate(p.Value.Value, before); err == nil && unknown == "" {
			s.vars[p.Key.Value] = v
		} else {
			delete(s.vars, p.Key.Value)
		}
	}
}

// chdir follows a WORKDIR.
func (s *scope) chdir(c *converter, st *stageState, dir *String) {
	v, unknown, err := evaluate(dir.Value, s.vars)
	if err != nil {
		return // reported where it is written
	}
	if unknown != "" {
		s.dirUnknown, s.image = "its workdir contains $"+unknown+", which is known only when it is built", ""
		return
	}
	if st.windows {
		v = strings.ReplaceAll(v, `\`, "/")
		if len(v) > 1 && v[1] == ':' {
			v = v[2:]
		}
	}
	switch {
	case path.IsAbs(v):
		s.dir, s.dirUnknown = path.Clean(v), ""
	case s.image != "":
		base, ok := "", false
		if c.opt.ImageWorkdir != nil {
			base, ok = c.opt.ImageWorkdir(s.image)
		}
		if !ok {
			s.dirUnknown = "its workdir " + v + " is relative to that of " + s.image + ", which is not known here"
		}
		s.dir = path.Join("/", base, v)
	case s.dirUnknown == "":
		s.dir = path.Join(s.dir, v)
	}
	s.image = ""
}

// evaluate expands a text. unknown is a variable whose value is not certain, "" if all are.
func evaluate(text string, vars map[string]string) (value, unknown string, err error) {
	parts, err := parseText(text)
	if err != nil {
		return "", "", err
	}
	for _, n := range names(parts) {
		if _, ok := vars[n]; !ok {
			unknown = n
		}
	}
	env := lookup(vars)
	if hasNewline(parts) {
		env = lookup(maps.Clone(vars))
		env[newlineArg] = "\n"
	}
	value, _, err = shell.NewLex('\\').ProcessWord(dockerWord(parts), env)
	return value, unknown, err
}

// lookup is a map of variables as BuildKit's expansion wants it.
type lookup map[string]string

// Get implements shell.EnvGetter.
func (l lookup) Get(name string) (string, bool) {
	v, ok := l[name]
	return v, ok
}

// Keys implements shell.EnvGetter.
func (l lookup) Keys() []string {
	keys := make([]string, 0, len(l))
	for k := range l {
		keys = append(keys, k)
	}
	return keys
}
