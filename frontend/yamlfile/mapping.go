package yamlfile

import (
	"fmt"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/graph"
)

// String is a text of a file and its place.
type String struct {
	Value string
	Pos   graph.Pos
}

// Pair is an entry of a mapping from names to texts.
type Pair struct {
	Key, Value String
}

// Mapping is a mapping of names to texts, in the order of the file. check finds fault with a name.
func Mapping(what string, check func(name string) string) Kind[[]Pair] {
	return Kind[[]Pair]{
		Decode: func(d *Decoder, n *yaml.Node) ([]Pair, bool) {
			m := d.Enter(n)
			if m == nil {
				return nil, false
			}
			defer d.Leave(n)
			if m.Kind != yaml.MappingNode {
				d.Errorf(d.Pos(n), "%s must be a mapping of names to values, not %s", what, KindName(m))
				return nil, false
			}
			out := []Pair{}
			for _, e := range d.Entries(m) {
				k, ok := d.Scalar(e.Key, "a name in "+what)
				if !ok {
					continue
				}
				if fault := check(k.Value); fault != "" {
					d.Errorf(k.Pos, "%q in %s %s", k.Value, what, fault)
					continue
				}
				v, ok := d.Scalar(e.Val, fmt.Sprintf("the value of %q", k.Value))
				if ok {
					out = append(out, Pair{k, v})
				}
			}
			return out, true
		},
		Encode: func(l []Pair) *yaml.Node {
			if l == nil {
				return nil
			}
			m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			for _, p := range l {
				m.Content = append(m.Content, TextNode(p.Key.Value), TextNode(p.Value.Value))
			}
			return m
		},
		Schema: Schema{"type": "object", "additionalProperties": Schema{"type": []any{"string", "number", "boolean", "null"}}},
	}
}

// VariableName finds fault with the name of an environment variable or build argument.
func VariableName(name string) string {
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

// LabelName finds fault with the name of a label.
func LabelName(name string) string {
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
