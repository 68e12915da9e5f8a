package pipeline

import (
	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// file is one pipeline file as it is written.
type file struct {
	name string // how positions call it
	path string // absolute
	dir  string // absolute; what paths in the file are relative to
	text []byte

	version   *yamlfile.String
	include   []yamlfile.String
	vars      []yamlfile.Pair
	variables []declared[variable]
	defaults  *declared[fields]
	templates []declared[template]
	images    []declared[image]
	groups    []declared[[]yamlfile.String]
	cache     *cache
	push      *push
}

// declared is an entry of a mapping from names to something.
type declared[T any] struct {
	name yamlfile.String
	// value is nil where the file has nothing.
	value *T
	// bad says that there are mistakes in it, which have been noted.
	bad bool
}

// fields are what images, templates and defaults have in common. All texts are unexpanded.
type fields struct {
	pos graph.Pos

	file, context, target, format, pull, os *yamlfile.String
	noCache, retries, push                  *yamlfile.String

	tags, platforms, dependsOn               []yamlfile.String
	buildArgs, labels, annotations, contexts []yamlfile.Pair
	cacheMounts                              []cacheMount
	secrets, outputs, cacheFrom, cacheTo     []entry
	ssh                                      []agent
}

type template struct {
	fields
	inherits []yamlfile.String
}

type image struct {
	template
	matrix  *matrix
	variant *yamlfile.String // name of the images of the matrix
}

// matrix multiplies an image, by the product of its axes or by a list of combinations.
type matrix struct {
	pos    graph.Pos
	axes   []axis
	combos [][]yamlfile.Pair
}

type axis struct {
	name   yamlfile.String
	values []yamlfile.String
}

// entry is an element of secrets, output and the like: a text of comma-separated fields, or the
// fields as a mapping.
type entry struct {
	pos   graph.Pos
	text  *yamlfile.String
	attrs []yamlfile.Pair
}

// agent is an element of ssh: ID[=PATH[,PATH]], or a mapping.
type agent struct {
	pos   graph.Pos
	text  *yamlfile.String
	id    *yamlfile.String
	paths []yamlfile.String
}

type cacheMount struct {
	pos                           graph.Pos
	target, id, sharing, readonly *yamlfile.String
}

// variable is an entry of variables.
type variable struct {
	pos         graph.Pos
	typ         *yamlfile.String
	def         *given
	pattern     *yamlfile.String
	enum        []yamlfile.String
	required    bool
	description *yamlfile.String
	secret      bool
	env         *yamlfile.String // a name; "true" is that of the variable
}

// given is a value of a variable: a text, or a list.
type given struct {
	items  []yamlfile.String // one, unless isList
	isList bool
	pos    graph.Pos
}

type cache struct {
	pos                                              graph.Pos
	typ, path, bucket, region, endpoint, prefix, ref *yamlfile.String
}

type push struct {
	pos      graph.Pos
	afterAll *yamlfile.String
}

// Parse checks the syntax of one pipeline file, without reading what it includes and without
// looking at what its parts mean to each other. [Load] does all that.
func Parse(name string, text []byte) error {
	_, mistakes, _ := parse(name, text)
	return yamlfile.Join(mistakes)
}

// parse decodes a file. It reports false if nothing is known of what is in it.
func parse(name string, text []byte) (*file, []*graph.PosError, bool) {
	f := &file{name: name, text: text}
	d := yamlfile.NewDecoder(name, text)
	d.Empty = "it needs images"
	d.Borrowed = borrowed
	ok := false
	if root := d.Document(); root != nil {
		ok = yamlfile.DecodeObject(d, fileTable(), root, f)
	}
	return f, d.Mistakes(), ok
}

// Schema returns the JSON Schema of pipeline files (draft 2020-12), for editors. It is made from the
// table that Load uses. It knows shapes only: names that do not exist, cycles and what variables
// hold it lets pass.
func Schema() []byte { return yamlfile.Published(fileTable(), schemaID, "ZPipeline") }

const schemaID = "https://raw.githubusercontent.com/zlayer-dev/zlayer/main/docs/zpipeline.schema.json"

// borrowed are keys of other tools, with what they are called here.
func borrowed(name string) string {
	switch name {
	case "target", "targets", "services", "image":
		return "images"
	case "group":
		return "groups"
	case "variable":
		return "variables"
	case "args", "arg", "build-args", "buildArgs":
		return "build_args"
	case "dockerfile", "zimagefile":
		return "file"
	case "build", "workdir", "dir":
		return "context"
	case "platform":
		return "platforms"
	case "no-cache", "nocache":
		return "no_cache"
	case "cache-from":
		return "cache_from"
	case "cache-to":
		return "cache_to"
	case "tag":
		return "tags"
	case "needs", "requires", "after", "dependencies":
		return "depends_on"
	case "extends", "inherit":
		return "inherits"
	case "secret":
		return "secrets"
	case "outputs":
		return "output"
	case "label":
		return "labels"
	case "src", "source":
		return "file"
	}
	return ""
}

// named is a mapping of names to values of a kind, in the order of the file. A name without a value
// counts if empty is set.
func named[T any](what, of string, fault func(string) string, item yamlfile.Kind[*T], empty func() *T) yamlfile.Kind[[]declared[T]] {
	schema := item.Schema
	if empty != nil {
		schema = yamlfile.Schema{"anyOf": []any{item.Schema, yamlfile.Schema{"type": "null"}}}
	}
	return yamlfile.Kind[[]declared[T]]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) ([]declared[T], bool) {
			m := d.Enter(n)
			if m == nil {
				return nil, false
			}
			defer d.Leave(n)
			if m.Kind != yaml.MappingNode {
				d.Errorf(d.Pos(n), "%s must be a mapping of names to %s, not %s", what, of, yamlfile.KindName(m))
				return nil, false
			}
			out := []declared[T]{}
			for _, e := range d.Entries(m) {
				before := len(d.Mistakes())
				name, ok := d.Scalar(e.Key, "a name in "+what)
				if !ok {
					continue
				}
				if f := fault(name.Value); f != "" {
					d.Errorf(name.Pos, "%q in %s %s", name.Value, what, f)
				}
				x := declared[T]{name: name}
				switch {
				case !yamlfile.IsNull(yamlfile.Resolved(e.Val)):
					x.value, _ = item.Decode(d, e.Val)
				case empty != nil:
					x.value = empty()
				default:
					d.Errorf(name.Pos, "%q in %s has no value", name.Value, what)
				}
				x.bad = len(d.Mistakes()) > before
				out = append(out, x)
			}
			return out, true
		},
		Schema: yamlfile.Schema{"type": "object", "additionalProperties": schema},
	}
}
