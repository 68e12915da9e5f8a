package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// variables are the variables of a pipeline while they are evaluated.
type variables struct {
	*loader
	decls  map[string]*declaration
	values map[string]value
	order  []string
	// evaluating is the chain of variables that refer to each other.
	evaluating []string
	lookupEnv  func(string) (string, bool)
	sorted     []string // names, for suggestions
}

// declaration is a variable as a file declares it, in one of the two ways.
type declaration struct {
	name  text
	plain *text     // of vars
	rules *variable // of variables
	set   *string   // given by the caller
	bad   bool
}

// declare gathers the variables of all files. Two of a name are a mistake.
func (v *variables) declare() {
	v.decls, v.values = map[string]*declaration{}, map[string]value{}
	add := func(d *declaration) {
		if first := v.decls[d.name.Value]; first != nil {
			v.errorf(d.name.Pos, "variable %s is declared twice, first at %s", d.name.Value, first.name.Pos)
			return
		}
		v.decls[d.name.Value] = d
		v.order = append(v.order, d.name.Value)
	}
	for _, f := range v.files {
		for i := range f.vars {
			add(&declaration{name: f.vars[i].Key, plain: &f.vars[i].Value})
		}
		for i := range f.variables {
			d := &f.variables[i]
			add(&declaration{name: d.name, rules: d.value, bad: d.bad || d.value == nil})
		}
	}
	v.sorted = slices.Sorted(maps.Keys(v.decls))
}

// assign keeps the value that the caller gives a variable.
func (v *variables) assign(name, val string) {
	d := v.decls[name]
	if d == nil {
		more := yamlfile.DidYouMean(name, v.sorted)
		if more == "" {
			more = ": declare it under vars"
		}
		v.errorf(setPos(name), "there is no variable %s%s", name, more)
		return
	}
	d.set = &val
}

// setPos is the place of an assignment on the command line. Its value may be secret.
func setPos(key string) graph.Pos { return graph.Pos{File: "--set " + key} }

// evaluate gives every variable its value.
func (v *variables) evaluate() {
	for _, name := range v.order {
		v.look(name)
	}
}

// look gives the value of a variable, which is evaluated when it is first asked for.
func (v *variables) look(name string) (value, bool) {
	if val, ok := v.values[name]; ok {
		return val, true
	}
	d := v.decls[name]
	if d == nil {
		return value{}, false
	}
	if i := slices.Index(v.evaluating, name); i >= 0 {
		chain := append(slices.Clone(v.evaluating[i:]), name)
		first := v.decls[slices.Min(v.evaluating[i:])]
		v.errorf(first.name.Pos, "the value of variable %s needs itself: %s", first.name.Value, strings.Join(chain, " -> "))
		for _, n := range v.evaluating[i:] {
			v.decls[n].bad = true
		}
		return value{broken: true}, true
	}
	v.evaluating = append(v.evaluating, name)
	val := v.value(d)
	v.evaluating = v.evaluating[:len(v.evaluating)-1]
	val.broken = val.broken || d.bad
	v.values[name] = val
	return val, true
}

// value evaluates a declaration.
func (v *variables) value(d *declaration) value {
	if d.bad {
		return value{broken: true}
	}
	s := &scope{problems: &v.problems, look: v.look, names: func() []string { return v.sorted }, hint: v.hint}
	if d.rules == nil {
		if d.set != nil {
			return value{text: *d.set}
		}
		t, ok := s.expand(*d.plain)
		return value{text: t, broken: !ok}
	}
	r := d.rules
	val := value{secret: r.secret, isList: r.typ != nil && r.typ.Value == "list"}
	s.secrets = r.secret
	pos, given := d.name.Pos, true
	env, fromEnv := v.environment(d)
	switch {
	case d.set != nil:
		pos = setPos(d.name.Value)
		val.fill(*d.set)
	case fromEnv:
		pos = r.env.Pos
		val.fill(env)
	case r.def != nil:
		pos = r.def.pos
		val.broken = !v.fallback(&val, r.def, s)
	default:
		given = false
	}
	if !val.broken && !v.check(d, &val, pos, given) {
		val.broken = true
	}
	return val
}

func (v *variables) hint(name string) string {
	if name == imageVariable {
		return ": it is known in images only"
	}
	return ""
}

// environment gives what the environment says of a variable that lets it.
func (v *variables) environment(d *declaration) (string, bool) {
	r := d.rules
	if r.env == nil || v.lookupEnv == nil {
		return "", false
	}
	name := r.env.Value
	switch on, isBool := truth(name); {
	case isBool && !on:
		return "", false
	case isBool:
		name = d.name.Value
	}
	return v.lookupEnv(name)
}

// fill takes a value from outside of the files.
func (v *value) fill(s string) {
	if !v.isList {
		v.text = s
		return
	}
	for it := range strings.SplitSeq(s, ",") {
		if it = strings.TrimSpace(it); it != "" {
			v.items = append(v.items, it)
		}
	}
}

// fallback takes the default.
func (v *variables) fallback(val *value, def *given, s *scope) bool {
	if !val.isList {
		if def.isList {
			v.errorf(def.pos, "the default is a list: add \"type: list\"")
			return false
		}
		t, ok := s.expand(def.items[0])
		val.text = t
		return ok
	}
	if !def.isList {
		t, ok := s.list(def.items)
		for _, it := range t {
			val.fill(it.Value)
		}
		return ok
	}
	items, ok := s.list(def.items)
	for _, it := range items {
		val.items = append(val.items, it.Value)
	}
	return ok
}

// check holds a value against the rules of its variable. The value of a secret is in no message.
func (v *variables) check(d *declaration, val *value, pos graph.Pos, given bool) bool {
	r := d.rules
	if r.required && r.def != nil {
		v.errorf(r.def.pos, "variable %s is required, so it cannot have a default", d.name.Value)
		return false
	}
	if r.required && val.joined() == "" {
		more := ""
		if r.description != nil {
			more = " (" + strings.TrimSpace(r.description.Value) + ")"
		}
		how := "--set " + d.name.Value + "=VALUE"
		if r.env != nil {
			if on, isBool := truth(r.env.Value); !isBool {
				how += " or the environment variable " + r.env.Value
			} else if on {
				how += " or the environment variable " + d.name.Value
			}
		}
		v.errorf(d.name.Pos, "variable %s%s needs a value: give it with %s", d.name.Value, more, how)
		return false
	}
	pattern, ok := v.pattern(r)
	if !given || !ok {
		return ok
	}
	if !val.isList {
		fault := v.fault(r, pattern, &val.text)
		if fault != "" {
			v.errorf(pos, "variable %s: %s", d.name.Value, fault)
		}
		return fault == ""
	}
	for i := range val.items {
		if fault := v.fault(r, pattern, &val.items[i]); fault != "" {
			v.errorf(pos, "variable %s: %s", d.name.Value, fault)
			ok = false
		}
	}
	return ok
}

func (v *variables) pattern(r *variable) (*regexp.Regexp, bool) {
	if r.pattern == nil {
		return nil, true
	}
	re, err := regexp.Compile(r.pattern.Value)
	if err != nil {
		v.errorf(r.pattern.Pos, "the pattern is no regular expression: %w", err)
		return nil, false
	}
	return re, true
}

// fault says what is wrong with a text, which it brings into the form of its type.
func (v *variables) fault(r *variable, pattern *regexp.Regexp, s *string) string {
	shown := strconv.Quote(shorten(*s))
	if r.secret {
		shown = "its value"
	}
	if r.typ != nil {
		switch r.typ.Value {
		case "number":
			if _, err := strconv.ParseFloat(*s, 64); err != nil || strings.ContainsAny(*s, "_xXpPnN") {
				return shown + " is no number"
			}
		case "bool":
			on, ok := truth(*s)
			if !ok {
				return shown + " is neither true nor false"
			}
			*s = strconv.FormatBool(on)
		}
	}
	if r.enum != nil && !slices.ContainsFunc(r.enum, func(e text) bool { return e.Value == *s }) {
		var options []string
		for _, e := range r.enum {
			options = append(options, e.Value)
		}
		return fmt.Sprintf("%s is none of %s", shown, strings.Join(options, ", "))
	}
	if pattern != nil && !pattern.MatchString(*s) {
		return fmt.Sprintf("%s does not match %s", shown, r.pattern.Value)
	}
	return ""
}
