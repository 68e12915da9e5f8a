package zimage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

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
			var ok bool
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
