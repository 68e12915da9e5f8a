package yamlfile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/graph"
)

// thing is what the tables of these tests describe.
type thing struct {
	pos   graph.Pos
	name  *String
	on    bool
	size  *String
	words []String
	env   []Pair
	inner *thing
	keys  []string
	odd   bool
}

func thingTable(inner Kind[*thing]) *Table[thing] {
	t := &Table[thing]{What: "a thing", Members: []Member[thing]{
		Must(Key("name", Word("name"), func(t *thing) **String { return &t.name }, "Name.")),
		Key("on", Boolean("on"), func(t *thing) *bool { return &t.on }, "Whether."),
		Key("size", Natural("size"), func(t *thing) **String { return &t.size }, "Size."),
		Key("words", OneOrMore("words"), func(t *thing) *[]String { return &t.words }, "Words."),
		Key("env", Mapping("env", VariableName), func(t *thing) *[]Pair { return &t.env }, "Variables."),
	}}
	if inner.Decode != nil {
		t.Members = append(t.Members, Key("inner", inner, func(t *thing) **thing { return &t.inner }, "Inner."))
	}
	t.Place = func(t *thing, pos graph.Pos) { t.pos = pos }
	t.Seen = func(_ *Decoder, t *thing, e Entry) { t.keys = append(t.keys, e.Key.Value) }
	t.Absent = func(t *thing, name string) { t.keys = append(t.keys, "-"+name) }
	t.Strange = func(t *thing) { t.odd = true }
	return t
}

func decodeThing(text string) (*thing, *Decoder) {
	d := NewDecoder("f", []byte(text))
	d.Empty = "it needs a thing"
	d.Borrowed = func(name string) string { return map[string]string{"title": "name"}[name] }
	o := &thing{}
	if root := d.Document(); root != nil {
		DecodeObject(d, thingTable(Object(thingTable(Kind[*thing]{}))), root, o)
	}
	return o, d
}

func TestDecode(t *testing.T) {
	o, d := decodeThing("name: 1.10\non: yes\nsize:\nwords: one\nenv: {A: 010, B: ~}\ninner:\n  words: [a, b]\n  name: x\n")
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(o.name.Value, o.on, o.size, o.words[0].Value, o.env[0].Value.Value, o.env[1].Value.Value, o.inner.words[1], o.inner.pos.Line, o.keys)
	if want := "1.10 true <nil> one 010 ~ {b f:7:14} 7 [name on size -size words env inner]\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "f:1: the file is empty: it needs a thing"},
		{"~", "f:1:1: the file is empty: it needs a thing"},
		{"a: b: c", "f:1: reading YAML: mapping values are not allowed in this context"},
		{"name: x\n---\nname: y", "f:2: a second YAML document begins here: a build file is one document"},
		{"name: \xff", "f:1:7: the file is not UTF-8 text: save it as UTF-8"},
		{"[]", "f:1:1: a thing must be a mapping, not a list"},
		{"on: true", `f:1:1: a thing needs "name"`},
		{"naem: x", `f:1:1: a thing has no key "naem" (did you mean name?)`},
		{"title: x", `f:1:1: a thing has no key "title" (did you mean name?)`},
		{"zzz: x", `f:1:1: a thing has no key "zzz": known are name, on, size, words, env, inner`},
		{"name: x\nname: y", `f:2:1: "name" is given twice, first on line 1`},
		{"name: [x]\non: maybe\nsize: -1", "f:1:7: name must be a single value, not a list\nf:2:5: on must be true or false, not \"maybe\"\nf:3:7: size must be a whole number, not \"-1\""},
		{"name: x\nwords: []", "f:2:8: words must not be an empty list"},
		{"name: x\nenv: {a=b: 1}", `f:2:7: "a=b" in env must not contain =`},
		{"name: !x y", "f:1:7: the tag !x has no meaning here"},
		{"name: &a x\ninner: &b\n  name: y\n  env: *b", `the anchor *b contains itself`},
	} {
		_, d := decodeThing(c.text)
		if err := d.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
	if o, _ := decodeThing("bogus: 1\n"); !o.odd {
		t.Error("nothing is told of a key that does not exist")
	}
}

func TestMergeKeys(t *testing.T) {
	o, d := decodeThing("name: x\ninner: &i {name: a, on: true}\nenv:\n  <<: [{A: 1, B: 1}, {B: 2, C: 2}]\n  A: 0\n")
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range o.env {
		got = append(got, p.Key.Value+"="+p.Value.Value)
	}
	if diff := cmp.Diff([]string{"A=0", "B=1", "C=2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJoin(t *testing.T) {
	at := func(file string, line int, text string) *graph.PosError {
		return &graph.PosError{Pos: graph.Pos{File: file, Line: line}, Err: fmt.Errorf("%s", text)}
	}
	err := Join([]*graph.PosError{at("b", 2, "x"), at("a", 1, "y"), at("b", 1, "z"), at("b", 2, "x")})
	if want := "b:1: z\nb:2: x\na:1: y"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if Join(nil) != nil {
		t.Error("no mistakes make an error")
	}
	if n := len(Errors(fmt.Errorf("reading: %w", err))); n != 3 {
		t.Errorf("got %d mistakes, want 3", n)
	}
}

func TestPublished(t *testing.T) {
	dt := Published(thingTable(Object(thingTable(Kind[*thing]{}))), "id", "Thing")
	var s struct {
		ID         string                     `json:"$id"`
		Required   []string                   `json:"required"`
		Properties map[string]json.RawMessage `json:"properties"`
		Defs       map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(dt, &s); err != nil {
		t.Fatal(err)
	}
	if s.ID != "id" || len(s.Required) != 1 || len(s.Properties) != 6 || s.Defs["thing"] == nil || !strings.Contains(string(s.Properties["inner"]), "#/$defs/thing") {
		t.Errorf("got %s", dt)
	}
}

// FuzzDecode: mistakes have a place in the file, and what decodes can be written and decodes again.
func FuzzDecode(f *testing.F) {
	f.Add("name: x\nwords: [a, b]\n")
	f.Add("name: &a x\ninner: {name: *a, <<: {on: yes}}\n")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		o, d := decodeThing(text)
		if err := d.Err(); err != nil {
			for _, e := range Errors(err) {
				if e.Pos.File != "f" || e.Pos.Line < 1 || e.Pos.Line > 1+strings.Count(text, "\n") {
					t.Errorf("%v is not a place in the file", e)
				}
			}
			return
		}
		table := thingTable(Object(thingTable(Kind[*thing]{})))
		written, err := yaml.Marshal(EncodeObject(table, o))
		if err != nil {
			t.Fatal(err)
		}
		again, d := decodeThing(string(written))
		if err := d.Err(); err != nil {
			t.Fatalf("what was written does not decode: %v\n%s", err, written)
		}
		rewritten, err := yaml.Marshal(EncodeObject(table, again))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(written), string(rewritten)); diff != "" {
			t.Errorf("written, decoded, written (-want +got):\n%s", diff)
		}
	})
}
