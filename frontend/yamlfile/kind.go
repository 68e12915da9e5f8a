package yamlfile

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/graph"
)

// Kind is how values of a Go type are written in YAML.
type Kind[T any] struct {
	// Decode gives the value of a node that is not null, and whether it could; it has noted why not.
	Decode func(d *Decoder, n *yaml.Node) (T, bool)
	// Encode is the opposite; nil stands for an absent value. Kinds that nothing writes have none.
	Encode func(T) *yaml.Node
	// Schema describes the values for editors.
	Schema Schema
}

// Member is a key of the mappings that describe an O.
type Member[O any] struct {
	Name, Doc string
	// Alias is another name of the key, "" for none.
	Alias string
	// Required keys have to be there.
	Required bool

	decode func(d *Decoder, o *O, n *yaml.Node)
	encode func(o *O) *yaml.Node
	schema Schema
}

// Table lists the keys of a mapping in the order in which they are written.
type Table[O any] struct {
	// What the mapping is, for messages: "a step".
	What    string
	Members []Member[O]
	// Rules are additional keywords of the schema.
	Rules Schema

	// Place, if set, is told where a mapping stands.
	Place func(o *O, pos graph.Pos)
	// Seen, if set, is told of every key that the table has, before its value is decoded.
	Seen func(d *Decoder, o *O, e Entry)
	// Absent, if set, is told of keys that were seen but have no value.
	Absent func(o *O, name string)
	// Strange, if set, is told that there were keys that the table does not have.
	Strange func(o *O)
}

// Key makes the member that keeps its value where at says.
func Key[O, T any](name string, k Kind[T], at func(*O) *T, doc string) Member[O] {
	return Member[O]{
		Name: name,
		Doc:  doc,
		decode: func(d *Decoder, o *O, n *yaml.Node) {
			if v, ok := k.Decode(d, n); ok {
				*at(o) = v
			}
		},
		encode: func(o *O) *yaml.Node { return k.Encode(*at(o)) },
		schema: k.Schema,
	}
}

// Must marks a member as required.
func Must[O any](m Member[O]) Member[O] {
	m.Required = true
	return m
}

// Keys lists the names of the members, aliases included.
func (t *Table[O]) Keys() []string {
	var names []string
	for _, m := range t.Members {
		names = append(names, m.Name)
		if m.Alias != "" {
			names = append(names, m.Alias)
		}
	}
	return names
}

func (t *Table[O]) member(name string) *Member[O] {
	for i := range t.Members {
		if m := &t.Members[i]; m.Name == name || m.Alias == name && name != "" {
			return m
		}
	}
	return nil
}

// suggestion ends the message about an unknown key.
func (t *Table[O]) suggestion(d *Decoder, name string) string {
	names := t.Keys()
	if s := DidYouMean(name, names); s != "" {
		return s
	}
	if d.Borrowed != nil {
		if b := d.Borrowed(name); slices.Contains(names, b) {
			return " (did you mean " + b + "?)"
		}
	}
	return ": known are " + strings.Join(names, ", ")
}

// DecodeObject fills o from a mapping. It reports false if n is none.
func DecodeObject[O any](d *Decoder, t *Table[O], n *yaml.Node, o *O) bool {
	m := d.Enter(n)
	if m == nil {
		return false
	}
	defer d.Leave(n)
	if m.Kind != yaml.MappingNode {
		d.Errorf(d.Pos(n), "%s must be a mapping, not %s", t.What, KindName(m))
		return false
	}
	given := map[string]*yaml.Node{}
	strange := false
	for _, e := range d.Entries(m) {
		name := e.Key.Value
		mem := t.member(name)
		if mem == nil {
			d.Errorf(d.Pos(e.Key), "%s has no key %q%s", t.What, name, t.suggestion(d, name))
			strange = true
			continue
		}
		if first := given[mem.Name]; first != nil {
			d.Errorf(d.Pos(e.Key), "%q is another name of %q on line %d: give one of them", name, first.Value, first.Line)
			continue
		}
		given[mem.Name] = e.Key
		if t.Seen != nil {
			t.Seen(d, o, e)
		}
		if !IsNull(Resolved(e.Val)) {
			mem.decode(d, o, e.Val)
			continue
		}
		delete(given, mem.Name)
		if t.Absent != nil {
			t.Absent(o, mem.Name)
		}
	}
	if strange {
		// What is missing is probably there under a wrong name.
		if t.Strange != nil {
			t.Strange(o)
		}
		return true
	}
	for _, mem := range t.Members {
		if mem.Required && given[mem.Name] == nil {
			d.Errorf(d.Pos(n), "%s needs %q", t.What, mem.Name)
		}
	}
	return true
}

// EncodeObject is the mapping of o, without what is absent.
func EncodeObject[O any](t *Table[O], o *O) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, mem := range t.Members {
		if v := mem.encode(o); v != nil {
			m.Content = append(m.Content, TextNode(mem.Name), v)
		}
	}
	return m
}

// Object is a mapping with the keys of the table.
func Object[O any](t *Table[O]) Kind[*O] {
	return Kind[*O]{
		Decode: func(d *Decoder, n *yaml.Node) (*O, bool) {
			o := new(O)
			if t.Place != nil {
				t.Place(o, d.Pos(n))
			}
			return o, DecodeObject(d, t, n, o)
		},
		Encode: func(o *O) *yaml.Node {
			if o == nil {
				return nil
			}
			return EncodeObject(t, o)
		},
		Schema: t.schema(),
	}
}

// List is a sequence of values of a kind, one after the other.
func List[T any](what string, item Kind[T]) Kind[[]T] {
	return Kind[[]T]{
		Decode: func(d *Decoder, n *yaml.Node) ([]T, bool) {
			s := d.Enter(n)
			if s == nil {
				return nil, false
			}
			defer d.Leave(n)
			if s.Kind != yaml.SequenceNode {
				d.Errorf(d.Pos(n), "%s must be a list, not %s", what, KindName(s))
				return nil, false
			}
			out := make([]T, 0, len(s.Content))
			for _, c := range s.Content {
				if v := Resolved(c); IsNull(v) && v.Value == "" {
					d.Errorf(d.Pos(c), "this item of %s is empty", what)
				} else if x, ok := item.Decode(d, c); ok {
					out = append(out, x)
				}
			}
			return out, true
		},
		Encode: func(l []T) *yaml.Node {
			if l == nil {
				return nil
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
			for _, x := range l {
				s.Content = append(s.Content, item.Encode(x))
			}
			return s
		},
		Schema: Schema{"type": "array", "items": item.Schema},
	}
}

// Deref makes a list item of a kind of pointers.
func Deref[T any](k Kind[*T]) Kind[T] {
	return Kind[T]{
		Decode: func(d *Decoder, n *yaml.Node) (T, bool) {
			p, ok := k.Decode(d, n)
			if !ok || p == nil {
				var zero T
				return zero, false
			}
			return *p, true
		},
		Encode: func(v T) *yaml.Node { return k.Encode(&v) },
		Schema: k.Schema,
	}
}
