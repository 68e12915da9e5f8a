package zimage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// command is a command line: a text for the shell, or a list for the exec form.
func command(what string, emptyList bool) yamlfile.Kind[*Command] {
	argv := yamlfile.List(what, yamlfile.Item("an argument of "+what, false))
	exec := yamlfile.Schema{"type": "array", "items": yamlfile.Schema{"type": []any{"string", "number", "boolean", "null"}}}
	if !emptyList {
		exec["minItems"] = 1
	}
	shell := yamlfile.StringSchema()
	shell["minLength"] = 1
	return yamlfile.Kind[*Command]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*Command, bool) {
			r := yamlfile.Resolved(n)
			c := &Command{Pos: d.Pos(r)}
			if r.Kind != yaml.SequenceNode {
				s, ok := d.Scalar(n, what)
				if ok && strings.TrimSpace(s.Value) == "" {
					d.Errorf(s.Pos, "%s must not be empty", what)
					return nil, false
				}
				c.Shell, c.block = s.Value, r.Style&yaml.LiteralStyle != 0
				return c, ok
			}
			words, ok := argv.Decode(d, n)
			if ok && len(words) == 0 && (!emptyList || len(r.Content) > 0) {
				if len(r.Content) == 0 {
					d.Errorf(c.Pos, "%s must not be an empty list", what)
				}
				return nil, false
			}
			c.Exec = []string{}
			for _, w := range words {
				c.Exec = append(c.Exec, w.Value)
			}
			return c, ok
		},
		Encode: func(c *Command) *yaml.Node {
			if c == nil {
				return nil
			}
			if c.Exec == nil {
				return yamlfile.TextNode(c.Shell)
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
			for _, w := range c.Exec {
				n := yamlfile.TextNode(w)
				n.Style = yaml.DoubleQuotedStyle
				s.Content = append(s.Content, n)
			}
			return s
		},
		Schema: yamlfile.Schema{"oneOf": []any{shell, exec}},
	}
}

// duration is a length of time.
func duration(what string) yamlfile.Kind[*Duration] {
	return yamlfile.Kind[*Duration]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*Duration, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return nil, false
			}
			v, err := parseDuration(s.Value)
			if err != nil {
				d.Errorf(s.Pos, "invalid %s '%s': %w", what, s.Value, err)
				return nil, false
			}
			return &Duration{String: s, Length: v}, true
		},
		Encode: func(v *Duration) *yaml.Node {
			if v == nil {
				return nil
			}
			return yamlfile.TextNode(v.Value)
		},
		Schema: yamlfile.Schema{"type": []any{"string", "integer"}, "pattern": `^\s*(0|(\d+\s*[A-Za-z]+\s*)+)\s*$`, "maximum": 0},
	}
}

// ports are numbers, alone or in a list, with or without protocol.
func ports() yamlfile.Kind[[]String] {
	const what = "expose"
	l := yamlfile.List(what, yamlfile.Item(what, true))
	port := yamlfile.Schema{"type": []any{"integer", "string"}, "minimum": 1, "maximum": 65535, "pattern": `^\d+(/([tT][cC][pP]|[uU][dD][pP]|[sS][cC][tT][pP]))?$`}
	return yamlfile.Kind[[]String]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) ([]String, bool) {
			var all []String
			var ok bool
			if yamlfile.Resolved(n).Kind == yaml.SequenceNode {
				all, ok = l.Decode(d, n)
			} else {
				var s String
				s, ok = d.Scalar(n, what)
				all = []String{s}
			}
			if !ok {
				return nil, false
			}
			for i, s := range all {
				p, fault := portSpec(s.Value)
				if fault != "" {
					d.Errorf(s.Pos, "invalid port %q: %s", s.Value, fault)
					ok = false
				}
				all[i].Value = p
			}
			return all, ok
		},
		Encode: func(all []String) *yaml.Node {
			if all == nil {
				return nil
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
			for _, p := range all {
				n := yamlfile.TextNode(p.Value)
				if !strings.Contains(p.Value, "/") {
					n.Tag = "!!int"
				}
				s.Content = append(s.Content, n)
			}
			return s
		},
		Schema: yamlfile.Schema{"oneOf": []any{port, yamlfile.Schema{"type": "array", "items": port}}},
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
