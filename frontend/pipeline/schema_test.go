package pipeline

import (
	"testing"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile/yamlfiletest"
)

func TestSchemaIsPublished(t *testing.T) {
	golden(t, "../../docs/zpipeline.schema.json", string(Schema()))
}

// TestSchemaAgrees validates every case with the schema. What Parse takes, the schema takes; what
// Parse refuses for its shape, the schema refuses.
func TestSchemaAgrees(t *testing.T) {
	checked := 0
	for _, c := range append(goldenCases(t), shapes()...) {
		value, ok := yamlfiletest.Value(c.text)
		if !ok {
			continue // not YAML
		}
		checked++
		err := Parse(c.name, c.text)
		if invalid := yamlfiletest.Validate(Schema(), value); (err == nil) != (invalid == nil) {
			t.Errorf("%s: Parse says %v, the schema %v", c.name, err, invalid)
		}
	}
	if checked < 80 {
		t.Errorf("only %d cases could be checked", checked)
	}
}

// shapes are files with one thing each that is right or wrong for its shape.
func shapes() []goldenCase {
	image := func(s string) string { return "images: {a: {" + s + "}}" }
	var out []goldenCase
	for _, s := range []string{
		"version: 1", `version: "1"`, "version: 2", "version:", "images:", "images: []", "images: {a: }", "images: {a: 1}", "images: {a: {x: y}}",
		"include: a", "include: [a]", "include: []", "include: {a: b}", "vars: {A: 1, B: true, C: }", "vars: {A: [b]}",
		"variables: {A: }", "variables: {A: {default: [1, x]}}", "variables: {A: {default: ''}}", "variables: {A: {default: {}}}",
		"variables: {A: {type: bool, env: true}}", "variables: {A: {type: Bool}}", "variables: {A: {required: yes, enum: [a], pattern: x}}", "variables: {A: {required: 1}}",
		"defaults: {}", "defaults: {inherits: a}", "defaults: 1", "templates: {t: {inherits: [a, b]}}", "templates: {t: {matrix: {A: 1}}}",
		"groups: {g: [a]}", "groups: {g: a}", "groups: {g: }", "groups: {g: []}", "cache: {type: memory}", "cache: {}", "cache: {type: redis}", "cache: {type: '${X}'}",
		"push: {after_all: true}", "push: {after_all: '${X}'}", "push: {after_all: 1}", "push: true",
		image("tags: a"), image("tags: [a, b]"), image("tags: []"), image("tags: ''"), image("tags: {}"), image("tags: [[a]]"),
		image("file: a, context: b, target: c"), image("file: [a]"), image("file: ''"),
		image("format: oci"), image("format: OCI"), image("format: '${F}'"), image("os: linux"), image("os: plan9"),
		image("pull: true"), image("pull: always"), image("pull: often"), image("no_cache: yes"), image("no_cache: 'Off'"), image("no_cache: 0"),
		image("retries: 3"), image("retries: '3'"), image("retries: -1"), image("retries: 1.5"), image("retries: many"), image("retries: '${N}'"),
		image("build_args: {A: 1, B: }"), image("build_args: [A=1]"), image("labels: {a: true}"), image("contexts: {a: b}"), image("contexts: a"),
		image("cache_mounts: /a"), image("cache_mounts: [/a, {target: /b, id: x, sharing: shared, readonly: true}]"), image("cache_mounts: {id: a}"), image("cache_mounts: {target: /a, mode: 1}"),
		image("secrets: id=a"), image("secrets: [{id: a, file: b}]"), image("secrets: {id: a, path: b}"), image("secrets: {}"), image("secrets: []"),
		image("ssh: default"), image("ssh: [default, {id: a, paths: [b]}]"), image("ssh: {paths: a}"), image("ssh: {id: a, paths: }"),
		image("output: out"), image("output: {type: oci, dest: a, force: true}"), image("output: [{}]"), image("output: {type: [oci]}"),
		image("matrix: {A: [1, 2], B: x}"), image("matrix: [{A: 1}]"), image("matrix: []"), image("matrix: {}"), image("matrix: 1"), image("matrix: {A: {}}"), image("matrix: {A: ['']}"),
		image("inherits: a, name: b"), image("inherits: []"), image("inherits: ''"),
	} {
		out = append(out, goldenCase{name: s, text: []byte(s)})
	}
	return out
}
