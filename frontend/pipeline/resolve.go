package pipeline

import (
	"maps"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// imageVariable holds the name of the image whose texts use it, unless the pipeline has a variable
// of that name.
const imageVariable = "IMAGE_NAME"

// resolver makes a plan of files.
type resolver struct {
	*loader
	opt       Options
	vars      *variables
	names     *names
	instances []*instance // of images, as declared
	byName    map[string]*instance
	families  map[string][]string // names of the images of each matrix
	afterAll  bool
}

// instance is an image that is to be built: an entry of images, or one of the many that a matrix
// makes of it.
type instance struct {
	Image
	fields *fields
	scope  *scope
	needs  []edge
	bad    bool
}

// edge says that an image needs another one.
type edge struct {
	to  *instance
	pos graph.Pos
}

func (r *resolver) resolve() *Plan {
	if r.names = r.gather(); len(r.names.list) == 0 || !slices.ContainsFunc(r.names.list, func(e *entity) bool { return e.kind == "an image" }) {
		if len(r.list) == 0 {
			r.errorf(graph.Pos{File: r.files[0].name, Line: 1}, "the pipeline has no images")
		}
		return nil
	}
	r.vars = &variables{loader: r.loader, lookupEnv: r.opt.LookupEnv}
	r.vars.declare()
	overrides := r.parseSet()
	r.vars.evaluate()
	p := &Plan{File: r.files[0].path, Vars: r.public(nil)}
	r.runSettings(p)
	r.instantiate()
	for _, o := range overrides {
		r.override(o)
	}
	for _, i := range r.instances {
		if !i.bad {
			r.image(i)
		}
	}
	r.uniqueTags()
	r.uniqueFiles()
	r.dependencies()
	r.groups(p)
	r.order(p)
	return p
}

// public are the values of variables that are not secret, those of the matrix before the others.
func (r *resolver) public(matrix map[string]string) map[string]string {
	out := make(map[string]string, len(r.vars.order)+len(matrix))
	for _, name := range r.vars.order {
		if v, _ := r.vars.look(name); !v.secret && !v.broken {
			out[name] = v.joined()
		}
	}
	maps.Copy(out, matrix)
	return out
}

// global is the scope of texts outside of images.
func (r *resolver) global() *scope {
	return &scope{problems: &r.problems, look: r.vars.look, names: func() []string { return r.vars.sorted }, hint: r.vars.hint}
}

// local is the scope of the texts of an image. name is "" while it is not known.
func (r *resolver) local(name string, matrix map[string]string) *scope {
	s := r.global()
	if name != "" {
		s.hint = nil
	}
	s.look = func(v string) (value, bool) {
		if t, ok := matrix[v]; ok {
			return value{text: t}, true
		}
		if val, ok := r.vars.look(v); ok {
			return val, true
		}
		if v == imageVariable && name != "" {
			return value{text: name}, true
		}
		return value{}, false
	}
	s.names = func() []string {
		return append(slices.Sorted(maps.Keys(matrix)), append(slices.Clone(r.vars.sorted), imageVariable)...)
	}
	return s
}

// runSettings resolves cache and push, which belong to the file asked for.
func (r *resolver) runSettings(p *Plan) {
	for i, f := range r.files {
		if i == 0 {
			continue
		}
		if f.cache != nil {
			p.Warnings = append(p.Warnings, r.mistake(f.cache.pos, errIgnored))
		}
		if f.push != nil {
			p.Warnings = append(p.Warnings, r.mistake(f.push.pos, errIgnored))
		}
	}
	s := r.global()
	if f := r.files[0].push; f != nil {
		p.Push.Pos = f.pos
		p.Push.AfterAll, _ = r.truth(s, f.afterAll, "after_all")
		r.afterAll = p.Push.AfterAll
	}
	if c := r.files[0].cache; c != nil {
		p.Cache = r.cache(s, c)
	}
}

// instantiate makes the instances of all images, with everything that they inherit.
func (r *resolver) instantiate() {
	r.byName, r.families = map[string]*instance{}, map[string][]string{}
	for _, e := range r.names.list {
		merged := r.merge(e, nil)
		if e.kind != "an image" {
			continue
		}
		f := &fields{pos: e.name.Pos}
		bad := merged == nil
		for _, from := range []*file{r.files[0], e.file} {
			if d := from.defaults; d != nil && (from == e.file || e.file != r.files[0]) {
				bad = bad || d.bad || d.value == nil
				if !bad {
					f.overlay(d.value)
				}
			}
		}
		if !bad {
			f.overlay(merged)
		}
		r.instancesOf(e, f, bad)
	}
}

func (r *resolver) instancesOf(e *entity, f *fields, bad bool) {
	if e.image == nil || e.image.matrix == nil {
		if e.image != nil && e.image.variant != nil {
			r.errorf(e.image.variant.Pos, "only images with a matrix have a name: this one is called %s", e.name.Value)
		}
		r.addInstance(e, e.name.Value, nil, f, bad)
		return
	}
	r.families[e.name.Value] = []string{}
	if e.bad {
		return
	}
	combos, ok := r.combinations(e)
	if !ok {
		e.bad = true
		return
	}
	for _, c := range combos {
		name, ok := r.variantName(e, c)
		if !ok {
			e.bad = true
			return
		}
		values := make(map[string]string, len(c))
		for _, p := range c {
			values[p.Key.Value] = p.Value.Value
		}
		own := *f
		r.addInstance(e, name, values, &own, bad)
	}
}

func (r *resolver) addInstance(e *entity, name string, matrix map[string]string, f *fields, bad bool) {
	i := &instance{fields: f, bad: bad}
	i.places = map[string]graph.Pos{}
	i.Name, i.Pos, i.Matrix = name, e.name.Pos, matrix
	if matrix != nil {
		i.Family = e.name.Value
		if other := r.names.byName[name]; other != nil {
			r.errorf(e.image.matrix.pos, "the matrix makes an image %q, and so is called %s at %s: change name", name, other.kind, other.name.Pos)
			return
		}
	}
	if first := r.byName[name]; first != nil {
		if matrix == nil || first.Matrix == nil {
			return // noted
		}
		if first.Family != i.Family {
			r.errorf(e.image.matrix.pos, "the matrix makes an image %q, and so does that of %s at %s: change name", name, first.Family, first.Pos)
			return
		}
		r.errorf(e.image.matrix.pos, "the matrix makes two images of the name %q: use all of its variables in name", name)
		e.bad = true
		return
	}
	i.scope = r.local(name, matrix)
	if matrix != nil {
		i.Vars = r.public(matrix)
		r.families[i.Family] = append(r.families[i.Family], name)
	}
	r.byName[name] = i
	r.instances = append(r.instances, i)
}

// variantName names an image of a matrix.
func (r *resolver) variantName(e *entity, combo []yamlfile.Pair) (string, bool) {
	matrix := map[string]string{}
	name := e.name.Value
	for _, p := range combo {
		matrix[p.Key.Value] = p.Value.Value
		if p.Value.Value == "" {
			continue
		}
		name += "-" + strings.Map(func(c rune) rune {
			if !strings.ContainsRune("._-", c) && (c >= 128 || !imageName().MatchString(string(c))) {
				return '-'
			}
			return c
		}, p.Value.Value)
	}
	if e.image.variant == nil {
		return name, true
	}
	s := r.local("", matrix)
	name, ok := s.expand(*e.image.variant)
	if !ok {
		return "", false
	}
	if f := nameFault(name); f != "" {
		r.errorf(e.image.variant.Pos, "%q %s", name, f)
		return "", false
	}
	return name, true
}

// Bounds of matrices.
const (
	maxMatrix = 10_000 // images of one
	maxImages = 50_000 // of a pipeline
)

// combinations are the combinations of values of a matrix, the last axis changing fastest.
func (r *resolver) combinations(e *entity) ([][]yamlfile.Pair, bool) {
	m := e.image.matrix
	s := r.local("", nil)
	if m.combos != nil {
		return r.listed(m, s)
	}
	out := [][]yamlfile.Pair{nil}
	ok := true
	for _, a := range m.axes {
		values, good := s.items(a.values)
		switch {
		case !good:
			ok = false
			continue
		case len(values) == 0:
			r.errorf(a.name.Pos, "%s in matrix has no values", a.name.Value)
			ok = false
			continue
		case len(out)*len(values) > maxMatrix || len(r.instances)+len(out)*len(values) > maxImages:
			r.errorf(m.pos, "the matrix makes more images than the %d that one, and the %d that a pipeline may have", maxMatrix, maxImages)
			return nil, false
		}
		var next [][]yamlfile.Pair
		for _, c := range out {
			for _, v := range values {
				next = append(next, append(c[:len(c):len(c)], yamlfile.Pair{Key: a.name, Value: v}))
			}
		}
		out = next
	}
	return out, ok
}

// listed are the combinations that a matrix lists.
func (r *resolver) listed(m *matrix, s *scope) ([][]yamlfile.Pair, bool) {
	if len(m.combos) > maxMatrix || len(r.instances)+len(m.combos) > maxImages {
		r.errorf(m.pos, "the matrix makes more images than the %d that one, and the %d that a pipeline may have", maxMatrix, maxImages)
		return nil, false
	}
	ok := true
	var out [][]yamlfile.Pair
	for _, c := range m.combos {
		var combo []yamlfile.Pair
		for _, p := range c {
			v, good := s.expand(p.Value)
			ok = ok && good
			combo = append(combo, yamlfile.Pair{Key: p.Key, Value: text{Value: v, Pos: p.Value.Pos}})
		}
		for _, p := range m.combos[0] {
			if !slices.ContainsFunc(c, func(q yamlfile.Pair) bool { return q.Key.Value == p.Key.Value }) && len(c) > 0 {
				r.errorf(c[0].Key.Pos, "this combination of the matrix lacks %s, which the first one has", p.Key.Value)
				ok = false
			}
		}
		out = append(out, combo)
	}
	return out, ok
}
