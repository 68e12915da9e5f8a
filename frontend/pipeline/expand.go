package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// Texts of a pipeline expand ${NAME}, ${NAME:-word}, ${NAME:+word} and ${NAME:?word}, where a word
// is such a text again. $$ is a dollar sign. $NAME without braces is left alone: it belongs to
// shells, Makefiles and Dockerfiles. What a variable holds is not expanded again.

// part is a piece of a text: a literal, or a reference to a variable.
type part struct {
	literal string
	name    string // of the variable; "" for a literal
	op      byte   // '-', '+' or '?', 0 for none
	word    []part
}

// maxNesting is how deeply words may be nested in words.
const maxNesting = 20

var identifier = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*`)

// variableFault finds fault with the name of a variable.
func variableFault(name string) string {
	if name == "" || identifier().FindString(name) != name {
		return "is no name of a variable: it must have letters, digits and _ only, and not begin with a digit"
	}
	return ""
}

// scan takes a text apart.
func scan(s string) ([]part, error) {
	parts, _, err := scanWord(s, 0)
	return parts, err
}

// scanWord reads up to the end or, within a reference, up to the brace that closes it.
func scanWord(s string, depth int) (parts []part, rest string, err error) {
	if depth > maxNesting {
		return nil, "", fmt.Errorf("variables are nested more than %d levels deep", maxNesting)
	}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			parts = append(parts, part{literal: lit.String()})
			lit.Reset()
		}
	}
	for s != "" {
		i := strings.IndexAny(s, "$}")
		if i < 0 {
			i = len(s)
		}
		lit.WriteString(s[:i])
		switch s = s[i:]; {
		case s == "":
		case s[0] == '}' && depth > 0:
			flush()
			return parts, s, nil
		case strings.HasPrefix(s, "$$"):
			lit.WriteByte('$')
			s = s[2:]
		case strings.HasPrefix(s, "${"):
			flush()
			p, after, err := scanReference(s, depth)
			if err != nil {
				return nil, "", err
			}
			parts = append(parts, p)
			s = after
		default:
			lit.WriteByte(s[0])
			s = s[1:]
		}
	}
	flush()
	return parts, "", nil
}

// scanReference reads a reference, which s begins with.
func scanReference(s string, depth int) (part, string, error) {
	p := part{name: identifier().FindString(s[2:])}
	after := s[2+len(p.name):]
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return p, "", fmt.Errorf("%q is not closed: write }, or $$ for a dollar sign", shorten(s))
	}
	if p.name != "" && after[0] == '}' {
		return p, after[1:], nil
	}
	if p.name != "" && len(after) > 1 && after[0] == ':' && strings.IndexByte("-+?", after[1]) >= 0 {
		p.op = after[1]
		word, rest, err := scanWord(after[2:], depth+1)
		if err != nil {
			return p, "", err
		}
		if rest == "" {
			return p, "", fmt.Errorf("%q is not closed: write }, or $$ for a dollar sign", shorten(s))
		}
		p.word = word
		return p, rest[1:], nil
	}
	return p, "", fmt.Errorf("%q is no variable: write ${NAME}, ${NAME:-default}, ${NAME:+alternative} or ${NAME:?message}, or $$ for a dollar sign", shorten(s[:end+1]))
}

// shorten keeps messages short.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return s
}

// literal writes a text so that it expands to itself.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// value is what a variable holds.
type value struct {
	text   string
	items  []string // of a list
	isList bool
	secret bool
	// broken: there is a mistake, which has been noted.
	broken bool
}

// joined is the value as one text.
func (v value) joined() string {
	if v.isList {
		return strings.Join(v.items, ",")
	}
	return v.text
}

// Bounds of expansion, for files that mean harm.
const (
	maxExpanded = 1 << 16  // bytes of a text
	maxTotal    = 64 << 20 // bytes of all texts
)

// scope is what a text can refer to.
type scope struct {
	problems *problems
	// look finds a variable.
	look func(name string) (value, bool)
	// names lists the variables, for suggestions.
	names func() []string
	// secrets says that secret variables may be used.
	secrets bool
	// hint, if set, says more about a variable that is not known.
	hint func(name string) string
}

// expand gives the value of a text. It reports false after noting a mistake, or where one had been
// noted before.
func (s *scope) expand(str yamlfile.String) (string, bool) {
	if !strings.Contains(str.Value, "$") {
		return str.Value, true
	}
	parts, err := scan(str.Value)
	if err != nil {
		s.problems.fail(str.Pos, err)
		return "", false
	}
	var b strings.Builder
	if !s.write(&b, str, parts) {
		return "", false
	}
	if s.problems.expanded += b.Len(); s.problems.expanded > maxTotal {
		if !s.problems.exhausted {
			s.problems.exhausted = true
			s.problems.errorf(str.Pos, "the texts of the pipeline are longer than %d bytes when variables are expanded", maxTotal)
		}
		return "", false
	}
	return b.String(), true
}

// write expands the parts of a text.
func (s *scope) write(b *strings.Builder, str yamlfile.String, parts []part) bool {
	ok := true
	for _, p := range parts {
		if p.name == "" {
			b.WriteString(p.literal)
			continue
		}
		v, good := s.lookUp(str, p.name)
		if !good {
			ok = false
			continue
		}
		empty := v.joined() == ""
		switch {
		case p.op == '+':
			if !empty {
				ok = s.write(b, str, p.word) && ok
			}
		case empty && p.op == '-':
			ok = s.write(b, str, p.word) && ok
		case empty && p.op == '?':
			s.demand(str, p)
			ok = false
		case v.isList:
			s.problems.errorf(str.Pos, "variable %s is a list: it can stand for items of a list, not in the middle of a text", p.name)
			ok = false
		default:
			b.WriteString(v.text)
		}
		if b.Len() > maxExpanded {
			s.problems.errorf(str.Pos, "the text is longer than %d bytes when variables are expanded", maxExpanded)
			return false
		}
	}
	return ok
}

// demand notes that the variable of ${NAME:?message} has no value.
func (s *scope) demand(str yamlfile.String, p part) {
	var message strings.Builder
	if !s.write(&message, str, p.word) {
		return
	}
	if message.Len() == 0 {
		message.WriteString("it must not be empty")
	}
	s.problems.errorf(str.Pos, "variable %s has no value: %s", p.name, message.String())
}

func (s *scope) lookUp(str yamlfile.String, name string) (value, bool) {
	v, known := s.look(name)
	switch {
	case !known:
		more := yamlfile.DidYouMean(name, s.names())
		if s.hint != nil {
			if h := s.hint(name); h != "" {
				more = h
			}
		}
		if more == "" {
			more = ": declare it under vars, or write $${" + name + "} if it is no variable of the pipeline"
		}
		s.problems.errorf(str.Pos, "there is no variable %s%s", name, more)
		return v, false
	case v.broken:
		return v, false
	case v.secret && !s.secrets:
		s.problems.errorf(str.Pos, "variable %s is secret: it can be used as value of an entry of secrets only, anywhere else it would show", name)
		return v, false
	}
	return v, true
}

// items expands the items of a list. An item that is nothing but a list variable stands for its items.
func (s *scope) items(items []yamlfile.String) ([]yamlfile.String, bool) {
	ok := true
	var out []yamlfile.String
	for _, it := range items {
		if l, isList := s.spliced(it); isList {
			for _, t := range l {
				out = append(out, yamlfile.String{Value: t, Pos: it.Pos})
			}
			continue
		}
		t, good := s.expand(it)
		ok = ok && good
		if good {
			out = append(out, yamlfile.String{Value: t, Pos: it.Pos})
		}
	}
	return out, ok
}

// list is items without those that have no text, which is how a text is left out on a condition.
func (s *scope) list(items []yamlfile.String) ([]yamlfile.String, bool) {
	out, ok := s.items(items)
	return slices.DeleteFunc(out, func(t yamlfile.String) bool { return t.Value == "" }), ok
}

// spliced gives the items of the list variable that a text consists of.
func (s *scope) spliced(str yamlfile.String) ([]string, bool) {
	if !strings.HasPrefix(str.Value, "${") {
		return nil, false
	}
	parts, err := scan(str.Value)
	if err != nil || len(parts) != 1 || parts[0].name == "" || parts[0].op == '+' {
		return nil, false
	}
	v, known := s.look(parts[0].name)
	if !known || v.broken || v.secret || !v.isList || len(v.items) == 0 && parts[0].op != 0 {
		return nil, false
	}
	return v.items, true
}
