package pipeline

import (
	"encoding/csv"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

func secretKeys() []string {
	return []string{"id", "file", "env", "value", "src", "source", "type"}
}

// attrs resolves an entry to its fields. bare is the text of one that has no fields, only a word.
func (r *resolver) attrs(s *scope, what string, e entry) (list []yamlfile.Pair, bare string, ok bool) {
	if e.text == nil {
		ok = true
		for _, p := range e.attrs {
			v, good := s.expand(p.Value)
			ok = ok && good
			list = append(list, yamlfile.Pair{Key: p.Key, Value: text{Value: v, Pos: p.Value.Pos}})
		}
		return list, "", ok
	}
	t, ok := s.expand(*e.text)
	if !ok || t == "" {
		return nil, "", false
	}
	list, bare, err := splitFields(t, e.text.Pos)
	if err != nil {
		r.errorf(e.text.Pos, "%s %q: %w", what, shorten(t), err)
		return nil, "", false
	}
	return list, bare, true
}

// splitFields reads key=value,key=value as one line of CSV, or a single word.
func splitFields(s string, pos graph.Pos) (list []yamlfile.Pair, bare string, err error) {
	rd := csv.NewReader(strings.NewReader(s))
	record, err := rd.Read()
	if err != nil {
		return nil, "", errors.New("it is no list of comma-separated key=value")
	}
	if _, err := rd.Read(); !errors.Is(err, io.EOF) {
		return nil, "", errors.New("it must be one line")
	}
	if len(record) == 1 && !strings.Contains(record[0], "=") {
		return nil, record[0], nil
	}
	for _, part := range record {
		k, v, ok := strings.Cut(part, "=")
		k = strings.TrimSpace(k)
		if !strings.HasPrefix(k, "annotation") {
			k = strings.ToLower(k)
		}
		switch {
		case !ok || k == "":
			return nil, "", errors.New("each field must be key=value, and " + strconv.Quote(part) + " is not")
		case slices.ContainsFunc(list, func(p yamlfile.Pair) bool { return p.Key.Value == k }):
			return nil, "", errors.New(k + " is given twice")
		}
		list = append(list, yamlfile.Pair{Key: text{Value: k, Pos: pos}, Value: text{Value: v, Pos: pos}})
	}
	return list, "", nil
}

// take removes a field from the list and gives its value.
func take(list *[]yamlfile.Pair, keys ...string) (text, bool) {
	i := slices.IndexFunc(*list, func(p yamlfile.Pair) bool { return slices.Contains(keys, p.Key.Value) })
	if i < 0 {
		return text{}, false
	}
	v := (*list)[i].Value
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return v, true
}

func attrMap(list []yamlfile.Pair) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := make(map[string]string, len(list))
	for _, p := range list {
		out[p.Key.Value] = p.Value.Value
	}
	return out
}

func (r *resolver) cacheMounts(i *instance) {
	var list []CacheMount
	places := map[string]graph.Pos{}
	for _, m := range i.fields.cacheMounts {
		c := CacheMount{
			Target:  r.value(i.scope, m.target, "target", rule{}),
			ID:      r.value(i.scope, m.id, "id", rule{}),
			Sharing: r.value(i.scope, m.sharing, "sharing", oneOf("locked", "shared", "private")),
		}
		c.ReadOnly, _ = r.truth(i.scope, m.readonly, "readonly")
		if c.Target == "" {
			continue // expanded to nothing
		}
		list = append(list, c)
		places[c.Target] = m.pos
	}
	i.CacheMounts = latest(list, func(c CacheMount) string { return c.Target })
	for n, c := range i.CacheMounts {
		i.places["cache_mounts."+strconv.Itoa(n)] = places[c.Target]
	}
}

func (r *resolver) secrets(i *instance) {
	s := *i.scope
	s.secrets = true
	var list []Secret
	places := map[string]graph.Pos{}
	for _, e := range i.fields.secrets {
		attrs, bare, ok := r.secretAttrs(&s, i.scope, e)
		if !ok {
			continue
		}
		if bare != "" {
			r.errorf(e.pos, "secret %q: say where it comes from: id=%s,src=FILE or id=%s,env=NAME", shorten(bare), shorten(bare), shorten(bare))
			continue
		}
		sec, err := r.secret(attrs)
		if err != nil {
			r.errorf(e.pos, "secret: %w", err)
			continue
		}
		list = append(list, sec)
		places[sec.ID] = e.pos
	}
	i.Secrets = latest(list, func(s Secret) string { return s.ID })
	for n, s := range i.Secrets {
		i.places["secrets."+strconv.Itoa(n)] = places[s.ID]
	}
}

// secretAttrs resolves an entry of secrets. Secret variables can be used in value alone, so that
// nothing else of the entry has to be hidden.
func (r *resolver) secretAttrs(secret, open *scope, e entry) ([]yamlfile.Pair, string, bool) {
	if e.text != nil {
		return r.attrs(open, "secret", e)
	}
	ok := true
	var list []yamlfile.Pair
	for _, p := range e.attrs {
		s := open
		if p.Key.Value == "value" {
			s = secret
		}
		v, good := s.expand(p.Value)
		ok = ok && good
		list = append(list, yamlfile.Pair{Key: p.Key, Value: text{Value: v, Pos: p.Value.Pos}})
	}
	return list, "", ok
}

func (r *resolver) secret(attrs []yamlfile.Pair) (Secret, error) {
	id, _ := take(&attrs, "id")
	file, hasFile := take(&attrs, "file", "src", "source")
	env, hasEnv := take(&attrs, "env")
	val, hasValue := take(&attrs, "value")
	typ, _ := take(&attrs, "type")
	if typ.Value == "env" && hasFile && !hasEnv { // docker's form type=env,src=NAME
		env, hasEnv, hasFile = file, true, false
	}
	given := 0
	for _, has := range []bool{hasFile, hasEnv, hasValue} {
		if has {
			given++
		}
	}
	switch {
	case id.Value == "":
		return Secret{}, errors.New("it has no id")
	case len(attrs) > 0:
		return Secret{}, errors.New("the field " + attrs[0].Key.Value + " does not exist" + suggestion(attrs[0].Key.Value, secretKeys()))
	case typ.Value != "" && typ.Value != "file" && typ.Value != "env", typ.Value == "file" && !hasFile, typ.Value == "env" && !hasEnv:
		return Secret{}, errors.New("type must be file or env, and say what else is given")
	case given != 1:
		return Secret{}, errors.New(strconv.Quote(id.Value) + " needs exactly one of file, env and value")
	case hasFile && file.Value == "", hasEnv && env.Value == "":
		return Secret{}, errors.New(strconv.Quote(id.Value) + " has an empty source")
	}
	s := Secret{ID: id.Value, Env: env.Value, HasValue: hasValue}
	if hasFile {
		s.File = r.path(file.Value, file.Pos)
	}
	if hasValue {
		s.Value = []byte(val.Value)
	}
	return s, nil
}

func (r *resolver) agents(i *instance) {
	var list []SSH
	places := map[string]graph.Pos{}
	for _, a := range i.fields.ssh {
		var s SSH
		var paths []text
		if a.text != nil {
			t := r.value(i.scope, a.text, "ssh", rule{})
			if t == "" {
				continue
			}
			id, rest, has := strings.Cut(t, "=")
			s.ID = id
			if has {
				for p := range strings.SplitSeq(rest, ",") {
					paths = append(paths, text{Value: p, Pos: a.text.Pos})
				}
			}
		} else {
			s.ID = r.value(i.scope, a.id, "id", rule{})
			paths, _ = i.scope.list(a.paths)
		}
		if s.ID == "" {
			r.errorf(a.pos, "the ssh agent has no id: write default or ID=PATH")
			continue
		}
		if strings.Contains(s.ID, "/") {
			r.errorf(a.pos, "%q is no id of an ssh agent: write ID=PATH", s.ID)
			continue
		}
		for _, p := range paths {
			if p.Value == "" {
				r.errorf(a.pos, "ssh agent %s: a path is empty", s.ID)
				continue
			}
			s.Paths = append(s.Paths, r.path(p.Value, p.Pos))
		}
		list = append(list, s)
		places[s.ID] = a.pos
	}
	i.SSH = latest(list, func(s SSH) string { return s.ID })
	for n, s := range i.SSH {
		i.places["ssh."+strconv.Itoa(n)] = places[s.ID]
	}
}

func outputTypes() []string {
	return []string{"store", "image", "registry", "oci", "docker", "tar", "local", "cacheonly"}
}

func (r *resolver) outputs(i *instance) {
	for _, e := range i.fields.outputs {
		attrs, bare, ok := r.attrs(i.scope, "output", e)
		if !ok {
			continue
		}
		if bare != "" {
			attrs = []yamlfile.Pair{
				{Key: text{Value: "type"}, Value: text{Value: "local", Pos: e.pos}},
				{Key: text{Value: "dest"}, Value: text{Value: bare, Pos: e.text.Pos}},
			}
		}
		o, err := r.output(attrs)
		if err != nil {
			r.errorf(e.pos, "output: %w", err)
			continue
		}
		i.places["outputs."+strconv.Itoa(len(i.Outputs))] = e.pos
		i.Outputs = append(i.Outputs, o)
	}
}

func (r *resolver) output(attrs []yamlfile.Pair) (Output, error) {
	typ, _ := take(&attrs, "type")
	dest, _ := take(&attrs, "dest")
	o := Output{Type: typ.Value}
	switch o.Type {
	case "":
		return o, errors.New("it has no type: use " + strings.Join(outputTypes(), ", "))
	case "oci", "docker", "tar", "local":
		if dest.Value == "" {
			return o, errors.New("type " + o.Type + " needs dest")
		}
		if dest.Value == "-" {
			return o, errors.New("a pipeline has no standard output to write to: give dest a path")
		}
		o.Dest = r.path(dest.Value, dest.Pos)
	case "store", "image", "registry", "cacheonly":
		if dest.Value != "" {
			return o, errors.New("type " + o.Type + " has no dest")
		}
	default:
		return o, errors.New(strconv.Quote(o.Type) + " is no type of output" + suggestion(o.Type, outputTypes()))
	}
	o.Attrs = attrMap(attrs)
	if o.Type == "registry" {
		o.Type = "image"
		if o.Attrs == nil {
			o.Attrs = map[string]string{}
		}
		o.Attrs["push"] = "true"
	}
	return o, nil
}

// caches resolves cache_from and cache_to.
func (r *resolver) caches(i *instance, field string, list []entry) []CacheEntry {
	var out []CacheEntry
	for _, e := range list {
		attrs, bare, ok := r.attrs(i.scope, field, e)
		if !ok {
			continue
		}
		c := CacheEntry{Type: "registry", Attrs: map[string]string{"ref": bare}}
		if bare == "" {
			typ, has := take(&attrs, "type")
			if !has || typ.Value == "" {
				r.errorf(e.pos, "%s: it has no type, like registry or local", field)
				continue
			}
			dir := map[string]string{"cache_from": "src", "cache_to": "dest"}[field]
			for n, p := range attrs {
				if typ.Value == "local" && p.Key.Value == dir && p.Value.Value != "" {
					attrs = slices.Clone(attrs)
					attrs[n].Value.Value = r.path(p.Value.Value, p.Value.Pos)
				}
			}
			c = CacheEntry{Type: typ.Value, Attrs: attrMap(attrs)}
		}
		if c.Type == "registry" {
			if _, err := reference.ParseNormalizedNamed(c.Attrs["ref"]); err != nil {
				r.errorf(e.pos, "%s: ref %q is no name of an image: %w", field, shorten(c.Attrs["ref"]), err)
				continue
			}
		}
		i.places[field+"."+strconv.Itoa(len(out))] = e.pos
		out = append(out, c)
	}
	return out
}

// cache resolves the setting of the whole run.
func (r *resolver) cache(s *scope, c *cache) CachePlan {
	p := CachePlan{
		Type:     r.value(s, c.typ, "type", oneOf("memory", "persistent", "s3", "registry")),
		Bucket:   r.value(s, c.bucket, "bucket", rule{}),
		Region:   r.value(s, c.region, "region", rule{}),
		Endpoint: r.value(s, c.endpoint, "endpoint", rule{}),
		Prefix:   r.value(s, c.prefix, "prefix", rule{}),
		Ref:      r.value(s, c.ref, "ref", rule{}),
		Pos:      c.pos,
	}
	if path := r.value(s, c.path, "path", rule{}); path != "" {
		p.Path = r.path(path, c.path.Pos)
	}
	of := map[string]string{"path": "persistent", "bucket": "s3", "region": "s3", "endpoint": "s3", "prefix": "s3", "ref": "registry"}
	for _, f := range []struct {
		name string
		at   *text
	}{{"path", c.path}, {"bucket", c.bucket}, {"region", c.region}, {"endpoint", c.endpoint}, {"prefix", c.prefix}, {"ref", c.ref}} {
		if f.at != nil && p.Type != "" && of[f.name] != p.Type {
			r.errorf(f.at.Pos, "%s belongs to a cache of type %s, and this is %s", f.name, of[f.name], p.Type)
		}
	}
	if p.Type == "s3" && p.Bucket == "" {
		r.errorf(c.pos, "a cache of type s3 needs a bucket")
	}
	if p.Type == "registry" {
		if _, err := reference.ParseNormalizedNamed(p.Ref); err != nil {
			r.errorf(c.pos, "a cache of type registry needs the name of a repository as ref: %w", err)
		}
	}
	return p
}

// uniqueFiles refuses two images that write the same archive.
func (r *resolver) uniqueFiles() {
	type writer struct {
		image *instance
		pos   graph.Pos
	}
	first := map[string]writer{}
	for _, i := range r.instances {
		for n, o := range i.Outputs {
			if o.Dest == "" || o.Type == "local" {
				continue
			}
			pos := i.At("outputs." + strconv.Itoa(n))
			if f, ok := first[o.Dest]; ok {
				r.errorf(pos, "image %s writes %s, and so does image %s at %s", i.Name, filepath.Base(o.Dest), f.image.Name, f.pos)
				continue
			}
			first[o.Dest] = writer{i, pos}
		}
	}
}
