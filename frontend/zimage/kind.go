package zimage

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// kind is how values of a Go type are written in YAML.
type kind[T any] struct {
	// decode gives the value of a node that is not null, and whether it could; it has noted why not.
	decode func(d *decoder, n *yaml.Node) (T, bool)
	// encode is the opposite; nil stands for an absent value.
	encode func(T) *yaml.Node
	schema schema
}

// member is a key of the mappings that describe an O.
type member[O any] struct {
	name, doc string
	// alias is another name of the key, "" for none.
	alias    string
	required bool
	decode   func(d *decoder, o *O, n *yaml.Node)
	encode   func(o *O) *yaml.Node
	schema   schema
}

// table lists the keys of a mapping in the order in which they are written.
type table[O any] struct {
	// what the mapping is, for messages: "a step".
	what    string
	members []member[O]
	// rules are additional keywords of the schema.
	rules schema
}

// key makes the member that keeps its value where at says.
func key[O, T any](name string, k kind[T], at func(*O) *T, doc string) member[O] {
	return member[O]{
		name: name,
		doc:  doc,
		decode: func(d *decoder, o *O, n *yaml.Node) {
			if v, ok := k.decode(d, n); ok {
				*at(o) = v
			}
		},
		encode: func(o *O) *yaml.Node { return k.encode(*at(o)) },
		schema: k.schema,
	}
}

// must marks a member as required.
func must[O any](m member[O]) member[O] {
	m.required = true
	return m
}

// keys lists the names of the members, aliases included.
func (t *table[O]) keys() []string {
	var names []string
	for _, m := range t.members {
		names = append(names, m.name)
		if m.alias != "" {
			names = append(names, m.alias)
		}
	}
	return names
}

func (t *table[O]) member(name string) *member[O] {
	for i := range t.members {
		if m := &t.members[i]; m.name == name || m.alias == name && name != "" {
			return m
		}
	}
	return nil
}

// borrowed are keys of other build tools, with what they are called here.
func borrowed(name string) string {
	switch name {
	case "image", "FROM":
		return "base"
	case "environment", "envs", "ENV":
		return "env"
	case "command", "CMD":
		return "cmd"
	case "ports", "port", "EXPOSE":
		return "expose"
	case "working_dir", "workingdir", "cwd", "WORKDIR":
		return "workdir"
	case "dest", "destination", "target", "dst":
		return "to"
	case "chown":
		return "owner"
	case "mode", "permissions":
		return "chmod"
	case "label", "LABEL":
		return "labels"
	case "volume", "VOLUME":
		return "volumes"
	case "stop_signal", "STOPSIGNAL":
		return "stopsignal"
	case "build_args", "arg", "ARG":
		return "args"
	case "test":
		return "cmd"
	}
	return ""
}

// suggestion ends the message about an unknown key.
func (t *table[O]) suggestion(name string) string {
	names := t.keys()
	if s := didYouMean(name, names); s != "" {
		return s
	}
	if b := borrowed(name); slices.Contains(names, b) {
		return fmt.Sprintf(" (did you mean %s?)", b)
	}
	return ": known are " + strings.Join(names, ", ")
}

// decodeObject fills o from a mapping. It reports false if n is none.
func decodeObject[O any](d *decoder, t *table[O], n *yaml.Node, o *O) bool {
	m := d.enter(n)
	if m == nil {
		return false
	}
	defer d.leave(n)
	if m.Kind != yaml.MappingNode {
		d.errorf(d.pos(n), "%s must be a mapping, not %s", t.what, kindName(m))
		return false
	}
	given := map[string]*yaml.Node{}
	strange := false
	for _, e := range d.entries(m) {
		name := e.key.Value
		mem := t.member(name)
		if mem == nil {
			d.errorf(d.pos(e.key), "%s has no key %q%s", t.what, name, t.suggestion(name))
			strange = true
			continue
		}
		if first := given[mem.name]; first != nil {
			d.errorf(d.pos(e.key), "%q is another name of %q on line %d: give one of them", name, first.Value, first.Line)
			continue
		}
		given[mem.name] = e.key
		if k, ok := any(o).(interface{ noteKey(d *decoder, e entry) }); ok {
			k.noteKey(d, e)
		}
		if !isNull(resolved(e.val)) {
			mem.decode(d, o, e.val)
			continue
		}
		delete(given, mem.name)
		if k, ok := any(o).(interface{ forget(name string) }); ok {
			k.forget(mem.name)
		}
	}
	if strange {
		// What is missing is probably there under a wrong name.
		if k, ok := any(o).(interface{ misspelled() }); ok {
			k.misspelled()
		}
		return true
	}
	for _, mem := range t.members {
		if mem.required && given[mem.name] == nil {
			d.errorf(d.pos(n), "%s needs %q", t.what, mem.name)
		}
	}
	return true
}

// encodeObject is the mapping of o, without what is absent.
func encodeObject[O any](t *table[O], o *O) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, mem := range t.members {
		if v := mem.encode(o); v != nil {
			m.Content = append(m.Content, textNode(mem.name), v)
		}
	}
	return m
}

// object is a mapping with the keys of the table.
func object[O any](t *table[O]) kind[*O] {
	return kind[*O]{
		decode: func(d *decoder, n *yaml.Node) (*O, bool) {
			o := new(O)
			if p, ok := any(o).(interface{ place(*decoder, *yaml.Node) }); ok {
				p.place(d, n)
			}
			return o, decodeObject(d, t, n, o)
		},
		encode: func(o *O) *yaml.Node {
			if o == nil {
				return nil
			}
			return encodeObject(t, o)
		},
		schema: t.schema(),
	}
}

// list is a sequence of values of a kind, one after the other.
func list[T any](what string, item kind[T]) kind[[]T] {
	return kind[[]T]{
		decode: func(d *decoder, n *yaml.Node) ([]T, bool) {
			s := d.enter(n)
			if s == nil {
				return nil, false
			}
			defer d.leave(n)
			if s.Kind != yaml.SequenceNode {
				d.errorf(d.pos(n), "%s must be a list, not %s", what, kindName(s))
				return nil, false
			}
			out := make([]T, 0, len(s.Content))
			for _, c := range s.Content {
				if v := resolved(c); isNull(v) && v.Value == "" {
					d.errorf(d.pos(c), "this item of %s is empty", what)
				} else if x, ok := item.decode(d, c); ok {
					out = append(out, x)
				}
			}
			return out, true
		},
		encode: func(l []T) *yaml.Node {
			if l == nil {
				return nil
			}
			s := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
			for _, x := range l {
				s.Content = append(s.Content, item.encode(x))
			}
			return s
		},
		schema: schema{"type": "array", "items": item.schema},
	}
}

// deref makes a list item of a kind of pointers.
func deref[T any](k kind[*T]) kind[T] {
	return kind[T]{
		decode: func(d *decoder, n *yaml.Node) (T, bool) {
			p, ok := k.decode(d, n)
			if !ok || p == nil {
				var zero T
				return zero, false
			}
			return *p, true
		},
		encode: func(v T) *yaml.Node { return k.encode(&v) },
		schema: k.schema,
	}
}
