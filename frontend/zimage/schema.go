package zimage

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// schemaID is where the schema is published.
const schemaID = "https://raw.githubusercontent.com/zlayer-dev/zlayer/main/docs/zimagefile.schema.json"

// Schema returns the JSON Schema of ZImagefiles (draft 2020-12), for editors. It is made from the
// table that Parse uses. It knows shapes only: what Parse finds out by looking at several values
// at once, such as stages that do not exist, it lets pass.
func Schema() []byte {
	s := fileTable().schema()
	defs := schema{}
	for name, sub := range s["properties"].(schema) {
		s["properties"].(schema)[name] = hoist(sub, defs)
	}
	s["$defs"] = defs
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = schemaID
	s["title"] = "ZImagefile"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic("zimage: encoding the schema: " + err.Error())
	}
	return b.Bytes()
}

// hoist moves the descriptions of mappings to the definitions and leaves references.
func hoist(v any, defs schema) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = hoist(e, defs)
		}
		return out
	case schema:
		out := schema{}
		for k, e := range v {
			out[k] = hoist(e, defs)
		}
		if title, ok := out["title"].(string); ok {
			name := title[strings.LastIndexByte(title, ' ')+1:]
			defs[name] = out
			return schema{"$ref": "#/$defs/" + name}
		}
		return out
	}
	return v
}

// schema describes the mappings of the table.
func (t *table[O]) schema() schema {
	props := schema{}
	var required []any
	s := schema{"title": t.what, "type": "object", "additionalProperties": false, "properties": props}
	for _, m := range t.members {
		p := schema{"description": m.doc}
		if m.required {
			required = append(required, m.name)
			maps.Copy(p, m.schema)
		} else {
			// a key without a value counts as absent
			p["anyOf"] = []any{m.schema, schema{"type": "null"}}
		}
		props[m.name] = p
		if m.alias != "" {
			props[m.alias] = p
			s["not"] = schema{"required": []any{m.name, m.alias}}
		}
	}
	if required != nil {
		s["required"] = required
	}
	maps.Copy(s, t.rules)
	return s
}

// without is the schema with a type less.
func (s schema) without(typ string) schema {
	out := maps.Clone(s)
	if types, ok := out["type"].([]any); ok {
		out["type"] = slices.DeleteFunc(slices.Clone(types), func(v any) bool { return v == typ })
	}
	if of, ok := out["oneOf"].([]any); ok {
		var l []any
		for _, v := range of {
			l = append(l, v.(schema).without(typ))
		}
		out["oneOf"] = l
	}
	return out
}
