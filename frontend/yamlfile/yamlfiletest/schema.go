// Package yamlfiletest is for tests of build files in YAML: golden files, and validation of documents
// against the schemas that yamlfile makes.
package yamlfiletest

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// Value gives a YAML document as a JSON validator sees it.
func Value(text []byte) (any, bool) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil || len(n.Content) == 0 {
		return nil, false
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, false
	}
	return plainValue(v)
}

func plainValue(v any) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			var ok bool
			if v[k], ok = plainValue(v[k]); !ok {
				return nil, false
			}
		}
		return v, true
	case map[any]any:
		out := map[string]any{}
		for k, e := range v {
			p, ok := plainValue(e)
			if !ok {
				return nil, false
			}
			out[fmt.Sprint(k)] = p
		}
		return out, true
	case []any:
		for i := range v {
			var ok bool
			if v[i], ok = plainValue(v[i]); !ok {
				return nil, false
			}
		}
		return v, true
	case int, int64, uint64:
		return float64(reflect.ValueOf(v).Convert(reflect.TypeFor[float64]()).Float()), true
	case string, bool, float64, nil:
		return v, true
	}
	return fmt.Sprint(v), true // timestamps
}

// Validate checks a value of [Value] against a JSON Schema. It knows as much of JSON Schema as our
// schemas need, and fails on keywords that it does not know.
func Validate(schema []byte, v any) error {
	var s map[string]any
	if err := json.Unmarshal(schema, &s); err != nil {
		return err
	}
	return (&validator{s}).validate(s, v, "")
}

// validator is as much of a JSON Schema validator as the schema needs; it fails on keywords
// that it does not know.
type validator struct{ root map[string]any }

func (x *validator) validate(s map[string]any, v any, at string) error {
	for keyword, arg := range s {
		if err := x.keyword(s, keyword, arg, v, at); err != nil {
			return err
		}
	}
	return nil
}

func (x *validator) keyword(s map[string]any, keyword string, arg, v any, at string) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s: %s", at, keyword, fmt.Sprintf(format, args...))
	}
	object, isObject := v.(map[string]any)
	array, isArray := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	switch keyword {
	case "$schema", "$id", "$defs", "title", "description":
	case "$ref":
		def, ok := x.root["$defs"].(map[string]any)[strings.TrimPrefix(arg.(string), "#/$defs/")].(map[string]any)
		if !ok {
			return fail("%v does not exist", arg)
		}
		return x.validate(def, v, at)
	case "type":
		if !hasType(arg, v) {
			return fail("%v is not %v", v, arg)
		}
	case "enum":
		for _, e := range arg.([]any) {
			if e == v || v != nil && fmt.Sprint(e) == fmt.Sprint(v) {
				return nil
			}
		}
		return fail("%v is not one of %v", v, arg)
	case "pattern":
		if isText && !regexp.MustCompile(arg.(string)).MatchString(text) {
			return fail("%q", text)
		}
	case "minLength":
		if isText && float64(len(text)) < arg.(float64) {
			return fail("%q", text)
		}
	case "minimum":
		if isNumber && number < arg.(float64) {
			return fail("%v", number)
		}
	case "maximum":
		if isNumber && number > arg.(float64) {
			return fail("%v", number)
		}
	case "minItems":
		if isArray && float64(len(array)) < arg.(float64) {
			return fail("%v", array)
		}
	case "minProperties":
		if isObject && float64(len(object)) < arg.(float64) {
			return fail("%v", object)
		}
	case "items":
		for i, e := range array {
			if err := x.validate(arg.(map[string]any), e, fmt.Sprintf("%s/%d", at, i)); err != nil {
				return err
			}
		}
	case "required":
		for _, name := range arg.([]any) {
			if _, ok := object[name.(string)]; isObject && !ok {
				return fail("no %v", name)
			}
		}
	case "properties":
		for name, sub := range arg.(map[string]any) {
			if e, ok := object[name]; ok {
				if err := x.validate(sub.(map[string]any), e, at+"/"+name); err != nil {
					return err
				}
			}
		}
	case "additionalProperties":
		props, _ := s["properties"].(map[string]any)
		for name, e := range object {
			if _, known := props[name]; known {
				continue
			}
			if allowed, isBool := arg.(bool); isBool && !allowed {
				return fail("%s", name)
			}
			if err := x.validate(arg.(map[string]any), e, at+"/"+name); err != nil {
				return err
			}
		}
	case "not":
		if x.validate(arg.(map[string]any), v, at) == nil {
			return fail("%v", v)
		}
	case "allOf", "anyOf", "oneOf":
		matches := 0
		var last error
		for _, sub := range arg.([]any) {
			if err := x.validate(sub.(map[string]any), v, at); err == nil {
				matches++
			} else {
				last = err
			}
		}
		switch {
		case keyword == "allOf" && matches < len(arg.([]any)), keyword == "anyOf" && matches == 0, keyword == "oneOf" && matches != 1:
			return fail("%d match; %v", matches, last)
		}
	default:
		return fail("unknown keyword")
	}
	return nil
}

func hasType(arg, v any) bool {
	if list, ok := arg.([]any); ok {
		for _, t := range list {
			if hasType(t, v) {
				return true
			}
		}
		return false
	}
	switch v := v.(type) {
	case nil:
		return arg == "null"
	case bool:
		return arg == "boolean"
	case string:
		return arg == "string"
	case float64:
		return arg == "number" || arg == "integer" && v == math.Trunc(v)
	case []any:
		return arg == "array"
	case map[string]any:
		return arg == "object"
	}
	return false
}
