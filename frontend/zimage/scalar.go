package zimage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

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

// mapping is a mapping of names to texts, in the order of the file. check finds fault with a name.
func mapping(what string, check func(name string) string) kind[[]Pair] {
	return kind[[]Pair]{
		decode: func(d *decoder, n *yaml.Node) ([]Pair, bool) {
			m := d.enter(n)
			if m == nil {
				return nil, false
			}
			defer d.leave(n)
			if m.Kind != yaml.MappingNode {
				d.errorf(d.pos(n), "%s must be a mapping of names to values, not %s", what, kindName(m))
				return nil, false
			}
			out := []Pair{}
			for _, e := range d.entries(m) {
				k, ok := d.scalar(e.key, "a name in "+what)
				if !ok {
					continue
				}
				if fault := check(k.Value); fault != "" {
					d.errorf(k.Pos, "%q in %s %s", k.Value, what, fault)
					continue
				}
				v, ok := d.scalar(e.val, fmt.Sprintf("the value of %q", k.Value))
				if ok {
					out = append(out, Pair{k, v})
				}
			}
			return out, true
		},
		encode: func(l []Pair) *yaml.Node {
			if l == nil {
				return nil
			}
			m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			for _, p := range l {
				m.Content = append(m.Content, textNode(p.Key.Value), textNode(p.Value.Value))
			}
			return m
		},
		schema: schema{"type": "object", "additionalProperties": schema{"type": []any{"string", "number", "boolean", "null"}}},
	}
}

// variableName finds fault with the name of an environment variable or build argument.
func variableName(name string) string {
	switch {
	case name == "":
		return "is no name"
	case strings.Contains(name, "="):
		return "must not contain ="
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "must not contain blanks"
	case strings.ContainsAny(name, "'\"\\$"):
		return "must not contain quotes, \\ or $"
	case name[0] == '-':
		return "must not begin with -"
	}
	return ""
}

// labelName finds fault with the name of a label.
func labelName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is no name"
	case strings.Contains(name, "="):
		return "must not contain =: a Dockerfile could not say it"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// command is a command line: a text for the shell, or a list for the exec form.
func command(what string, emptyList bool) kind[*Command] {
	argv := list(what, item("an argument of "+what, false))
	exec := schema{"type": "array", "items": schema{"type": []any{"string", "number", "boolean", "null"}}}
	if !emptyList {
		exec["minItems"] = 1
	}
	shell := stringSchema()
	shell["minLength"] = 1
	return kind[*Command]{
		decode: func(d *decoder, n *yaml.Node) (*Command, bool) {
			r := resolved(n)
			c := &Command{Pos: d.pos(r)}
			if r.Kind != yaml.SequenceNode {
				s, ok := d.scalar(n, what)
				if ok && strings.TrimSpace(s.Value) == "" {
					d.errorf(s.Pos, "%s must not be empty", what)
					return nil, false
				}
				c.Shell, c.block = s.Value, r.Style&yaml.LiteralStyle != 0
				return c, ok
			}
			words, ok := argv.decode(d, n)
			if ok && len(words) == 0 && (!emptyList || len(r.Content) > 0) {
				if len(r.Content) == 0 {
					d.errorf(c.Pos, "%s must not be an empty list", what)
				}
				return nil, false
			}
			c.Exec = []string{}
			for _, w := range words {
				c.Exec = append(c.Exec, w.Value)
			}
			return c, ok
		},
		encode: func(c *Command) *yaml.Node {
			if c == nil {
				return nil
			}
			if c.Exec == nil {
				return textNode(c.Shell)
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
			for _, w := range c.Exec {
				n := textNode(w)
				n.Style = yaml.DoubleQuotedStyle
				s.Content = append(s.Content, n)
			}
			return s
		},
		schema: schema{"oneOf": []any{shell, exec}},
	}
}

// duration is a length of time.
func duration(what string) kind[*Duration] {
	return kind[*Duration]{
		decode: func(d *decoder, n *yaml.Node) (*Duration, bool) {
			s, ok := d.scalar(n, what)
			if !ok {
				return nil, false
			}
			v, err := parseDuration(s.Value)
			if err != nil {
				d.errorf(s.Pos, "invalid %s '%s': %w", what, s.Value, err)
				return nil, false
			}
			return &Duration{String: s, Length: v}, true
		},
		encode: func(v *Duration) *yaml.Node {
			if v == nil {
				return nil
			}
			return textNode(v.Value)
		},
		schema: schema{"type": []any{"string", "integer"}, "pattern": `^\s*(0|(\d+\s*[A-Za-z]+\s*)+)\s*$`, "maximum": 0},
	}
}

// ports are numbers, alone or in a list, with or without protocol.
func ports() kind[[]String] {
	const what = "expose"
	l := list(what, item(what, true))
	port := schema{"type": []any{"integer", "string"}, "minimum": 1, "maximum": 65535, "pattern": `^\d+(/([tT][cC][pP]|[uU][dD][pP]|[sS][cC][tT][pP]))?$`}
	return kind[[]String]{
		decode: func(d *decoder, n *yaml.Node) ([]String, bool) {
			var all []String
			ok := true
			if resolved(n).Kind == yaml.SequenceNode {
				all, ok = l.decode(d, n)
			} else {
				var s String
				s, ok = d.scalar(n, what)
				all = []String{s}
			}
			if !ok {
				return nil, false
			}
			for i, s := range all {
				p, fault := portSpec(s.Value)
				if fault != "" {
					d.errorf(s.Pos, "invalid port %q: %s", s.Value, fault)
					ok = false
				}
				all[i].Value = p
			}
			return all, ok
		},
		encode: func(all []String) *yaml.Node {
			if all == nil {
				return nil
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
			for _, p := range all {
				n := textNode(p.Value)
				if !strings.Contains(p.Value, "/") {
					n.Tag = "!!int"
				}
				s.Content = append(s.Content, n)
			}
			return s
		},
		schema: schema{"oneOf": []any{port, schema{"type": "array", "items": port}}},
	}
}

// portSpec checks NUMBER[/PROTOCOL] and spells it the same always.
func portSpec(s string) (spec, fault string) {
	number, proto, has := strings.Cut(s, "/")
	v, err := strconv.ParseUint(number, 10, 16)
	if err != nil || v == 0 {
		return "", "it must be a number from 1 to 65535, or NUMBER/tcp, NUMBER/udp or NUMBER/sctp"
	}
	number = strconv.FormatUint(v, 10)
	if !has {
		return number, ""
	}
	proto = strings.ToLower(proto)
	known := []string{"tcp", "udp", "sctp"}
	if !slices.Contains(known, proto) {
		return "", fmt.Sprintf("unknown protocol %q, known are tcp, udp and sctp", proto)
	}
	return number + "/" + proto, ""
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
