package zimage

import (
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

var notInContext = lazyregexp.New(`[^a-z0-9]+`)

// contextName makes a name that can be that of an image, and is no other stage's.
func contextName(stage string, i int) string {
	name := strings.Trim(notInContext().ReplaceAllString(stage, "-"), "-")
	if name != stage {
		name += "-" + strconv.Itoa(i+1)
	}
	return name
}

// dockerNames gives every stage a name that Dockerfiles allow: its own if possible.
func dockerNames(f *File, index *stageIndex) []string {
	taken := map[string]bool{"scratch": true, "context": true}
	for i := range f.Stages {
		st := &f.Stages[i]
		if st.Base != nil && index.named(st.Base.Value) < 0 {
			taken[strings.ToLower(st.Base.Value)] = true
		}
		for n := range st.Steps {
			for _, ref := range readFrom(&st.Steps[n]) {
				if index.find(ref.Value) < 0 {
					taken[strings.ToLower(ref.Value)] = true
				}
			}
		}
	}
	out := make([]string, len(f.Stages))
	for i := range f.Stages {
		if name := f.Stages[i].Name; stageName().MatchString(name) && !taken[name] {
			taken[name] = true
			out[i] = name
		}
	}
	for i := range f.Stages {
		if out[i] != "" {
			continue
		}
		name := strings.Trim(notInName().ReplaceAllString(strings.ToLower(f.Stages[i].Name), "-"), "-")
		if !stageName().MatchString(name) {
			name = strings.TrimSuffix("stage-"+name, "-")
		}
		unique := name
		for n := 2; taken[unique]; n++ {
			unique = name + "-" + strconv.Itoa(n)
		}
		taken[unique] = true
		out[i] = unique
	}
	return out
}

var (
	stageName = lazyregexp.New(`^[a-z][a-z0-9-_.]*$`)
	notInName = lazyregexp.New(`[^a-z0-9_.-]+`)
)

// readFrom lists the stages and images that a step reads.
func readFrom(s *Step) []*String {
	var refs []*String
	if s.From != nil {
		refs = append(refs, s.From)
	}
	for i := range s.Mounts {
		if s.Mounts[i].From != nil {
			refs = append(refs, s.Mounts[i].From)
		}
	}
	return refs
}
