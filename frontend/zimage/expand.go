package zimage

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// newlineArg is the build argument that holds a line feed. The values of ENV, LABEL, ARG, USER and
// WORKDIR cannot contain one in a Dockerfile, in no way of writing; what has one takes it from here.
const newlineArg = "ZLAYER_NEWLINE"

const newlineRef = "${" + newlineArg + ":?}" // fails where the argument is not given

// part is a piece of an expanded text: a literal, or a reference to a variable.
type part struct {
	literal string
	name    string // of the variable; "" for a literal
	braces  bool   // written with braces
	op      string // :- - :+ + :? ? or a pattern operator, "" for none
	word    []part // what follows :- and the like
	pattern string // what follows # % and /, as it is
}

// The text of a ZImagefile expands variables as $NAME and ${NAME}, with the modifiers of the shell.
// $$ and \$ are a dollar sign; of backslashes before a $ every two are one. All else is itself:
// quotes and other backslashes have no meaning.

// parseText takes an expanded text apart.
func parseText(s string) ([]part, error) {
	parts, rest, err := scanText(s, false)
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, fmt.Errorf("unexpected %q", rest)
	}
	return parts, nil
}

// scanText reads up to the end, or up to the brace that closes what it is in.
func scanText(s string, inner bool) (parts []part, rest string, err error) {
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			parts = append(parts, part{literal: lit.String()})
			lit.Reset()
		}
	}
	for s != "" {
		switch {
		case inner && s[0] == '}':
			flush()
			return parts, s, nil
		case inner && strings.HasPrefix(s, `\}`):
			lit.WriteByte('}')
			s = s[2:]
		case s[0] == '\\':
			n := len(s) - len(strings.TrimLeft(s, `\`))
			if n == len(s) || s[n] != '$' {
				lit.WriteString(s[:n])
				s = s[n:]
				break
			}
			lit.WriteString(s[:n/2])
			s = s[n:]
			if n%2 == 1 {
				lit.WriteByte('$')
				s = s[1:]
			}
		case strings.HasPrefix(s, "$$"):
			lit.WriteByte('$')
			s = s[2:]
		case s[0] == '$':
			p, after, ok, err := scanVariable(s)
			if err != nil {
				return nil, "", err
			}
			if !ok {
				lit.WriteByte('$')
				s = s[1:]
				break
			}
			flush()
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

var (
	variableStart = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*`)
	safePattern   = lazyregexp.New(`^[A-Za-z0-9_.,:/*?@+= -]*$`)
)

// scanVariable reads a reference; ok is false if the $ is just that.
func scanVariable(s string) (p part, rest string, ok bool, err error) {
	if !strings.HasPrefix(s, "${") {
		name := variableStart().FindString(s[1:])
		return part{name: name}, s[1+len(name):], name != "", nil
	}
	if !strings.Contains(s, "}") {
		return part{}, "", false, nil // not terminated: text
	}
	name := variableStart().FindString(s[2:])
	after := s[2+len(name):]
	bad := fmt.Errorf("%q is no variable that can be expanded: write \\$ for a dollar sign", s[:strings.Index(s, "}")+1])
	if name == "" {
		return part{}, "", false, bad
	}
	p = part{name: name, braces: true}
	if after[0] == '}' {
		return p, after[1:], true, nil
	}
	for _, op := range []string{":-", ":+", ":?", "-", "+", "?"} {
		if word, has := strings.CutPrefix(after, op); has {
			p.op = op
			if p.word, rest, err = scanText(word, true); err != nil {
				return part{}, "", false, err
			}
			if rest == "" {
				return part{}, "", false, bad
			}
			return p, rest[1:], true, nil
		}
	}
	for _, op := range []string{"##", "#", "%%", "%", "//", "/"} {
		if word, has := strings.CutPrefix(after, op); has {
			end := strings.IndexByte(word, '}')
			if !safePattern().MatchString(word[:end]) || op[0] == '/' && strings.Count(word[:end], "/") != 1 {
				return part{}, "", false, fmt.Errorf("the pattern in %q is not supported: it may have letters, digits, * and ?", s[:strings.Index(s, "}")+1])
			}
			p.op, p.pattern = op, word[:end]
			return p, word[end+1:], true, nil
		}
	}
	return part{}, "", false, bad
}

// names lists the variables that the parts name.
func names(parts []part) []string {
	var out []string
	for _, p := range parts {
		if p.name != "" {
			out = append(append(out, p.name), names(p.word)...)
		}
	}
	return out
}

// plain reports whether a literal needs no quotes in a Dockerfile's word.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("_./:@%+,=^~*?-", r))
	})
}

// dockerWord writes the parts as one word of a Dockerfile, which BuildKit expands to what they say.
func dockerWord(parts []part) string {
	quote := len(parts) == 0 || strings.HasPrefix(parts[0].literal, "-")
	for _, p := range parts {
		quote = quote || !plain(p.literal) || p.word != nil || strings.Contains(p.pattern, " ")
	}
	var b strings.Builder
	for i, p := range parts {
		switch {
		case p.name != "":
			b.WriteString(p.reference(parts[i+1:]))
		case quote:
			b.WriteString(replaceNewlines(quoteEscaper.Replace(p.literal)))
		default:
			b.WriteString(p.literal)
		}
	}
	if quote {
		return `"` + b.String() + `"`
	}
	return b.String()
}

var (
	quoteEscaper = strings.NewReplacer(`"`, `\"`, `$`, `\$`, `\`, `\\`)
	innerEscaper = strings.NewReplacer(`"`, `\"`, `'`, `\'`, `$`, `\$`, `\`, `\\`, `}`, `\}`)
)

func replaceNewlines(s string) string { return strings.ReplaceAll(s, "\n", newlineRef) }

// reference writes a variable. Without braces, BuildKit takes letters of any alphabet for part of
// the name.
func (p part) reference(next []part) string {
	if !p.braces {
		if len(next) > 0 && next[0].literal != "" {
			if r := []rune(next[0].literal)[0]; r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
				return "${" + p.name + "}"
			}
		}
		return "$" + p.name
	}
	var b strings.Builder
	b.WriteString("${" + p.name + p.op + p.pattern)
	for i, w := range p.word {
		if w.name != "" {
			b.WriteString(w.reference(p.word[i+1:]))
		} else {
			b.WriteString(replaceNewlines(innerEscaper.Replace(w.literal)))
		}
	}
	b.WriteString("}")
	return b.String()
}

// hasNewline reports whether a literal among the parts has a line feed.
func hasNewline(parts []part) bool {
	for _, p := range parts {
		if strings.Contains(p.literal, "\n") || hasNewline(p.word) {
			return true
		}
	}
	return false
}

// literalParts is a text without variables.
func literalParts(s string) []part {
	if s == "" {
		return nil
	}
	return []part{{literal: s}}
}
