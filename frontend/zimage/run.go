package zimage

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// run writes a RUN.
func (c *converter) run(st *stageState, s *Step) {
	flags := ""
	for i := range s.Cache {
		flags += c.mount("cache", &s.Cache[i])
	}
	for i := range s.Mounts {
		flags += c.mount(s.Mounts[i].Type.Value, &s.Mounts[i])
	}
	for i := range s.Secrets {
		flags += c.mount("secret", &s.Secrets[i])
	}
	for i := range s.SSH {
		flags += c.mount("ssh", &s.SSH[i])
	}
	if s.Network != nil && s.Network.Value != "default" {
		flags += c.flag("network", *s.Network, s.Network.Value)
	}
	if s.Security != nil && s.Security.Value != "sandbox" {
		flags += c.flag("security", *s.Security, s.Security.Value)
	}
	if len(s.Env) > 0 && st.windows {
		c.Fail(s.at("env", s.Pos), errRunEnv)
		return
	}
	switch {
	case s.Run.Exec != nil:
		argv := s.Run.Exec
		if len(s.Env) > 0 {
			argv = withEnv(s.Env, argv)
		}
		c.line(s.Pos, "RUN"+flags+" "+jsonList(argv))
	case len(s.Env) > 0 && !exportable(s.Env):
		c.line(s.Pos, "RUN"+flags+" "+jsonList(withEnv(s.Env, []string{"/bin/sh", "-c", s.Run.Shell})))
	default:
		c.script(s, "RUN"+flags+" ", exports(s.Env))
	}
}

// script writes a text for the shell, after a prelude. A text of one line follows the instruction
// if nothing in it can be taken for something else; others become heredocs, in which nothing is.
func (c *converter) script(s *Step, instruction, prelude string) {
	body := strings.TrimRight(s.Run.Shell, "\n")
	if !strings.Contains(body, "\n") {
		body = trimBlanks(body)
	}
	if one := prelude + body; fitsLine(one) {
		c.line(s.Pos, instruction+one)
		return
	}
	text := prelude + s.Run.Shell
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	tooLong := slices.ContainsFunc(lines, func(l string) bool { return len(l) > maxLine })
	if tooLong || strings.HasSuffix(body, `\`) {
		// A heredoc would end the last line, which the backslash would then join to nothing.
		c.line(s.Pos, instruction+jsonList([]string{"/bin/sh", "-c", text}))
		return
	}
	c.heredoc(s, instruction, lines, strings.Count(prelude, "\n"))
}

// heredoc writes a text of several lines, the first of which do not stand in the file.
func (c *converter) heredoc(s *Step, instruction string, lines []string, own int) {
	if strings.HasPrefix(lines[0], "#!") {
		// BuildKit would run the text by the program that this names. It is a text for the shell.
		lines, own = append([]string{""}, lines...), own+1
	}
	end := "EOF"
	for n := 2; slices.ContainsFunc(lines, func(l string) bool { return strings.TrimRight(l, "\r") == end }); n++ {
		end = "EOF" + strconv.Itoa(n)
	}
	raw := func(pos graph.Pos, text string) {
		c.out.Text = append(append(c.out.Text, text...), '\n')
		c.out.Lines = append(c.out.Lines, c.clampKnown(pos))
	}
	raw(s.Pos, instruction+"<<"+end)
	for i, l := range lines {
		pos := s.Pos
		if s.Run.block && i >= own {
			pos = graph.Pos{File: pos.File, Line: s.Run.Pos.Line + 1 + i - own}
		}
		raw(pos, l)
	}
	raw(s.Pos, end)
}

// fitsLine reports whether a text can follow RUN as it is.
func fitsLine(s string) bool {
	return singleLine(s) && !strings.Contains(s, "<<") && !strings.HasPrefix(s, "--")
}

// singleLine reports whether a text can be the rest of a line, and is a text for the shell there.
func singleLine(s string) bool {
	return s == strings.TrimSpace(s) && !strings.ContainsAny(s, "\n\r") && !strings.HasSuffix(s, `\`) && !looksLikeJSON(s)
}

// trimBlanks removes blanks around a text for the shell, unless one of them is escaped.
func trimBlanks(s string) string {
	trimmed := strings.Trim(s, " \t\n")
	if strings.HasSuffix(trimmed, `\`) {
		return s
	}
	return trimmed
}

// looksLikeJSON reports whether BuildKit would take a text for the exec form, or for a bad one.
func looksLikeJSON(s string) bool {
	var list []any
	return strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &list) == nil
}

// oneLineCommand writes a command line where there are no heredocs. What cannot follow the
// instruction as it is becomes the exec form of the default shell. flags says that the instruction
// takes what begins with two dashes for its own.
func oneLineCommand(cmd *Command, flags bool) string {
	if cmd.Exec != nil {
		return jsonList(cmd.Exec)
	}
	text := strings.TrimRight(cmd.Shell, "\n")
	text = trimBlanks(text)
	if singleLine(text) && !(flags && strings.HasPrefix(text, "--")) {
		return text
	}
	return jsonList([]string{"/bin/sh", "-c", text})
}

var shellName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)

// exportable reports whether the shell itself can set the variables. Some it would refuse to set,
// or take as its own settings.
func exportable(env []Pair) bool {
	for _, p := range env {
		if !shellName().MatchString(p.Key.Value) {
			return false
		}
		switch p.Key.Value {
		case "IFS", "UID", "EUID", "GID", "PPID", "SHELLOPTS", "BASHOPTS", "ENV", "BASH_ENV", "POSIXLY_CORRECT",
			"PWD", "OLDPWD", "OPTIND", "LINENO", "RANDOM", "SECONDS", "BASH_VERSINFO", "BASHPID", "PS4", "_":
			return false
		}
	}
	return true
}

// exports sets the variables for the rest of a script.
func exports(env []Pair) string {
	if len(env) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("export")
	for _, p := range env {
		b.WriteString(" " + p.Key.Value + "=" + shellQuote(p.Value.Value))
	}
	b.WriteString("; ")
	return b.String()
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// withEnv runs a command by env(1), which sets the variables.
func withEnv(env []Pair, argv []string) []string {
	out := []string{"env"}
	for _, p := range env {
		out = append(out, p.Key.Value+"="+p.Value.Value)
	}
	return append(out, argv...)
}

// mount writes a mount. A cache without sharing is locked: two commands that do not expect each
// other never use it at once.
func (c *converter) mount(typ string, m *Mount) string {
	fields := []string{"type=" + typ}
	add := func(name string, s *String) {
		if s != nil {
			fields = append(fields, name+"="+escapeInner(s.Value))
		}
	}
	add("id", m.ID)
	if m.From != nil {
		ref := m.From.Value
		if from := c.finished(ref); from != nil {
			ref = from.docker
		}
		fields = append(fields, "from="+ref)
	}
	add("source", m.Source)
	add("target", m.Target)
	add("env", m.Env)
	switch {
	case m.Sharing != nil:
		add("sharing", m.Sharing)
	case typ == "cache":
		fields = append(fields, "sharing=locked")
	}
	add("size", m.Size)
	for _, b := range []struct {
		name string
		set  bool
	}{{"readonly", m.ReadOnly}, {"readwrite", m.ReadWrite}, {"required", m.Required}} {
		if b.set {
			fields = append(fields, b.name)
		}
	}
	add("mode", m.Mode)
	add("uid", m.UID)
	add("gid", m.GID)
	for i, f := range fields {
		if strings.ContainsAny(f, ",\"") || strings.TrimSpace(f) != f {
			fields[i] = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
	}
	return c.flag("mount", String{Value: strings.Join(fields, ","), Pos: m.Pos}, strings.Join(fields, ","))
}

// jsonList writes the exec form.
func jsonList(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(w); err != nil {
			panic("zimage: encoding a string: " + err.Error())
		}
		out[i] = strings.TrimSuffix(b.String(), "\n")
	}
	return "[" + strings.Join(out, ", ") + "]"
}
