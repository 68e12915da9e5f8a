package pipeline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// defaultGroup is what is built when nothing is asked for.
const defaultGroup = "default"

// Selection says which images of a pipeline to build. Names are those of images, matrices and
// groups; with the wildcards of [path.Match] they stand for all images and matrices that match.
// What selected images depend on comes along.
type Selection struct {
	// Only are the images to build. Without any, it is the group "default" or, where there is none, all.
	Only []string
	// Except are images to leave out. What a selected image depends on comes along all the same.
	Except []string
	// Groups are groups to build, beside Only; without wildcards.
	Groups []string
}

// Select gives the plan with other images selected: those in Images and Rest are asked anew. The
// plan itself stays as it is. The mistakes of the selection come all at once.
func (p *Plan) Select(s Selection) (*Plan, error) {
	all := p.all()
	var errs []error
	chosen := map[string]bool{}
	for _, g := range s.Groups {
		list, ok := p.Groups[g]
		if !ok {
			errs = append(errs, fmt.Errorf("there is no group %q%s", g, p.suggest(g, false)))
		}
		set(chosen, list, true)
	}
	for _, o := range s.Only {
		list, ok := p.named(o)
		if !ok {
			errs = append(errs, fmt.Errorf("there is no image or group %q%s", o, p.suggest(o, true)))
		}
		set(chosen, list, true)
	}
	if len(s.Only)+len(s.Groups) == 0 {
		list, ok := p.Groups[defaultGroup]
		if !ok {
			list = p.order
		}
		set(chosen, list, true)
	}
	for _, x := range s.Except {
		list, ok := p.named(x)
		if !ok {
			errs = append(errs, fmt.Errorf("there is no image or group %q to leave out%s", x, p.suggest(x, true)))
		}
		set(chosen, list, false)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(chosen) == 0 {
		return nil, errors.New("no image is left to build")
	}
	return p.split(all, chosen), nil
}

// all are all images, each after those it depends on, as if all were selected.
func (p *Plan) all() []Image {
	if len(p.Rest) == 0 {
		return p.Images
	}
	byName := make(map[string]*Image, len(p.order))
	for _, list := range [][]Image{p.Images, p.Rest} {
		for i := range list {
			byName[list[i].Name] = &list[i]
		}
	}
	out := make([]Image, 0, len(byName))
	done := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		for _, d := range byName[name].DependsOn {
			visit(d)
		}
		out = append(out, *byName[name])
	}
	for _, name := range p.order {
		visit(name)
	}
	return out
}

// split makes the plan that builds the chosen images.
func (p *Plan) split(all []Image, chosen map[string]bool) *Plan {
	out := *p
	out.Images, out.Rest, out.Levels = nil, nil, nil
	along := map[string]bool{}
	for i := len(all) - 1; i >= 0; i-- { // dependants come after what they need
		if chosen[all[i].Name] || along[all[i].Name] {
			set(along, all[i].DependsOn, true)
		}
	}
	level := map[string]int{}
	for _, image := range all {
		image.Along = !chosen[image.Name] && along[image.Name]
		if !chosen[image.Name] && !along[image.Name] {
			out.Rest = append(out.Rest, image)
			continue
		}
		n := 0
		for _, d := range image.DependsOn {
			n = max(n, level[d]+1)
		}
		level[image.Name] = n
		if n == len(out.Levels) {
			out.Levels = append(out.Levels, nil)
		}
		out.Levels[n] = append(out.Levels[n], image.Name)
		out.Images = append(out.Images, image)
	}
	return &out
}

// named are the images that a name or pattern stands for.
func (p *Plan) named(s string) ([]string, bool) {
	if list, ok := p.Groups[s]; ok {
		return list, true
	}
	if slices.Contains(p.order, s) {
		return []string{s}, true
	}
	if !isPattern(s) {
		return nil, false
	}
	var out []string
	for _, name := range p.order {
		if matches(s, name) {
			out = append(out, name)
		}
	}
	for _, f := range p.families {
		if matches(s, f) {
			out = append(out, p.Groups[f]...)
		}
	}
	return out, len(out) > 0
}

// suggest ends the message about a name that is not there.
func (p *Plan) suggest(name string, images bool) string {
	var options []string
	for g := range p.Groups {
		if images || !slices.Contains(p.families, g) {
			options = append(options, g)
		}
	}
	if images {
		options = append(options, p.order...)
	}
	slices.Sort(options)
	if s := yamlfile.DidYouMean(name, options); s != "" || len(options) > 20 {
		return s
	}
	if len(options) == 0 {
		return ""
	}
	return ": there are " + strings.Join(options, ", ")
}

func set(names map[string]bool, list []string, on bool) {
	for _, n := range list {
		if on {
			names[n] = true
		} else {
			delete(names, n)
		}
	}
}

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// matches holds a name against a pattern; one that is none matches nothing.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
