package pipeline

import (
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// entity is something that has a name: an image or a matrix, a template, or a group.
type entity struct {
	name text
	kind string // for messages
	file *file

	image    *image
	template *template // of images, too
	group    []text
	bad      bool
	// merged are the fields with all that is inherited, once they are known.
	merged *fields
	// merging says that they are being gathered.
	merging bool
}

// names are the entities of all files by name.
type names struct {
	byName map[string]*entity
	list   []*entity // in the order of the files
}

// gather collects what has a name. Two of a name are a mistake, whatever they are.
func (l *loader) gather() *names {
	n := &names{byName: map[string]*entity{}}
	add := func(e *entity) {
		if first := n.byName[e.name.Value]; first != nil {
			l.errorf(e.name.Pos, "the name %q is given twice, first to %s at %s", e.name.Value, first.kind, first.name.Pos)
			return
		}
		n.byName[e.name.Value] = e
		n.list = append(n.list, e)
	}
	for _, f := range l.files {
		for i := range f.templates {
			d := &f.templates[i]
			add(&entity{name: d.name, kind: "a template", file: f, template: d.value, bad: d.bad})
		}
		for i := range f.images {
			d := &f.images[i]
			e := &entity{name: d.name, kind: "an image", file: f, image: d.value, bad: d.bad}
			if d.value != nil {
				e.template = &d.value.template
			}
			add(e)
		}
		for i := range f.groups {
			d := &f.groups[i]
			e := &entity{name: d.name, kind: "a group", file: f, bad: d.bad}
			if d.value != nil {
				e.group = *d.value
			}
			add(e)
		}
	}
	return n
}

// suggest ends a message about a name that none of the kinds has.
func (n *names) suggest(name string, kinds ...string) string {
	var options []string
	for _, e := range n.list {
		for _, k := range kinds {
			if e.kind == k {
				options = append(options, e.name.Value)
			}
		}
	}
	return yamlfile.DidYouMean(name, options)
}

// merge gathers the fields of a template or an image, those that it inherits under its own. It
// returns nil where a mistake has been noted.
func (r *resolver) merge(e *entity, chain []*entity) *fields {
	if e.merged != nil || e.bad || e.template == nil {
		return e.merged
	}
	if e.merging {
		for i, c := range chain {
			if c == e {
				r.inheritCycle(chain[i:])
			}
		}
		return nil
	}
	e.merging = true
	defer func() { e.merging = false }()
	chain = append(chain, e)
	out := &fields{pos: e.template.pos}
	ok := true
	for _, ref := range e.template.inherits {
		other := r.names.byName[ref.Value]
		if other == nil || other.kind == "a group" {
			what := "no template or image"
			if other != nil {
				what = "a group, not a template or image,"
			}
			r.errorf(ref.Pos, "%s inherits from %q: there is %s of that name%s", e.name.Value, ref.Value, what, r.names.suggest(ref.Value, "a template", "an image"))
			ok = false
			continue
		}
		f := r.merge(other, chain)
		if f == nil {
			ok = false
			continue
		}
		if out.overlay(f); out.size() > maxFields {
			r.errorf(ref.Pos, "%s inherits more than %d entries", e.name.Value, maxFields)
			ok = false
			break
		}
	}
	out.overlay(&e.template.fields)
	if !ok {
		e.bad = true
		return nil
	}
	e.merged = out
	return out
}

// inheritCycle notes that entities inherit from each other.
func (r *resolver) inheritCycle(cycle []*entity) {
	first := 0
	for i, e := range cycle {
		if e.bad {
			return
		}
		if e.name.Value < cycle[first].name.Value {
			first = i
		}
	}
	var chain []string
	for i := range cycle {
		e := cycle[(first+i)%len(cycle)]
		chain = append(chain, e.name.Value+" ("+e.name.Pos.String()+")")
	}
	chain = append(chain, cycle[first].name.Value)
	r.errorf(cycle[first].name.Pos, "%s inherits from itself: %s", cycle[first].name.Value, strings.Join(chain, " -> "))
	for _, e := range cycle {
		e.bad = true
	}
}

// overlay puts what o says over what f says. Single values and lists of names replace; mappings,
// dependencies, and lists whose entries have an identity (mounts, secrets, agents) are added to.
func (f *fields) overlay(o *fields) {
	for _, v := range []struct{ at, from **text }{
		{&f.file, &o.file}, {&f.context, &o.context}, {&f.target, &o.target}, {&f.format, &o.format}, {&f.pull, &o.pull},
		{&f.os, &o.os}, {&f.noCache, &o.noCache}, {&f.retries, &o.retries}, {&f.push, &o.push},
	} {
		if *v.from != nil {
			*v.at = *v.from
		}
	}
	if o.tags != nil {
		f.tags = o.tags
	}
	if len(o.platforms) > 0 {
		f.platforms = o.platforms
	}
	if o.outputs != nil {
		f.outputs = o.outputs
	}
	if o.cacheFrom != nil {
		f.cacheFrom = o.cacheFrom
	}
	if o.cacheTo != nil {
		f.cacheTo = o.cacheTo
	}
	f.dependsOn = joined(f.dependsOn, o.dependsOn)
	f.buildArgs = joined(f.buildArgs, o.buildArgs)
	f.labels = joined(f.labels, o.labels)
	f.annotations = joined(f.annotations, o.annotations)
	f.contexts = joined(f.contexts, o.contexts)
	f.cacheMounts = joined(f.cacheMounts, o.cacheMounts)
	f.secrets = joined(f.secrets, o.secrets)
	f.ssh = joined(f.ssh, o.ssh)
	if !o.pos.IsZero() {
		f.pos = o.pos
	}
}

// joined is a list of its own with both: lists are shared by what inherits them.
func joined[T any](a, b []T) []T {
	if len(b) == 0 {
		return a
	}
	return append(a[:len(a):len(a)], b...)
}

// maxFields is how many entries an image may inherit, which doubles with each template that names
// another one twice.
const maxFields = 100_000

// size counts the entries of lists.
func (f *fields) size() int {
	return len(f.dependsOn) + len(f.buildArgs) + len(f.labels) + len(f.annotations) + len(f.contexts) +
		len(f.cacheMounts) + len(f.secrets) + len(f.ssh)
}
