package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

var errIgnored = errors.New("this has no effect in an included file: it belongs into the file given with -f")

// value expands a text that may be absent, and holds it against the rule. What expands to nothing
// is absent.
func (r *resolver) value(s *scope, t *text, what string, rule rule) string {
	if t == nil {
		return ""
	}
	v, ok := s.expand(*t)
	if !ok || v == "" {
		return ""
	}
	if strings.ContainsAny(v, "\n\r\x00") {
		r.errorf(t.Pos, "%s must be one line", what)
		return ""
	}
	if rule.fault != nil {
		if f := rule.fault(v); f != "" {
			r.errorf(t.Pos, "%s %s, not %q", what, f, shorten(v))
			return ""
		}
	}
	return v
}

// truth expands a boolean. ok is false if it is absent.
func (r *resolver) truth(s *scope, t *text, what string) (v, ok bool) {
	return truth(r.value(s, t, what, boolean()))
}

// image resolves the fields of an image, all but what it needs of others.
func (r *resolver) image(i *instance) {
	f, s := i.fields, i.scope
	single := func(field string, t *text, rule rule) string {
		if t != nil {
			i.places[field] = t.Pos
		}
		return r.value(s, t, field, rule)
	}
	r.paths(i)
	i.Target = single("target", f.target, rule{})
	i.Format = single("format", f.format, oneOf("oci", "docker"))
	switch i.Pull = single("pull", f.pull, pullMode()); i.Pull {
	case "true":
		i.Pull = "always"
	case "false":
		i.Pull = ""
	}
	i.NoCache, _ = truth(single("no_cache", f.noCache, boolean()))
	if n := single("retries", f.retries, natural()); n != "" {
		i.Retries, _ = strconv.Atoi(n) // the rule has seen to it
	}
	r.platforms(i, single("os", f.os, oneOf("linux", "windows")))
	r.tags(i)
	i.BuildArgs = r.pairs(i, "build_args", f.buildArgs)
	i.Labels = r.pairs(i, "labels", f.labels)
	i.Annotations = r.pairs(i, "annotations", f.annotations)
	r.cacheMounts(i)
	r.secrets(i)
	r.agents(i)
	r.outputs(i)
	i.CacheFrom = r.caches(i, "cache_from", f.cacheFrom)
	i.CacheTo = r.caches(i, "cache_to", f.cacheTo)
	r.push(i, single("push", f.push, boolean()))
}

// path makes a path absolute. It is relative to the file that the text stands in.
func (r *resolver) path(p string, pos graph.Pos) string {
	p = filepath.FromSlash(p)
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(r.at(pos), p)
}

// remote reports whether a context is fetched. What looks like the name of a directory, too, is one:
// "github.com/" at the beginning is no sign of an address here.
func remote(ref string) bool {
	if strings.HasPrefix(ref, "http://") || strings.HasPrefix(ref, "https://") {
		return true
	}
	git, ok, err := dfgitutil.ParseGitRef(ref)
	return ok && err == nil && !git.IndistinguishableFromLocal
}

// paths resolves context and file.
func (r *resolver) paths(i *instance) {
	f := i.fields
	fetched := false
	i.Context = r.files[0].dir
	if e := i.Pos.File; r.byPos[e] != nil {
		i.Context = r.byPos[e].dir
	}
	if c := r.value(i.scope, f.context, "context", rule{}); c != "" {
		i.places["context"] = f.context.Pos
		switch fetched = remote(c); {
		case fetched:
			i.Context = c
		case c == "-":
			r.errorf(f.context.Pos, "a pipeline has no standard input to read a context from")
		default:
			i.Context = r.path(c, f.context.Pos)
		}
	}
	if p := r.value(i.scope, f.file, "file", rule{}); p != "" {
		i.places["file"] = f.file.Pos
		switch {
		case fetched:
			i.File = p
		case p == "-":
			r.errorf(f.file.Pos, "a pipeline has no standard input to read a build file from")
		default:
			i.File = r.path(p, f.file.Pos)
		}
	}
}

// platforms resolves platforms and the operating system, of which an image has one.
func (r *resolver) platforms(i *instance, os string) {
	list, _ := i.scope.list(i.fields.platforms)
	if len(r.opt.Platforms) > 0 {
		list = nil
		for _, p := range r.opt.Platforms {
			list = append(list, text{Value: p, Pos: graph.Pos{File: "--platform"}})
		}
	}
	var first text
	for _, t := range list {
		for p := range strings.SplitSeq(t.Value, ",") {
			parsed, err := platforms.Parse(strings.TrimSpace(p))
			if err != nil {
				r.errorf(t.Pos, "%q is no platform: write OS/ARCHITECTURE, like linux/arm64", p)
				continue
			}
			parsed = platforms.Normalize(parsed)
			switch {
			case parsed.OS != "linux" && parsed.OS != "windows":
				r.errorf(t.Pos, "platform %s: images are of linux or windows", platforms.FormatAll(parsed))
				continue
			case os == "":
				os, first = parsed.OS, t
			case parsed.OS != os && first.Value == "":
				r.errorf(t.Pos, "platform %s contradicts os %s at %s", platforms.FormatAll(parsed), os, i.fields.os.Pos)
				continue
			case parsed.OS != os:
				r.errorf(t.Pos, "image %s has platforms of %s and %s: make two images of it", i.Name, os, parsed.OS)
				continue
			}
			if name := platforms.FormatAll(parsed); !slices.Contains(i.Platforms, name) {
				i.places["platforms."+strconv.Itoa(len(i.Platforms))] = t.Pos
				i.Platforms = append(i.Platforms, name)
			}
		}
	}
	if i.OS = os; os == "" {
		i.OS = "linux"
	}
}

// tags resolves the tags, as the store and registries spell them.
func (r *resolver) tags(i *instance) {
	list, _ := i.scope.list(i.fields.tags)
	for _, t := range list {
		name, err := tagName(t.Value)
		if err != nil {
			r.errorf(t.Pos, "tag %q: %w", shorten(t.Value), err)
			continue
		}
		if !slices.Contains(i.Tags, name) {
			i.places["tags."+strconv.Itoa(len(i.Tags))] = t.Pos
			i.Tags = append(i.Tags, name)
		}
	}
}

func tagName(s string) (string, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return "", fmt.Errorf("%w: write [REGISTRY/]NAME[:TAG]", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", errors.New("it has a digest, which an image gets when it is built: write [REGISTRY/]NAME[:TAG]")
	}
	return reference.TagNameOnly(named).String(), nil
}

// pairs resolves a mapping of names to texts; later values of a name replace earlier ones.
func (r *resolver) pairs(i *instance, field string, list []yamlfile.Pair) map[string]string {
	var out map[string]string
	for _, p := range latest(list, func(p yamlfile.Pair) string { return p.Key.Value }) {
		v, ok := i.scope.expand(p.Value)
		if !ok {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(list))
		}
		out[p.Key.Value] = v
		i.places[field+"."+p.Key.Value] = p.Value.Pos
	}
	return out
}

// latest leaves the last of those that have the same identity, at the place of the first.
func latest[T any](list []T, id func(T) string) []T {
	if len(list) < 2 {
		return list
	}
	at := make(map[string]int, len(list))
	out := make([]T, 0, len(list))
	for _, x := range list {
		if j, ok := at[id(x)]; ok {
			out[j] = x
			continue
		}
		at[id(x)] = len(out)
		out = append(out, x)
	}
	return out
}

// push decides whether the tags are pushed.
func (r *resolver) push(i *instance, own string) {
	want, said := truth(own)
	switch {
	case said && !want:
		return
	case r.opt.Push != nil:
		want = *r.opt.Push
	case !said:
		want = r.afterAll
	case want && len(i.Tags) == 0 && len(i.fields.tags) == 0:
		r.errorf(i.fields.push.Pos, "image %s has nothing to push: give it tags", i.Name)
	}
	i.Push = want && len(i.Tags) > 0
}
