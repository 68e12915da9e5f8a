package wasm

import (
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// witToken is a word, a version with its @, or a sign of a WIT file.
type witToken struct {
	text      string
	line, col int
}

// witLexer cuts a WIT file into tokens. Comments and gates (@since, @unstable) are left out.
type witLexer struct {
	file      string
	text      string
	at        int
	line, col int
}

func (l *witLexer) fail(line, col int, format string, args ...any) error {
	return &graph.PosError{
		Pos: graph.Pos{File: l.file, Line: line, Column: col}, Err: fmt.Errorf(format, args...), Source: []byte(l.text),
	}
}

func (l *witLexer) advance(n int) {
	for _, c := range []byte(l.text[l.at : l.at+n]) {
		if l.col++; c == '\n' {
			l.line, l.col = l.line+1, 1
		}
	}
	l.at += n
}

// tokens cuts the whole file.
func (l *witLexer) tokens() ([]witToken, error) {
	l.line, l.col = 1, 1
	var out []witToken
	for {
		if err := l.blanks(); err != nil {
			return nil, err
		}
		if l.at == len(l.text) {
			return out, nil
		}
		t := witToken{line: l.line, col: l.col}
		n := l.length()
		t.text = l.text[l.at : l.at+n]
		l.advance(n)
		if t.text == "@" {
			if err := l.gate(); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, t)
	}
}

// blanks skips white space and comments.
func (l *witLexer) blanks() error {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			l.advance(1)
		case strings.HasPrefix(rest, "//"):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				l.advance(n)
			} else {
				l.advance(len(rest))
			}
		case strings.HasPrefix(rest, "/*"):
			if err := l.blockComment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// blockComment skips a comment that can hold others.
func (l *witLexer) blockComment() error {
	line, col, depth := l.line, l.col, 0
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.advance(2)
		case strings.HasPrefix(rest, "*/"):
			l.advance(2)
			if depth--; depth == 0 {
				return nil
			}
		default:
			l.advance(1)
		}
	}
	return l.fail(line, col, "the comment does not end")
}

// length is that of the token that begins here.
func (l *witLexer) length() int {
	rest := l.text[l.at:]
	in := func(c byte, more string) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(more, c) >= 0
	}
	if rest[0] == '@' && len(rest) > 1 && rest[1] >= '0' && rest[1] <= '9' {
		n := 1
		for n < len(rest) && in(rest[n], ".+-") {
			n++
		}
		// the dot of a use that follows is not the version's
		for rest[n-1] == '.' {
			n--
		}
		return n
	}
	if strings.HasPrefix(rest, "->") {
		return 2
	}
	n := 0
	for n < len(rest) && in(rest[n], "-_%") {
		n++
	}
	return max(n, 1)
}

// gate skips what follows an @: a word and what is in brackets.
func (l *witLexer) gate() error {
	line, col := l.line, l.col
	if l.at < len(l.text) {
		l.advance(l.length())
	}
	if err := l.blanks(); err != nil {
		return err
	}
	if !strings.HasPrefix(l.text[l.at:], "(") {
		return nil
	}
	n := strings.IndexByte(l.text[l.at:], ')')
	if n < 0 {
		return l.fail(line, col, "the gate does not end")
	}
	l.advance(n + 1)
	return nil
}
