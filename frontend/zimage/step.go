package zimage

import (
	"path"
	"strings"
)

// step writes one step.
func (c *converter) step(st *stageState, s *Step) {
	switch {
	case s.Run != nil:
		c.run(st, s)
	case s.Copy != nil:
		c.files(st, s, "COPY", s.Copy)
	case s.Add != nil:
		c.files(st, s, "ADD", s.Add)
	case s.Env != nil:
		c.env(st, s.Env)
	case s.Workdir != nil:
		c.workdir(st, s.Workdir)
	case s.User != nil:
		c.user(st, s.User)
	}
}

// files writes a COPY or ADD.
func (c *converter) files(st *stageState, s *Step, instruction string, sources []String) {
	text := instruction
	var from *stageState
	if s.From != nil && instruction == "COPY" {
		ref := s.From.Value
		if from = c.finished(ref); from != nil {
			ref = from.docker
		}
		text += c.flag("from", *s.From, ref)
	}
	if s.Owner != nil {
		text += c.flag("chown", *s.Owner, escapeInner(s.Owner.Value))
	}
	if s.Chmod != nil {
		text += c.flag("chmod", *s.Chmod, s.Chmod.Value)
	}
	var words []string
	for _, src := range sources {
		if from != nil {
			var ok bool
			if src, ok = c.inStage(st, from, src); !ok {
				continue
			}
		}
		if w, ok := c.word(st, src); ok {
			words = append(words, w)
		}
	}
	if w, ok := c.word(st, *s.To); ok {
		words = append(words, w)
	}
	c.line(s.Pos, text+" "+wordList(words))
}

// finished is the stage that a from names, nil if that is an image.
func (c *converter) finished(ref string) *stageState {
	if i := c.index.find(ref); i >= 0 && i < len(c.done) {
		return c.done[i]
	}
	return nil
}

// inStage makes a source that is copied from a stage absolute.
func (c *converter) inStage(st, from *stageState, src String) (String, bool) {
	if absolute(src.Value, from.drives) {
		return src, true
	}
	if strings.HasPrefix(src.Value, "$") {
		v, unknown, err := evaluate(src.Value, st.scope.vars)
		switch {
		case err != nil:
			c.Fail(src.Pos, err)
			return src, false
		case unknown != "":
			c.Errorf(src.Pos, "whether %q is absolute depends on $%s, which is known only when it is built: begin it with / or ./", src.Value, unknown)
			return src, false
		case absolute(v, from.drives):
			return src, true
		}
	}
	if why := from.scope.dirUnknown; why != "" {
		c.Errorf(src.Pos, "%q is relative to the working directory of %s, and %s: write an absolute path", src.Value, from.loc, why)
		return src, false
	}
	dir := from.scope.dir
	if strings.Contains(src.Value, "$") {
		src.Value = strings.TrimSuffix(escapeText(dir), "/") + "/" + strings.TrimPrefix(src.Value, "./")
	} else {
		src.Value = escapeText(path.Join(dir, src.Value))
	}
	return src, true
}

// absolute reports whether a path does not depend on a working directory.
func absolute(p string, windows bool) bool {
	if windows && (strings.HasPrefix(p, `\`) || len(p) > 1 && p[1] == ':') {
		return true
	}
	return strings.HasPrefix(p, "/")
}

// wordList writes words as arguments of an instruction: apart by blanks if none has quotes. In the
// JSON form a word in quotes is no heredoc either, whatever it looks like.
func wordList(words []string) string {
	for _, w := range words {
		if strings.ContainsAny(w, "\"' \t") {
			return jsonList(words)
		}
	}
	return strings.Join(words, " ")
}

// flag writes a flag of an instruction. BuildKit takes flags apart byte by byte.
func (c *converter) flag(name string, s String, value string) string {
	for i := range len(value) {
		if value[i] >= 0x80 || value[i] < ' ' {
			c.Errorf(s.Pos, "%q: BuildKit takes ASCII only here", s.Value)
			return ""
		}
	}
	return " --" + name + "=" + flagEscaper.Replace(value)
}

// flagEscaper escapes for two readers: the one that takes flags apart, and the one that looks for
// heredocs, for which a dollar sign is more than itself.
var flagEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`, "$", `\$`, " ", `\ `, "\t", "\\\t")

// escapeInner keeps BuildKit from expanding what it expands without quotes around.
func escapeInner(s string) string { return innerEscaper.Replace(s) }
