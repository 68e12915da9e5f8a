package yamlfile

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Schema is a JSON Schema, or a part of one.
type Schema map[string]any

// Published renders the schema of a table as a document (JSON Schema draft 2020-12). id is where it
// is published.
func Published[O any](t *Table[O], id, title string) []byte {
	s := t.schema()
	defs := Schema{}
	for name, sub := range s["properties"].(Schema) {
		s["properties"].(Schema)[name] = hoist(sub, defs)
	}
	s["$defs"] = defs
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = id
	s["title"] = title
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic("yamlfile: encoding the schema: " + err.Error())
	}
	return b.Bytes()
}

// hoist moves the descriptions of mappings to the definitions and leaves references.
func hoist(v any, defs Schema) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = hoist(e, defs)
		}
		return out
	case Schema:
		out := Schema{}
		for k, e := range v {
			out[k] = hoist(e, defs)
		}
		if title, ok := out["title"].(string); ok {
			name := title[strings.LastIndexByte(title, ' ')+1:]
			if other, ok := defs[name].(Schema); ok && other["title"] != title {
				panic("yamlfile: two tables are called " + name)
			}
			defs[name] = out
			return Schema{"$ref": "#/$defs/" + name}
		}
		return out
	}
	return v
}

// schema describes the mappings of the table.
func (t *Table[O]) schema() Schema {
	props := Schema{}
	var required []any
	s := Schema{"title": t.What, "type": "object", "additionalProperties": false, "properties": props}
	for _, m := range t.Members {
		p := Schema{"description": m.Doc}
		if m.Required {
			required = append(required, m.Name)
			maps.Copy(p, m.schema)
		} else {
			// a key without a value counts as absent
			p["anyOf"] = []any{m.schema, Schema{"type": "null"}}
		}
		props[m.Name] = p
		if m.Alias != "" {
			props[m.Alias] = p
			s["not"] = Schema{"required": []any{m.Name, m.Alias}}
		}
	}
	if required != nil {
		s["required"] = required
	}
	maps.Copy(s, t.Rules)
	return s
}

// Without is the schema with a type less.
func (s Schema) Without(typ string) Schema {
	out := maps.Clone(s)
	if types, ok := out["type"].([]any); ok {
		out["type"] = slices.DeleteFunc(slices.Clone(types), func(v any) bool { return v == typ })
	}
	if of, ok := out["oneOf"].([]any); ok {
		var l []any
		for _, v := range of {
			l = append(l, v.(Schema).Without(typ))
		}
		out["oneOf"] = l
	}
	return out
}
