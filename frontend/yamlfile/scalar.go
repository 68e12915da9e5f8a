package yamlfile

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Scalar gives the text of a single value as the file spells it.
func (d *Decoder) Scalar(n *yaml.Node, what string) (String, bool) {
	s := d.Enter(n)
	if s == nil {
		return String{}, false
	}
	defer d.Leave(n)
	if s.Kind != yaml.ScalarNode {
		d.Errorf(d.Pos(n), "%s must be a single value, not %s", what, KindName(s))
		return String{}, false
	}
	switch s.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge":
	default:
		d.Errorf(d.Pos(n), "the tag %s has no meaning here", s.Tag)
		return String{}, false
	}
	if strings.ContainsRune(s.Value, 0) {
		d.Errorf(d.Pos(n), "%s must not contain a NUL character", what)
		return String{}, false
	}
	return String{Value: s.Value, Pos: d.Pos(n)}, true
}

// StringSchema admits what editors take for a number or a boolean but is meant as text.
func StringSchema() Schema {
	return Schema{"type": []any{"string", "number", "boolean"}}
}

// Word is an optional text that is not empty and has one line.
func Word(what string) Kind[*String] { return Text(what, true) }

// Text is an optional text; with strict, it must not be empty nor have several lines.
func Text(what string, strict bool) Kind[*String] {
	s := StringSchema()
	if strict {
		s["minLength"] = 1
	}
	return Kind[*String]{
		Decode: func(d *Decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return nil, false
			}
			if strict && !d.oneLine(s, what) {
				return nil, false
			}
			return &s, true
		},
		Encode: EncodeText,
		Schema: s,
	}
}

// oneLine notes a mistake unless s is one line that is not blank.
func (d *Decoder) oneLine(s String, what string) bool {
	switch {
	case strings.TrimSpace(s.Value) == "":
		d.Errorf(s.Pos, "%s must not be empty", what)
	case strings.ContainsAny(s.Value, "\n\r"):
		d.Errorf(s.Pos, "%s must be one line", what)
	default:
		return true
	}
	return false
}

// EncodeText writes an optional text.
func EncodeText(s *String) *yaml.Node {
	if s == nil {
		return nil
	}
	return TextNode(s.Value)
}

// Choice is one of a few words, letter case counting.
func Choice(what string, options ...string) Kind[*String] {
	enum := make([]any, len(options))
	for i, o := range options {
		enum[i] = o
	}
	return Kind[*String]{
		Decode: func(d *Decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return nil, false
			}
			if len(options) == 1 && s.Value != options[0] {
				d.Errorf(s.Pos, "unsupported %s %q: it must be %q", what, s.Value, options[0])
				return nil, false
			}
			if !slices.Contains(options, s.Value) {
				d.Errorf(s.Pos, "%s must be one of %s, not %q%s", what, strings.Join(options, ", "), s.Value, DidYouMean(s.Value, options))
				return nil, false
			}
			return &s, true
		},
		Encode: EncodeText,
		Schema: Schema{"enum": enum},
	}
}

// Natural is a whole number that is not negative.
func Natural(what string) Kind[*String] {
	return Kind[*String]{
		Decode: func(d *Decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return nil, false
			}
			if v, err := strconv.ParseUint(s.Value, 10, 31); err != nil || strconv.FormatUint(v, 10) != s.Value {
				d.Errorf(s.Pos, "%s must be a whole number, not %q", what, s.Value)
				return nil, false
			}
			return &s, true
		},
		Encode: EncodeText,
		Schema: Schema{"type": []any{"integer", "string"}, "minimum": 0, "pattern": "^(0|[1-9][0-9]*)$"},
	}
}

// Boolean is a truth value that is false when absent.
func Boolean(what string) Kind[bool] {
	return Kind[bool]{
		Decode: func(d *Decoder, n *yaml.Node) (bool, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return false, false
			}
			switch strings.ToLower(s.Value) {
			case "true", "yes", "on":
				return true, true
			case "false", "no", "off":
				return false, true
			}
			d.Errorf(s.Pos, "%s must be true or false, not %q", what, s.Value)
			return false, false
		},
		Encode: func(v bool) *yaml.Node {
			if !v {
				return nil
			}
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
		},
		Schema: Schema{"enum": []any{true, false, "yes", "no", "on", "off"}},
	}
}

// Unless turns a boolean around: what it keeps is the opposite of what the file says.
func Unless(k Kind[bool]) Kind[bool] {
	return Kind[bool]{
		Decode: func(d *Decoder, n *yaml.Node) (bool, bool) {
			v, ok := k.Decode(d, n)
			return !v, ok
		},
		Encode: func(v bool) *yaml.Node {
			if !v {
				return nil
			}
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"}
		},
		Schema: k.Schema,
	}
}

// Item is a text in a list.
func Item(what string, strict bool) Kind[String] {
	return Deref(Text(what, strict))
}

// OneOrMore is a text or a list of texts that is not empty.
func OneOrMore(what string) Kind[[]String] {
	one, many := Item(what, true), List(what, Item(what, true))
	return Kind[[]String]{
		Decode: func(d *Decoder, n *yaml.Node) ([]String, bool) {
			if Resolved(n).Kind != yaml.SequenceNode {
				s, ok := one.Decode(d, n)
				return []String{s}, ok
			}
			l, ok := many.Decode(d, n)
			if ok && len(Resolved(n).Content) == 0 {
				d.Errorf(d.Pos(n), "%s must not be an empty list", what)
			}
			return l, ok
		},
		Encode: func(l []String) *yaml.Node {
			if len(l) == 1 {
				return one.Encode(l[0])
			}
			return many.Encode(l)
		},
		Schema: Schema{"oneOf": []any{one.Schema, Schema{"type": "array", "items": one.Schema, "minItems": 1}}},
	}
}

// Resolved is the node that an alias stands for.
func Resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
