package zimage

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// escapeText writes a literal as an expanded text of a ZImagefile.
func escapeText(s string) string {
	text, err := spell(literalParts(s), false)
	if err != nil {
		panic("zimage: " + err.Error()) // only parts in braces can fail
	}
	return text
}

// spell is the opposite of parseText.
func spell(parts []part, inner bool) (string, error) {
	var b strings.Builder
	for i, p := range parts {
		if p.name == "" {
			lit := p.literal
			if inner {
				if i == len(parts)-1 && strings.HasSuffix(lit, `\`) || strings.Contains(lit, `\}`) {
					return "", errors.New(`a \ before a closing brace cannot be written`)
				}
				lit = strings.ReplaceAll(lit, "}", `\}`)
			}
			b.WriteString(escapeLiteral(lit, i+1 < len(parts)))
			continue
		}
		if !p.braces {
			next := ""
			if i+1 < len(parts) {
				next = parts[i+1].literal
			}
			if next == "" || !isAlnum(next[0]) && next[0] != '_' {
				b.WriteString("$" + p.name)
				continue
			}
		}
		word, err := spell(p.word, true)
		if err != nil {
			return "", err
		}
		b.WriteString("${" + p.name + p.op + p.pattern + word + "}")
	}
	return b.String(), nil
}

// escapeLiteral escapes dollar signs, and the backslashes before one. variable says that one
// follows the text.
func escapeLiteral(s string, variable bool) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := len(s[i:]) - len(strings.TrimLeft(s[i:], `\`))
		if n > 0 {
			b.WriteString(s[i : i+n])
			if end := i + n; end == len(s) && variable || end < len(s) && s[end] == '$' {
				b.WriteString(s[i:end])
			}
			i += n
			continue
		}
		if s[i] == '$' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// wordParser reads a word of a Dockerfile the way BuildKit expands it.
type wordParser struct {
	rest   []rune
	escape rune
}

// dockerParts takes a word of a Dockerfile apart.
func dockerParts(word string, escape rune) ([]part, error) {
	p := &wordParser{rest: []rune(word), escape: escape}
	return p.until(0)
}

// peek is the next character, 0 at the end.
func (p *wordParser) peek() rune {
	if len(p.rest) == 0 {
		return 0
	}
	return p.rest[0]
}

func (p *wordParser) next() rune {
	r := p.peek()
	if len(p.rest) > 0 {
		p.rest = p.rest[1:]
	}
	return r
}

// until reads up to the stop character, which it takes, or up to the end if that is 0.
func (p *wordParser) until(stop rune) ([]part, error) {
	var b partBuilder
	for len(p.rest) > 0 {
		switch r := p.peek(); {
		case stop != 0 && r == stop:
			p.next()
			return b.done(), nil
		case r == '\'':
			p.next()
			for p.peek() != '\'' {
				if len(p.rest) == 0 {
					return nil, errors.New("a quote is not closed")
				}
				b.literal(p.next())
			}
			p.next()
		case r == '"':
			p.next()
			if err := p.quoted(&b); err != nil {
				return nil, err
			}
		case r == '$':
			if err := p.variable(&b); err != nil {
				return nil, err
			}
		case r == p.escape:
			p.next()
			if len(p.rest) > 0 {
				b.literal(p.next())
			}
		default:
			b.literal(p.next())
		}
	}
	if stop != 0 {
		return nil, errors.New("a brace is not closed")
	}
	return b.done(), nil
}

// quoted reads what stands in double quotes, up to and with the closing one.
func (p *wordParser) quoted(b *partBuilder) error {
	for len(p.rest) > 0 {
		switch r := p.next(); {
		case r == '"':
			return nil
		case r == '$':
			p.rest = append([]rune{'$'}, p.rest...)
			if err := p.variable(b); err != nil {
				return err
			}
		case r == p.escape:
			if n := p.peek(); n == '"' || n == '$' || n == p.escape {
				b.literal(p.next())
			} else if n != 0 {
				b.literal(r)
			}
		default:
			b.literal(r)
		}
	}
	return errors.New("a quote is not closed")
}

// variable reads a reference.
func (p *wordParser) variable(b *partBuilder) error {
	p.next()
	braces := p.peek() == '{'
	if braces {
		p.next()
	}
	var name strings.Builder
	for r := p.peek(); r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) && name.Len() > 0; r = p.peek() {
		name.WriteRune(p.next())
	}
	v := part{name: name.String(), braces: braces}
	if v.name == "" && !braces && !unicode.IsDigit(p.peek()) && !strings.ContainsRune("@*#?-$!0", p.peek()) || len(p.rest) == 0 && v.name == "" {
		b.literal('$')
		return nil
	}
	if !shellName().MatchString(v.name) {
		return fmt.Errorf("$%s is no variable that a ZImagefile can expand", v.name)
	}
	if !braces {
		b.add(v)
		return nil
	}
	r := p.next()
	switch r {
	case '}':
		b.add(v)
		return nil
	case ':':
		v.op = ":"
		if r = p.next(); r != '-' && r != '+' && r != '?' {
			return fmt.Errorf("${%s:%c} is not supported", v.name, r)
		}
		fallthrough
	case '-', '+', '?':
		v.op += string(r)
		word, err := p.until('}')
		if err != nil {
			return err
		}
		v.word = word
		b.add(v)
		return nil
	case '#', '%', '/':
		v.op = string(r)
		if p.peek() == r {
			v.op += string(p.next())
		}
		for p.peek() != '}' {
			if len(p.rest) == 0 {
				return errors.New("a brace is not closed")
			}
			v.pattern += string(p.next())
		}
		p.next()
		if !safePattern().MatchString(v.pattern) || r == '/' && strings.Count(v.pattern, "/") != 1 {
			return fmt.Errorf("the pattern of ${%s%s%s} cannot be written in a ZImagefile", v.name, v.op, v.pattern)
		}
		b.add(v)
		return nil
	}
	return fmt.Errorf("${%s%c} is not supported", v.name, r)
}

// partBuilder joins literals.
type partBuilder struct {
	parts []part
	text  strings.Builder
}

func (b *partBuilder) literal(r rune) { b.text.WriteRune(r) }

func (b *partBuilder) flush() {
	if b.text.Len() > 0 {
		b.parts = append(b.parts, part{literal: b.text.String()})
		b.text.Reset()
	}
}

func (b *partBuilder) add(p part) {
	b.flush()
	b.parts = append(b.parts, p)
}

func (b *partBuilder) done() []part {
	b.flush()
	return b.parts
}
