package zimage

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// scalar gives the text of a single value as the file spells it.
func (d *decoder) scalar(n *yaml.Node, what string) (String, bool) {
	s := d.enter(n)
	if s == nil {
		return String{}, false
	}
	defer d.leave(n)
	if s.Kind != yaml.ScalarNode {
		d.errorf(d.pos(n), "%s must be a single value, not %s", what, kindName(s))
		return String{}, false
	}
	switch s.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge":
	default:
		d.errorf(d.pos(n), "the tag %s has no meaning here", s.Tag)
		return String{}, false
	}
	if strings.ContainsRune(s.Value, 0) {
		d.errorf(d.pos(n), "%s must not contain a NUL character", what)
		return String{}, false
	}
	return String{Value: s.Value, Pos: d.pos(n)}, true
}

// stringSchema admits what editors take for a number or a boolean but is meant as text.
func stringSchema() schema {
	return schema{"type": []any{"string", "number", "boolean"}}
}

// word is an optional text that is not empty and has one line.
func word(what string) kind[*String] { return text(what, true) }

// text is an optional text; with strict, it must not be empty nor have several lines.
func text(what string, strict bool) kind[*String] {
	s := stringSchema()
	if strict {
		s["minLength"] = 1
	}
	return kind[*String]{
		decode: func(d *decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.scalar(n, what)
			if !ok {
				return nil, false
			}
			if strict && !d.oneLine(s, what) {
				return nil, false
			}
			return &s, true
		},
		encode: encodeText,
		schema: s,
	}
}

// oneLine notes a mistake unless s is one line that is not blank.
func (d *decoder) oneLine(s String, what string) bool {
	switch {
	case strings.TrimSpace(s.Value) == "":
		d.errorf(s.Pos, "%s must not be empty", what)
	case strings.ContainsAny(s.Value, "\n\r"):
		d.errorf(s.Pos, "%s must be one line", what)
	default:
		return true
	}
	return false
}

func encodeText(s *String) *yaml.Node {
	if s == nil {
		return nil
	}
	return textNode(s.Value)
}

// choice is one of a few words, letter case counting.
func choice(what string, options ...string) kind[*String] {
	enum := make([]any, len(options))
	for i, o := range options {
		enum[i] = o
	}
	return kind[*String]{
		decode: func(d *decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.scalar(n, what)
			if !ok {
				return nil, false
			}
			if len(options) == 1 && s.Value != options[0] {
				d.errorf(s.Pos, "unsupported %s %q: it must be %q", what, s.Value, options[0])
				return nil, false
			}
			if !slices.Contains(options, s.Value) {
				d.errorf(s.Pos, "%s must be one of %s, not %q%s", what, strings.Join(options, ", "), s.Value, didYouMean(s.Value, options))
				return nil, false
			}
			return &s, true
		},
		encode: encodeText,
		schema: schema{"enum": enum},
	}
}

// natural is a whole number that is not negative.
func natural(what string) kind[*String] {
	return kind[*String]{
		decode: func(d *decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.scalar(n, what)
			if !ok {
				return nil, false
			}
			if v, err := strconv.ParseUint(s.Value, 10, 31); err != nil || strconv.FormatUint(v, 10) != s.Value {
				d.errorf(s.Pos, "%s must be a whole number, not %q", what, s.Value)
				return nil, false
			}
			return &s, true
		},
		encode: encodeText,
		schema: schema{"type": []any{"integer", "string"}, "minimum": 0, "pattern": "^(0|[1-9][0-9]*)$"},
	}
}

// boolean is a truth value that is false when absent.
func boolean(what string) kind[bool] {
	return kind[bool]{
		decode: func(d *decoder, n *yaml.Node) (bool, bool) {
			s, ok := d.scalar(n, what)
			if !ok {
				return false, false
			}
			switch strings.ToLower(s.Value) {
			case "true", "yes", "on":
				return true, true
			case "false", "no", "off":
				return false, true
			}
			d.errorf(s.Pos, "%s must be true or false, not %q", what, s.Value)
			return false, false
		},
		encode: func(v bool) *yaml.Node {
			if !v {
				return nil
			}
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
		},
		schema: schema{"enum": []any{true, false, "yes", "no", "on", "off"}},
	}
}

// unless turns a boolean around: what it keeps is the opposite of what the file says.
func unless(k kind[bool]) kind[bool] {
	return kind[bool]{
		decode: func(d *decoder, n *yaml.Node) (bool, bool) {
			v, ok := k.decode(d, n)
			return !v, ok
		},
		encode: func(v bool) *yaml.Node {
			if !v {
				return nil
			}
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"}
		},
		schema: k.schema,
	}
}

// item is a text in a list.
func item(what string, strict bool) kind[String] {
	return deref(text(what, strict))
}

// oneOrMore is a text or a list of texts that is not empty.
func oneOrMore(what string) kind[[]String] {
	one, many := item(what, true), list(what, item(what, true))
	return kind[[]String]{
		decode: func(d *decoder, n *yaml.Node) ([]String, bool) {
			if resolved(n).Kind != yaml.SequenceNode {
				s, ok := one.decode(d, n)
				return []String{s}, ok
			}
			l, ok := many.decode(d, n)
			if ok && len(resolved(n).Content) == 0 {
				d.errorf(d.pos(n), "%s must not be an empty list", what)
			}
			return l, ok
		},
		encode: func(l []String) *yaml.Node {
			if len(l) == 1 {
				return one.encode(l[0])
			}
			return many.encode(l)
		},
		schema: schema{"oneOf": []any{one.schema, schema{"type": "array", "items": one.schema, "minItems": 1}}},
	}
}

// resolved is the node that an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// noteKey implements what decodeObject asks of mappings that remember their keys.
func (k *keyed) noteKey(d *decoder, e entry) { k.seen(e.key.Value, d.pos(e.key)) }

func (k *keyed) forget(name string) { delete(k.keys, name) }

func (b *Build) place(d *decoder, n *yaml.Node)       { b.Pos = d.pos(n) }
func (m *Mount) place(d *decoder, n *yaml.Node)       { m.Pos = d.pos(n) }
func (h *Healthcheck) place(d *decoder, n *yaml.Node) { h.Pos = d.pos(n) }
func (w *Wasm) place(d *decoder, n *yaml.Node)        { w.Pos = d.pos(n) }
func (s *Step) place(d *decoder, n *yaml.Node)        { s.Pos = d.pos(n) }

// noteKey takes the action's key for the place of the step.
func (s *Step) noteKey(d *decoder, e entry) {
	s.keyed.noteKey(d, e)
	end := max(s.Pos.EndLine, d.span(e.key, e.val).EndLine)
	switch e.key.Value {
	case "run", "copy", "add":
		s.Pos = d.pos(e.key)
	case "env", "workdir", "user":
		if len(s.keys) == 1 {
			s.Pos = d.pos(e.key)
		}
	}
	s.Pos.EndLine = end
	if s.Pos.EndLine <= s.Pos.Line {
		s.Pos.EndLine = 0
	}
}
