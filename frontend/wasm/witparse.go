package wasm

import (
	"errors"
	"strings"
)

// witParser goes through the tokens of one file.
type witParser struct {
	lex    witLexer
	tokens []witToken
	at     int
	pkg    string
	main   bool
}

func (p *witParser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at].text
	}
	return ""
}

func (p *witParser) next() string {
	t := p.peek()
	p.at++
	return t
}

func (p *witParser) fail(format string, args ...any) error {
	t := witToken{line: max(1, p.lex.line), col: p.lex.col}
	if p.at < len(p.tokens) {
		t = p.tokens[p.at]
	}
	return p.lex.fail(t.line, t.col, format, args...)
}

var errWITEnd = errors.New("the file ends in the middle")

func (p *witParser) expect(sign string) error {
	if p.at >= len(p.tokens) {
		return p.fail("%w: %q is missing", errWITEnd, sign)
	}
	if p.peek() != sign {
		return p.fail("%q is expected before %q", sign, p.peek())
	}
	p.at++
	return nil
}

// path reads a name of a package, interface or world, with its version.
func (p *witParser) path() string {
	var b strings.Builder
	for p.at < len(p.tokens) {
		t := p.peek()
		if !isWITWord(t) && t != ":" && t != "/" && !strings.HasPrefix(t, "@") {
			break
		}
		// two words in a row belong to different things
		if isWITWord(t) && b.Len() > 0 && !strings.HasSuffix(b.String(), ":") && !strings.HasSuffix(b.String(), "/") {
			break
		}
		b.WriteString(strings.TrimPrefix(t, "%"))
		p.at++
	}
	return b.String()
}

func isWITWord(t string) bool {
	return t != "" && (t[0] >= 'a' && t[0] <= 'z' || t[0] >= 'A' && t[0] <= 'Z' || t[0] == '%')
}

// items reads what a file, or a package in it, consists of.
func (p *witParser) items(w *WIT, pkg string, nested bool) error {
	for p.at < len(p.tokens) {
		switch t := p.next(); t {
		case "}":
			if nested {
				return nil
			}
			p.at--
			return p.fail("there is a } too many")
		case "package":
			name := p.path()
			if err := p.expect("{"); err != nil {
				return err
			}
			if err := p.items(w, name, true); err != nil {
				return err
			}
		case "interface":
			w.interfaces = append(w.interfaces, inPackage(pkg, strings.TrimPrefix(p.next(), "%")))
			if err := p.skipBlock(); err != nil {
				return err
			}
		case "world":
			if err := p.world(w, pkg, p.main && !nested); err != nil {
				return err
			}
		case "use":
			p.skipItem()
		default:
			p.at--
			return p.fail("unexpected %q: an interface or a world is expected", t)
		}
	}
	if nested {
		return p.fail("%w: } is missing", errWITEnd)
	}
	return nil
}

// world reads a world after the word.
func (p *witParser) world(w *WIT, pkg string, main bool) error {
	x := &witWorld{name: strings.TrimPrefix(p.next(), "%"), pkg: pkg, main: main, file: p.lex.file}
	if err := p.expect("{"); err != nil {
		return err
	}
	for {
		if p.at >= len(p.tokens) {
			return p.fail("%w: } is missing", errWITEnd)
		}
		switch t := p.next(); t {
		case "}":
			w.worlds = append(w.worlds, x)
			return nil
		case "import":
			x.imports = append(x.imports, p.extern(pkg))
		case "export":
			x.exports = append(x.exports, p.extern(pkg))
		case "include":
			inc := p.tokenHere()
			inc.text = p.path()
			x.includes = append(x.includes, inc)
		}
		p.skipItem()
	}
}

func (p *witParser) tokenHere() witToken {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return witToken{}
}

// extern reads what an import or export is called. A name with a type behind it is called as it is;
// a name alone is an interface, of the same package unless it says another.
func (p *witParser) extern(pkg string) string {
	start := p.at
	if isWITWord(p.peek()) {
		name := strings.TrimPrefix(p.next(), "%")
		if p.peek() == ":" {
			p.next()
			switch p.peek() {
			case "func", "async", "interface":
				return name
			}
		}
	}
	p.at = start
	name := p.path()
	if !strings.Contains(name, "/") {
		name = inPackage(pkg, name)
	}
	return name
}

// skipItem goes behind the end of an item: a semicolon, or a block.
func (p *witParser) skipItem() {
	depth := 0
	for p.at < len(p.tokens) {
		switch p.peek() {
		case "{", "(":
			depth++
		case ")":
			depth--
		case "}":
			if depth == 0 {
				return // the end of what contains the item
			}
			if depth--; depth == 0 {
				p.at++
				if p.peek() == ";" {
					p.at++
				}
				return
			}
		case ";":
			if depth == 0 {
				p.at++
				return
			}
		}
		p.at++
	}
}

// skipBlock goes behind a block in braces.
func (p *witParser) skipBlock() error {
	if p.peek() != "{" {
		return p.expect("{")
	}
	p.skipItem()
	if p.at > len(p.tokens) || p.tokens[p.at-1].text != "}" && p.tokens[p.at-1].text != ";" {
		return p.fail("%w: } is missing", errWITEnd)
	}
	return nil
}
