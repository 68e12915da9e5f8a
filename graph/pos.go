package graph

import (
	"errors"
	"strconv"
	"strings"
)

// Pos is a place in a build file. Lines and columns start at 1; 0 means unknown.
// EndLine, when it is greater than Line, says that the construct goes on to the
// end of that line.
type Pos struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	EndLine int    `json:"endLine,omitempty"`
}

// String renders the position as file:line:col and leaves out what is unknown,
// the form that editors and CI systems turn into links.
func (p Pos) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		if b.Len() > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strconv.Itoa(p.Line))
		if p.Column > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(p.Column))
		}
	}
	return b.String()
}

// IsZero reports whether nothing is known about the position.
func (p Pos) IsZero() bool { return p == Pos{} }

// PosError is a mistake in a build file. Its text begins with the position, so
// it can be printed as it is; the excerpt of the file is drawn by whoever owns a
// terminal, from Pos and Source.
type PosError struct {
	Pos Pos
	// Err says what is wrong and what to do about it.
	Err error
	// Source is the text of the file that Pos points into; nil when it is not at
	// hand.
	Source []byte
}

// Error implements error as "file:line:col: message".
func (e *PosError) Error() string {
	if p := e.Pos.String(); p != "" {
		return p + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

// Unwrap gives the mistake without its position.
func (e *PosError) Unwrap() error { return e.Err }

// ErrorPos returns the position that err, or what it wraps, carries.
func ErrorPos(err error) (Pos, bool) {
	var pe *PosError
	if errors.As(err, &pe) {
		return pe.Pos, true
	}
	return Pos{}, false
}
