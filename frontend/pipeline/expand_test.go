package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// testScope knows a few variables.
func testScope() *scope {
	vars := map[string]value{
		"A": {text: "a"}, "EMPTY": {}, "DOLLAR": {text: "${A}$$"}, "L": {items: []string{"x", "y"}, isList: true},
		"NONE": {isList: true}, "S": {text: "hush", secret: true},
	}
	return &scope{
		problems: &problems{texts: map[string][]byte{}},
		look:     func(name string) (value, bool) { v, ok := vars[name]; return v, ok },
		names:    func() []string { return []string{"A", "DOLLAR", "EMPTY", "L", "NONE", "S"} },
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ in, want, mistake string }{
		{in: "plain", want: "plain"},
		{in: "", want: ""},
		{in: "${A}", want: "a"},
		{in: "x${A}y${A}", want: "xaya"},
		{in: "$A $ $1 $", want: "$A $ $1 $"},
		{in: "$$ $${A} $$$${A} $$${A}", want: "$ ${A} $${A} $a"},
		{in: "}{$}", want: "}{$}"},
		{in: "${DOLLAR}", want: "${A}$$"}, // not expanded again
		{in: "${EMPTY}", want: ""},
		{in: "${EMPTY:-x}${A:-x}", want: "xa"},
		{in: "${EMPTY:-${EMPTY:-${A}$$}}", want: "a$"},
		{in: "${EMPTY:-a:b-c ?}", want: "a:b-c ?"},
		{in: "${A:+x}${EMPTY:+x}", want: "x"},
		{in: "${L:+many}${NONE:+many}${NONE:-none}", want: "manynone"},
		{in: "${A:?must}", want: "a"},
		{in: "${EMPTY:?must be ${A}}", mistake: "variable EMPTY has no value: must be a"},
		{in: "${EMPTY:?}", mistake: "variable EMPTY has no value: it must not be empty"},
		{in: "${B}", mistake: "there is no variable B: declare it under vars, or write $${B} if"},
		{in: "${B:-x}", mistake: "there is no variable B: declare it under vars, or write $${B} if"},
		{in: "${EMPTIE}", mistake: "there is no variable EMPTIE (did you mean EMPTY?)"},
		{in: "${S}", mistake: "variable S is secret"},
		{in: "x${L}", mistake: "variable L is a list"},
		{in: "${", mistake: `"${" is not closed`},
		{in: "${A", mistake: `"${A" is not closed`},
		{in: "${A:-${A}", mistake: "is not closed"},
		{in: "${}", mistake: `"${}" is no variable`},
		{in: "${1}", mistake: `"${1}" is no variable`},
		{in: "${A-x}", mistake: `"${A-x}" is no variable`},
		{in: "${A:}", mistake: `"${A:}" is no variable`},
		{in: "${A:=x}", mistake: `"${A:=x}" is no variable`},
		{in: strings.Repeat("${EMPTY:-", 30) + strings.Repeat("}", 30), mistake: "nested more than 20"},
	} {
		s := testScope()
		got, ok := s.expand(text{Value: c.in, Pos: graph.Pos{File: "f", Line: 1}})
		err := s.problems.err()
		switch {
		case c.mistake == "" && (!ok || err != nil || got != c.want):
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		case c.mistake != "" && (ok || err == nil || !strings.HasPrefix(err.Error(), "f:1: ") || !strings.Contains(err.Error(), c.mistake)):
			t.Errorf("%q: got %q, %v, want %s", c.in, got, err, c.mistake)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: the message shows the secret: %v", c.in, err)
		}
	}
}

func TestExpandList(t *testing.T) {
	s := testScope()
	var in []text
	for _, v := range []string{"1", "${L}", "${NONE}", "${EMPTY}", "${NONE:-2}", "${L:-3}", "${L:+4}", "$$"} {
		in = append(in, text{Value: v})
	}
	var got []string
	list, ok := s.list(in)
	for _, it := range list {
		got = append(got, it.Value)
	}
	if diff := cmp.Diff([]string{"1", "x", "y", "2", "x", "y", "4", "$"}, got); diff != "" || !ok {
		t.Errorf("%v (-want +got):\n%s", s.problems.err(), diff)
	}
}

// FuzzExpand: expansion ends, gives the same twice, expands no result again, and says what is wrong at
// the place of the text; a text made literal is itself.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"${A}", "$${A}$", "${EMPTY:-${A:+b}}", "${L}", "${S:?x}", "${A:-}}", "\x00$\xff"} {
		f.Add(s, "v$${A}")
	}
	f.Fuzz(func(t *testing.T, in, val string) {
		pos := graph.Pos{File: "f", Line: 3, Column: 7}
		run := func(in string) (string, bool, error) {
			s := testScope()
			look := s.look
			s.look = func(name string) (value, bool) {
				if name == "V" {
					return value{text: val}, true
				}
				return look(name)
			}
			out, ok := s.expand(text{Value: in, Pos: pos})
			return out, ok, s.problems.err()
		}
		out, ok, err := run(in)
		again, ok2, err2 := run(in)
		if out != again || ok != ok2 || (err == nil) != (err2 == nil) {
			t.Errorf("got %q, %v and %q, %v", out, err, again, err2)
		}
		if ok != (err == nil) {
			t.Errorf("got %v with %v", ok, err)
		}
		for _, e := range yamlfile.Errors(err) {
			if e.Pos != pos {
				t.Errorf("%v is elsewhere", e)
			}
		}
		if len(in)+len(val) > maxExpanded/2 {
			return
		}
		if out, ok, err := run(literal(in)); !ok || out != in {
			t.Errorf("%q made literal: got %q, %v", in, out, err)
		}
		if out, ok, err := run("<${V}>"); !ok || out != "<"+val+">" {
			t.Errorf("%q as value: got %q, %v", val, out, err)
		}
	})
}
