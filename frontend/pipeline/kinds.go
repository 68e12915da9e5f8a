package pipeline

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// rule is what a text must be when its variables are expanded.
type rule struct {
	// fault says what a value is not, "" if it is right.
	fault func(string) string
	// schema describes the values.
	schema yamlfile.Schema
}

// word is a text in which variables are expanded. One without variables is checked at once.
func word(what string, r rule) yamlfile.Kind[*text] {
	k := yamlfile.Word(what)
	schema := k.Schema
	if r.schema != nil {
		schema = yamlfile.Schema{"anyOf": []any{r.schema, yamlfile.Schema{"type": "string", "pattern": `\$`}}}
	}
	return yamlfile.Kind[*text]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*text, bool) {
			s, ok := k.Decode(d, n)
			if ok && r.fault != nil && !strings.Contains(s.Value, "$") {
				if f := r.fault(s.Value); f != "" {
					d.Errorf(s.Pos, "%s %s, not %q", what, f, s.Value)
					return nil, false
				}
			}
			return s, ok
		},
		Schema: schema,
	}
}

// oneOf is one of the options.
func oneOf(options ...string) rule {
	enum := make([]any, len(options))
	for i, o := range options {
		enum[i] = o
	}
	return rule{func(s string) string {
		if slices.Contains(options, s) {
			return ""
		}
		return "must be one of " + strings.Join(options, ", ")
	}, yamlfile.Schema{"enum": enum}}
}

// boolean is a truth value.
func boolean() rule {
	return rule{func(s string) string {
		if _, ok := truth(s); !ok {
			return "must be true or false"
		}
		return ""
	}, yamlfile.Schema{"oneOf": []any{
		yamlfile.Schema{"type": "boolean"},
		yamlfile.Schema{"type": "string", "pattern": "^([tT][rR][uU][eE]|[yY][eE][sS]|[oO][nN]|[fF][aA][lL][sS][eE]|[nN][oO]|[oO][fF][fF])$"},
	}}}
}

// truth reads a boolean as YAML 1.1 spells it.
func truth(s string) (v, ok bool) {
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

// natural is a whole number that is not negative.
func natural() rule {
	return rule{func(s string) string {
		if v, err := strconv.ParseUint(s, 10, 31); err != nil || strconv.FormatUint(v, 10) != s {
			return "must be a whole number"
		}
		return ""
	}, yamlfile.Schema{"type": []any{"integer", "string"}, "minimum": 0, "pattern": "^(0|[1-9][0-9]*)$"}}
}

// pullMode is when base images are looked up; true and false are for users of other tools.
func pullMode() rule {
	return rule{func(s string) string {
		if !slices.Contains([]string{"always", "newer", "never", "true", "false"}, s) {
			return "must be always, newer or never"
		}
		return ""
	}, yamlfile.Schema{"enum": []any{"always", "newer", "never", true, false}}}
}

var imageName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// nameFault finds fault with the name of an image, a template or a group.
func nameFault(name string) string {
	if !imageName().MatchString(name) {
		return "is no name: it must have letters, digits, dots, dashes and underscores only, and begin with a letter or digit"
	}
	return ""
}

func contextNameFault(name string) string {
	if name == "" || strings.ContainsAny(name, " \t\r\n=") {
		return "is no name of a context"
	}
	return ""
}

func annotationFault(name string) string {
	if name == "" || strings.ContainsAny(name, " \t\r\n=") {
		return "is no name of an annotation"
	}
	return ""
}

// texts is a text or a list of texts.
func texts(what string) yamlfile.Kind[[]text] { return oneOrMore(what, yamlfile.Item(what, true)) }

// oneOrMore is a value of a kind, or a list of such values, which may be empty.
func oneOrMore[T any](what string, item yamlfile.Kind[T]) yamlfile.Kind[[]T] {
	many := yamlfile.List(what, item)
	return yamlfile.Kind[[]T]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) ([]T, bool) {
			if yamlfile.Resolved(n).Kind == yaml.SequenceNode {
				return many.Decode(d, n)
			}
			v, ok := item.Decode(d, n)
			return []T{v}, ok
		},
		Schema: yamlfile.Schema{"oneOf": []any{item.Schema, many.Schema}},
	}
}

// pointer makes a kind of values one of pointers to them.
func pointer[T any](k yamlfile.Kind[T]) yamlfile.Kind[*T] {
	return yamlfile.Kind[*T]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*T, bool) {
			v, ok := k.Decode(d, n)
			return &v, ok
		},
		Schema: k.Schema,
	}
}

// watched tells whether there were mistakes in a value.
func watched[T any](k yamlfile.Kind[*T]) yamlfile.Kind[*declared[T]] {
	return yamlfile.Kind[*declared[T]]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*declared[T], bool) {
			before := len(d.Mistakes())
			v, _ := k.Decode(d, n)
			return &declared[T]{value: v, bad: len(d.Mistakes()) > before}, true
		},
		Schema: k.Schema,
	}
}

// givens is a text, which may be empty, or a list of texts.
func givens(what string) yamlfile.Kind[*given] {
	item := yamlfile.Item(what, false)
	many := yamlfile.List(what, item)
	return yamlfile.Kind[*given]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*given, bool) {
			g := &given{pos: d.Pos(n), isList: yamlfile.Resolved(n).Kind == yaml.SequenceNode}
			var ok bool
			if g.isList {
				g.items, ok = many.Decode(d, n)
				return g, ok
			}
			one, ok := item.Decode(d, n)
			g.items = []text{one}
			return g, ok
		},
		Schema: yamlfile.Schema{"oneOf": []any{item.Schema, many.Schema}},
	}
}

// mounts is a cache mount: its path, or a mapping.
func mounts() yamlfile.Kind[cacheMount] {
	short := word("target", rule{})
	long := yamlfile.Deref(yamlfile.Object(&yamlfile.Table[cacheMount]{What: "a cache mount", Members: []yamlfile.Member[cacheMount]{
		yamlfile.Must(yamlfile.Key("target", short, func(m *cacheMount) **text { return &m.target }, "Path in the image.")),
		yamlfile.Key("id", word("id", rule{}), func(m *cacheMount) **text { return &m.id }, "Name of the cache; the path by default."),
		yamlfile.Key("sharing", word("sharing", oneOf("locked", "shared", "private")), func(m *cacheMount) **text { return &m.sharing },
			"Who may use the directory at the same time: locked (one command after the other, the default), shared, or private."),
		yamlfile.Key("readonly", word("readonly", boolean()), func(m *cacheMount) **text { return &m.readonly }, "Commands must not write to it."),
	}}))
	return yamlfile.Kind[cacheMount]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (cacheMount, bool) {
			var m cacheMount
			var ok bool
			if yamlfile.Resolved(n).Kind == yaml.ScalarNode {
				m.target, ok = short.Decode(d, n)
			} else {
				m, ok = long.Decode(d, n)
			}
			m.pos = d.Pos(n)
			return m, ok
		},
		Schema: yamlfile.Schema{"oneOf": []any{short.Schema, long.Schema}},
	}
}

// agents is an SSH agent: ID[=PATH[,PATH...]], or a mapping.
func agents() yamlfile.Kind[agent] {
	short := word("ssh", rule{})
	long := yamlfile.Deref(yamlfile.Object(&yamlfile.Table[agent]{What: "an agent", Members: []yamlfile.Member[agent]{
		yamlfile.Must(yamlfile.Key("id", word("id", rule{}), func(a *agent) **text { return &a.id }, "Id of the agent.")),
		yamlfile.Key("paths", texts("paths"), func(a *agent) *[]text { return &a.paths }, "Sockets or private keys; the user's agent by default."),
	}}))
	return yamlfile.Kind[agent]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (agent, bool) {
			var a agent
			var ok bool
			if yamlfile.Resolved(n).Kind == yaml.ScalarNode {
				a.text, ok = short.Decode(d, n)
			} else {
				a, ok = long.Decode(d, n)
			}
			a.pos = d.Pos(n)
			return a, ok
		},
		Schema: yamlfile.Schema{"oneOf": []any{short.Schema, long.Schema}},
	}
}

// entries is an entry or a list of entries. known are the keys they have; nil is any.
func entries(what string, known []string) yamlfile.Kind[[]entry] {
	return oneOrMore(what, attributes(what, known))
}

// attributes is a text of comma-separated fields, or the fields as a mapping.
func attributes(what string, known []string) yamlfile.Kind[entry] {
	short := word(what, rule{})
	long := yamlfile.Mapping(what, func(key string) string {
		switch {
		case key == "" || strings.ContainsAny(key, "=,\"\n"):
			return "is no key"
		case known != nil && !slices.Contains(known, key):
			return "does not exist" + suggestion(key, known)
		}
		return ""
	})
	values := yamlfile.Schema{"type": []any{"string", "number", "boolean"}}
	schema := yamlfile.Schema{"type": "object", "minProperties": 1, "additionalProperties": values}
	if known != nil {
		props := yamlfile.Schema{}
		for _, k := range known {
			props[k] = values
		}
		schema["properties"], schema["additionalProperties"] = props, false
	}
	return yamlfile.Kind[entry]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (entry, bool) {
			e := entry{pos: d.Pos(n)}
			var ok bool
			if yamlfile.Resolved(n).Kind == yaml.ScalarNode {
				e.text, ok = short.Decode(d, n)
				return e, ok
			}
			before := len(d.Mistakes())
			if e.attrs, ok = long.Decode(d, n); !ok {
				return e, false
			}
			if len(e.attrs) == 0 && len(d.Mistakes()) == before {
				d.Errorf(e.pos, "this entry of %s is empty", what)
			}
			return e, true
		},
		Schema: yamlfile.Schema{"oneOf": []any{short.Schema, schema}},
	}
}

// suggestion ends the message about a key that is none of the known.
func suggestion(key string, known []string) string {
	if s := yamlfile.DidYouMean(key, known); s != "" {
		return s
	}
	return ": known are " + strings.Join(known, ", ")
}

// matrices is a matrix: axes with their values, or a list of combinations.
func matrices() yamlfile.Kind[*matrix] {
	values := oneOrMore("the values of a matrix", yamlfile.Item("the values of a matrix", false))
	combos := yamlfile.List("matrix", yamlfile.Mapping("a combination of matrix", variableFault))
	return yamlfile.Kind[*matrix]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*matrix, bool) {
			m := &matrix{pos: d.Pos(n)}
			node := d.Enter(n)
			if node == nil {
				return nil, false
			}
			defer d.Leave(n)
			switch node.Kind {
			case yaml.SequenceNode:
				m.combos, _ = combos.Decode(d, n)
			case yaml.MappingNode:
				m.axes = axes(d, node, values)
			default:
				d.Errorf(m.pos, "matrix must be a mapping of names to lists of values, or a list of combinations, not %s", yamlfile.KindName(node))
				return nil, false
			}
			if len(node.Content) == 0 {
				d.Errorf(m.pos, "matrix must not be empty")
			}
			return m, true
		},
		Schema: yamlfile.Schema{"oneOf": []any{
			yamlfile.Schema{"type": "object", "minProperties": 1, "additionalProperties": values.Schema},
			yamlfile.Schema{"type": "array", "minItems": 1, "items": yamlfile.Schema{"type": "object", "minProperties": 1, "additionalProperties": yamlfile.StringSchema()}},
		}},
	}
}

func axes(d *yamlfile.Decoder, m *yaml.Node, values yamlfile.Kind[[]text]) []axis {
	var out []axis
	for _, e := range d.Entries(m) {
		name, ok := d.Scalar(e.Key, "a name in matrix")
		if !ok {
			continue
		}
		if f := variableFault(name.Value); f != "" {
			d.Errorf(name.Pos, "%q in matrix %s", name.Value, f)
			continue
		}
		if yamlfile.IsNull(yamlfile.Resolved(e.Val)) {
			d.Errorf(name.Pos, "%q in matrix has no values", name.Value)
			continue
		}
		if l, ok := values.Decode(d, e.Val); ok {
			out = append(out, axis{name: name, values: l})
		}
	}
	return out
}
