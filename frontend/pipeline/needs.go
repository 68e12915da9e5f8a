package pipeline

import (
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// uniqueTags refuses two images with one tag, and gives images their names.
func (r *resolver) uniqueTags() {
	owner := map[string]*instance{}
	for _, i := range r.instances {
		for n, t := range i.Tags {
			first := owner[t]
			if first == nil {
				owner[t] = i
				continue
			}
			pos := i.At("tags." + strconv.Itoa(n))
			if first.Family != "" && first.Family == i.Family {
				r.errorf(pos, "images %s and %s of the matrix have the same tag %s: use the variables of the matrix in it", first.Name, i.Name, t)
				continue
			}
			r.errorf(pos, "image %s has the tag %s, and so has image %s at %s", i.Name, t, first.Name, first.At("tags."+strconv.Itoa(slices.Index(first.Tags, t))))
		}
	}
	for _, i := range r.instances {
		i.Names = slices.Clone(i.Tags)
		named, err := reference.ParseNormalizedNamed(i.Name)
		if err != nil {
			continue
		}
		// a tag that somebody wrote goes before a name that happens to be equal
		if name := reference.TagNameOnly(named).String(); owner[name] == nil {
			owner[name] = i
			i.Names = append(i.Names, name)
		}
	}
}

// imagePrefix marks a context that is another image of the pipeline.
const imagePrefix = "image:"

// dependencies resolves depends_on and contexts, which name other images.
func (r *resolver) dependencies() {
	for _, i := range r.instances {
		if i.bad {
			continue
		}
		list, _ := i.scope.list(i.fields.dependsOn)
		for _, t := range list {
			for _, to := range r.find(i, t) {
				i.places["depends_on."+to.Name] = t.Pos
				i.needs = append(i.needs, edge{to, t.Pos})
			}
		}
		r.contexts(i)
	}
}

// find gives the image, or all images of the matrix, that a text of an image names.
func (r *resolver) find(i *instance, t text) []*instance {
	if to := r.byName[t.Value]; to != nil {
		return []*instance{to}
	}
	if family, ok := r.families[t.Value]; ok {
		var out []*instance
		for _, name := range family {
			out = append(out, r.byName[name])
		}
		return out
	}
	if e := r.names.byName[t.Value]; e != nil && e.kind != "an image" {
		r.errorf(t.Pos, "image %s depends on %q, which is %s and not an image", i.Name, t.Value, e.kind)
		return nil
	}
	r.errorf(t.Pos, "image %s depends on %q, and there is no image of that name%s", i.Name, t.Value, r.names.suggest(t.Value, "an image"))
	return nil
}

func (r *resolver) contexts(i *instance) {
	for _, p := range latest(i.fields.contexts, func(p yamlfile.Pair) string { return p.Key.Value }) {
		name := p.Key.Value
		i.places["contexts."+name] = p.Value.Pos
		v, ok := i.scope.expand(p.Value)
		if !ok {
			continue
		}
		image, isImage := strings.CutPrefix(v, imagePrefix)
		dir, isLayout := strings.CutPrefix(v, "oci-layout://")
		switch {
		case v == "" || v == "-":
			r.errorf(p.Value.Pos, "context %s is empty", name)
			continue
		case strings.HasPrefix(v, "target:"):
			r.errorf(p.Value.Pos, "context %s: write image:%s for another image of the pipeline", name, strings.TrimPrefix(v, "target:"))
			continue
		case isImage:
			r.imageContext(i, name, text{Value: image, Pos: p.Value.Pos})
			continue
		case strings.HasPrefix(v, "docker-image://"):
			if _, err := reference.ParseNormalizedNamed(strings.TrimPrefix(v, "docker-image://")); err != nil {
				r.errorf(p.Value.Pos, "context %s: %w", name, err)
				continue
			}
		case isLayout:
			v = "oci-layout://" + r.path(dir, p.Value.Pos)
		case !remote(v):
			v = r.path(v, p.Value.Pos)
		}
		if i.Contexts == nil {
			i.Contexts = map[string]string{}
		}
		i.Contexts[name] = v
	}
}

func (r *resolver) imageContext(i *instance, name string, t text) {
	found := r.find(i, t)
	if len(found) > 1 || len(found) == 1 && r.byName[t.Value] == nil {
		r.errorf(t.Pos, "context %s: %s is a matrix of several images: name one of them", name, t.Value)
		return
	}
	for _, to := range found {
		if i.ImageContexts == nil {
			i.ImageContexts = map[string]string{}
		}
		i.ImageContexts[name] = to.Name
		i.needs = append(i.needs, edge{to, t.Pos})
	}
}

// order sorts the images so that each comes after those it needs, and puts them into the plan.
func (r *resolver) order(p *Plan) {
	const visiting, done = 1, 2
	state := make(map[*instance]int, len(r.instances))
	var chain []*instance
	var visit func(i *instance)
	visit = func(i *instance) {
		if state[i] == done {
			return
		}
		state[i] = visiting
		chain = append(chain, i)
		for _, e := range i.needs {
			if state[e.to] == visiting {
				r.cycle(chain[slices.Index(chain, e.to):], e)
				continue
			}
			visit(e.to)
		}
		chain = chain[:len(chain)-1]
		state[i] = done
		p.Images = append(p.Images, i.Image)
	}
	for _, i := range r.instances {
		p.order = append(p.order, i.Name)
		visit(i)
	}
	at := make(map[string]int, len(p.Images))
	for n := range p.Images {
		at[p.Images[n].Name] = n
	}
	for n := range p.Images {
		image := &p.Images[n]
		if image.Vars == nil {
			image.Vars = p.Vars
		}
		for _, e := range r.byName[image.Name].needs {
			image.DependsOn = append(image.DependsOn, e.to.Name)
		}
		slices.SortFunc(image.DependsOn, func(a, b string) int { return at[a] - at[b] })
		image.DependsOn = slices.Compact(image.DependsOn)
	}
}

// cycle notes that images need each other; the last edge closes the circle.
func (r *resolver) cycle(chain []*instance, last edge) {
	var b strings.Builder
	for n, i := range chain {
		pos := last.pos
		if n+1 < len(chain) {
			next := chain[n+1]
			pos = i.needs[slices.IndexFunc(i.needs, func(e edge) bool { return e.to == next })].pos
		}
		b.WriteString(i.Name + " (" + pos.String() + ") -> ")
	}
	r.errorf(last.pos, "images depend on each other: %s%s", b.String(), last.to.Name)
}

// groups resolves groups to the names of their images.
func (r *resolver) groups(p *Plan) {
	p.Groups = map[string][]string{}
	for name, list := range r.families {
		p.Groups[name] = list
		p.families = append(p.families, name)
	}
	slices.Sort(p.families)
	for _, e := range r.names.list {
		if e.kind == "a group" {
			r.group(p, e, nil)
		}
	}
}

// group resolves a group, and those in it first.
func (r *resolver) group(p *Plan, e *entity, chain []*entity) []string {
	name := e.name.Value
	if list, ok := p.Groups[name]; ok {
		return list
	}
	if n := slices.Index(chain, e); n >= 0 {
		var names []string
		for _, c := range chain[n:] {
			names = append(names, c.name.Value)
		}
		r.errorf(e.name.Pos, "group %s contains itself: %s", name, strings.Join(append(names, name), " -> "))
		return nil
	}
	chain = append(chain, e)
	var list []string
	for _, m := range e.group {
		if e.bad {
			break // noted, and the items may not be what they were meant to be
		}
		list = append(list, r.members(p, e, m, chain)...)
	}
	list = unique(list)
	p.Groups[name] = list
	return list
}

// members are the images that an item of a group stands for.
func (r *resolver) members(p *Plan, e *entity, m text, chain []*entity) []string {
	if other := r.names.byName[m.Value]; other != nil && other.kind == "a group" {
		return r.group(p, other, chain)
	}
	if list, ok := r.families[m.Value]; ok {
		return list
	}
	if r.byName[m.Value] != nil {
		return []string{m.Value}
	}
	var list []string
	if isPattern(m.Value) {
		for _, i := range r.instances {
			if matches(m.Value, i.Name) || i.Family != "" && matches(m.Value, i.Family) {
				list = append(list, i.Name)
			}
		}
	}
	if list == nil {
		r.errorf(m.Pos, "group %s has %q, and there is no image or group of that name%s", e.name.Value, m.Value, r.names.suggest(m.Value, "an image", "a group"))
	}
	return list
}

// unique leaves the first of equal texts.
func unique(list []string) []string {
	return latest(list, func(s string) string { return s })
}
