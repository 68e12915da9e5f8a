package pipeline

import (
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// override is an assignment to a field of images: IMAGE.FIELD[.KEY]=VALUE.
type override struct {
	pattern, field, key, value string
	add                        bool // +=
	pos                        graph.Pos
}

// settable are the fields that can be assigned to, and whether they are mappings.
func settable() map[string]bool {
	return map[string]bool{
		"file": false, "context": false, "target": false, "format": false, "pull": false, "os": false,
		"no_cache": false, "retries": false, "push": false, "tags": false, "platforms": false, "depends_on": false,
		"secrets": false, "ssh": false, "output": false, "cache_from": false, "cache_to": false, "cache_mounts": false,
		"build_args": true, "labels": true, "annotations": true, "contexts": true,
	}
}

// fieldNames are the names of settable fields, sorted.
func fieldNames() []string {
	var names []string
	for n := range settable() {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// parseSet takes the caller's assignments apart: those to variables are made, those to fields
// returned.
func (r *resolver) parseSet() []override {
	var out []override
	for _, s := range r.opt.Set {
		key, val, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			r.errorf(setPos(shorten(s)), "it has no value: write NAME=VALUE or IMAGE.FIELD=VALUE")
			continue
		}
		if !strings.Contains(key, ".") {
			r.vars.assign(key, val)
			continue
		}
		o := override{value: val, pos: setPos(key)}
		key, o.add = strings.CutSuffix(key, "+")
		if o.split(key) {
			out = append(out, o)
			continue
		}
		_, field, _ := strings.Cut(key, ".")
		field, _, _ = strings.Cut(field, ".")
		if b := borrowed(field); b != "" {
			r.errorf(o.pos, "an image has no field %q (did you mean %s?)", field, b)
			continue
		}
		if isMap, known := settable()[field]; known && isMap {
			r.errorf(o.pos, "%s is a mapping: write IMAGE.%s.NAME=VALUE", field, field)
			continue
		}
		r.errorf(o.pos, "an image has no field %q%s", field, suggestion(field, fieldNames()))
	}
	return out
}

// split finds the field in IMAGE.FIELD[.KEY]: names of images may have dots, too.
func (o *override) split(key string) bool {
	for i := range len(key) {
		if key[i] != '.' || i == 0 {
			continue
		}
		field, rest, has := strings.Cut(key[i+1:], ".")
		if isMap, known := settable()[field]; known && isMap == has && isMap == (rest != "") {
			o.pattern, o.field, o.key = key[:i], field, rest
			return true
		}
	}
	return false
}

// override applies an assignment to all images that it names. The value is meant as it is: $ has no
// meaning in it.
func (r *resolver) override(o override) {
	found := false
	for _, i := range r.instances {
		if i.Name == o.pattern || i.Family == o.pattern || matches(o.pattern, i.Name) || i.Family != "" && matches(o.pattern, i.Family) {
			found = true
			o.apply(i)
		}
	}
	if !found {
		r.errorf(o.pos, "there is no image %q%s", o.pattern, r.names.suggest(o.pattern, "an image"))
	}
}

// apply changes the fields of one image.
func (o override) apply(i *instance) {
	f := i.fields
	t := text{Value: literal(o.value), Pos: o.pos}
	// lists of an image are replaced by the first assignment; later ones add
	fresh := !o.add && i.places["set."+o.field].IsZero()
	i.places["set."+o.field] = o.pos
	singles := map[string]**text{
		"file": &f.file, "context": &f.context, "target": &f.target, "format": &f.format, "pull": &f.pull, "os": &f.os,
		"no_cache": &f.noCache, "retries": &f.retries, "push": &f.push,
	}
	if at := singles[o.field]; at != nil {
		*at = &t
		return
	}
	lists := map[string]*[]text{"tags": &f.tags, "platforms": &f.platforms, "depends_on": &f.dependsOn}
	if at := lists[o.field]; at != nil {
		var items []text
		for v := range strings.SplitSeq(t.Value, ",") {
			items = append(items, text{Value: strings.TrimSpace(v), Pos: o.pos})
		}
		replace(at, items, fresh)
		return
	}
	maps := map[string]*[]yamlfile.Pair{"build_args": &f.buildArgs, "labels": &f.labels, "annotations": &f.annotations, "contexts": &f.contexts}
	if at := maps[o.field]; at != nil {
		replace(at, []yamlfile.Pair{{Key: text{Value: o.key, Pos: o.pos}, Value: t}}, false)
		return
	}
	switch o.field {
	case "ssh":
		replace(&f.ssh, []agent{{pos: o.pos, text: &t}}, fresh)
	case "cache_mounts":
		replace(&f.cacheMounts, []cacheMount{{pos: o.pos, target: &t}}, fresh)
	default:
		lists := map[string]*[]entry{"secrets": &f.secrets, "output": &f.outputs, "cache_from": &f.cacheFrom, "cache_to": &f.cacheTo}
		replace(lists[o.field], []entry{{pos: o.pos, text: &t}}, fresh)
	}
}

// replace puts items behind those of the list or, if fresh, in their place. An image may share the
// list with others.
func replace[T any](at *[]T, items []T, fresh bool) {
	if fresh {
		*at = items
		return
	}
	*at = joined(*at, items)
}
