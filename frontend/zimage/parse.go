package zimage

import (
	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// schemaID is where the schema is published.
const schemaID = "https://raw.githubusercontent.com/zlayer-dev/zlayer/main/docs/zimagefile.schema.json"

// Schema returns the JSON Schema of ZImagefiles (draft 2020-12), for editors. It is made from the
// table that Parse uses. It knows shapes only: what Parse finds out by looking at several values
// at once, such as stages that do not exist, it lets pass.
func Schema() []byte { return yamlfile.Published(fileTable(), schemaID, "ZImagefile") }

// Parse decodes and checks a ZImagefile. name is how positions call it. A file with mistakes gives
// an error that holds all of them, see [yamlfile.Errors].
//
// The text has to be UTF-8, with or without byte order mark, with any kind of line ends, and hold
// one YAML document. Scalars mean what is written: "3000", "1.10", "yes" and "0755" are texts
// where a text is meant. A field that is null (or has no value) counts as absent. Anchors, aliases
// and merge keys work as in YAML 1.1; keys that stand twice in one mapping are mistakes.
func Parse(name string, text []byte) (*File, error) { return ParseVars(name, text, nil) }

// ParseVars is [Parse] of a text in which ${NAME} stands for the value of a variable, in every key
// and value, before anything else is made of it. Names that are not in vars, other forms such as
// ${NAME:-x}, and what is escaped ($${NAME}, \${NAME}) stay as they are. Values are texts: whatever
// is in them, the structure of the file stays as it is written.
func ParseVars(name string, text []byte, vars map[string]string) (*File, error) {
	d := newDecoder(name, text)
	if len(vars) > 0 {
		d.Expand = func(s string) string { return replaceVars(s, vars) }
	}
	root := d.Document()
	if root == nil {
		return nil, d.Err()
	}
	f := &File{Name: name, Text: text}
	if yamlfile.DecodeObject(d.Decoder, fileTable(), root, f) {
		d.validate(f)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

// decoder is the decoder of a file with what the checks of names need.
type decoder struct {
	*yamlfile.Decoder
	index *stageIndex
	near  map[string]string
}

func newDecoder(name string, text []byte) *decoder {
	d := &decoder{Decoder: yamlfile.NewDecoder(name, text)}
	d.Empty = "it needs one of runtime, base, build, stages or wasm"
	d.Borrowed = borrowed
	return d
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

// remember has the keys of the table's mappings kept where at says.
func remember[O any](t *yamlfile.Table[O], at func(*O) *keyed) *yamlfile.Table[O] {
	t.Seen = func(d *yamlfile.Decoder, o *O, e yamlfile.Entry) { at(o).seen(e.Key.Value, d.Pos(e.Key)) }
	t.Absent = func(o *O, name string) { delete(at(o).keys, name) }
	t.Strange = func(o *O) { at(o).strange = true }
	return t
}

// noteStep takes the action's key for the place of the step.
func noteStep(d *yamlfile.Decoder, s *Step, e yamlfile.Entry) {
	s.seen(e.Key.Value, d.Pos(e.Key))
	end := max(s.Pos.EndLine, d.Span(e.Key, e.Val).EndLine)
	switch e.Key.Value {
	case "run", "copy", "add":
		s.Pos = d.Pos(e.Key)
	case "env", "workdir", "user":
		if len(s.keys) == 1 {
			s.Pos = d.Pos(e.Key)
		}
	}
	s.Pos.EndLine = end
	if s.Pos.EndLine <= s.Pos.Line {
		s.Pos.EndLine = 0
	}
}

// insertAfter adds a member behind the one of the name.
func insertAfter[O any](t *yamlfile.Table[O], name string, m yamlfile.Member[O]) {
	for i := range t.Members {
		if t.Members[i].Name == name {
			t.Members = append(t.Members[:i+1], append([]yamlfile.Member[O]{m}, t.Members[i+1:]...)...)
			return
		}
	}
	panic("zimage: no member " + name)
}
