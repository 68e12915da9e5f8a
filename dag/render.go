package dag

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// Program is a stage and all that it reads as a Dockerfile, and what the names in that
// stand for which are no stages of it and no images.
type Program struct {
	// Text is the Dockerfile; its lines are those of the Go calls, in files with their
	// whole path.
	Text frontend.Text
	// Locals, Remotes, Nested and States are the named contexts it needs.
	Locals  []LocalContext
	Remotes []RemoteContext
	Nested  []NestedContext
	States  []StateContext
}

// LocalContext is a directory that a program calls by a name.
type LocalContext struct {
	Name string
	Tree Tree
	Pos  graph.Pos
}

// RemoteContext is a repository.
type RemoteContext struct {
	Name string
	// URL is its address in the form of a build context.
	URL string
	Pos graph.Pos
}

// NestedContext is the build of a directory.
type NestedContext struct {
	Name   string
	Nested Nested
	Pos    graph.Pos
}

// StateContext is a state of LLB.
type StateContext struct {
	Name  string
	State State
	Pos   graph.Pos
}

// maxLine is how long BuildKit's parser lets a line be.
const maxLine = 65535

// Render turns a stage into a Dockerfile whose last stage it is. The error holds all
// mistakes of the stage and of what it reads, each a [graph.PosError].
func Render(s *Stage) (*Program, error) {
	if s == nil {
		return nil, errors.New("there is no stage to build")
	}
	r := &renderer{program: &Program{}, stages: map[*Stage]string{}, contexts: map[any]string{}, taken: map[string]bool{scratch: true, "context": true, "dockerfile": true}}
	r.collect(s, map[*Stage]bool{})
	r.line(graph.Pos{}, "# check=skip=FromPlatformFlagConstDisallowed")
	r.stage(s)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	p := r.program
	p.Text.Language, p.Text.Files = "Go", true
	p.Text.Dockerfile = []byte(strings.Join(r.lines, "\n") + "\n")
	p.Text.Lines = r.at
	return p, nil
}

// renderer writes one program.
type renderer struct {
	program *Program
	lines   []string
	at      []graph.Pos
	errs    []error
	// here is the place of what is being written.
	here graph.Pos
	// stages are the names of the stages written so far, contexts those of other sources
	// by what they are; taken are all names that mean something.
	stages   map[*Stage]string
	contexts map[any]string
	taken    map[string]bool
	newline  bool
}

// fail notes a mistake of what is being written.
func (r *renderer) fail(err error) {
	r.errs = append(r.errs, &graph.PosError{Pos: r.here, Err: err})
}

// failEach notes mistakes that were found when something was made.
func (r *renderer) failEach(pos graph.Pos, err error) {
	if err == nil {
		return
	}
	r.here = pos
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range list.Unwrap() {
			r.failEach(pos, e)
		}
		return
	}
	r.fail(err)
}

// collect finds the mistakes of all stages, and the names that stages must not have: a
// stage that is called like an image would stand for it.
func (r *renderer) collect(s *Stage, seen map[*Stage]bool) {
	if seen[s] {
		return
	}
	seen[s] = true
	r.failEach(s.pos, s.err)
	sources := []Source{s.spec.From}
	for _, st := range s.spec.Steps {
		if st.do == nil {
			r.failEach(s.pos, errNoStep)
			continue
		}
		r.failEach(st.pos, st.err)
		sources = append(sources, st.do.reads()...)
	}
	for _, src := range sources {
		if isNil(src) {
			continue
		}
		switch x := src.(type) {
		case *Stage:
			r.collect(x, seen)
			continue
		case imageSource:
			r.taken[strings.ToLower(x.ref)] = true
		}
		pos, err := src.origin()
		r.failEach(pos, err)
	}
}

// line writes lines that come from one place.
func (r *renderer) line(pos graph.Pos, lines ...string) {
	for _, l := range lines {
		if len(l) > maxLine {
			r.here = pos
			r.fail(fmt.Errorf("a line of %d bytes is longer than BuildKit can read (%d): put it into a file", len(l), maxLine))
		}
		r.lines = append(r.lines, l)
		r.at = append(r.at, pos)
		pos = graph.Pos{} // the following ones are part of the same
	}
}

// stage writes a stage after those that it reads, once.
func (r *renderer) stage(s *Stage) {
	if _, done := r.stages[s]; done || len(r.errs) > 0 {
		return
	}
	for _, src := range s.sources() {
		if st, ok := src.(*Stage); ok {
			r.stage(st)
		}
	}
	if len(r.errs) > 0 {
		return
	}
	r.here, r.newline = s.pos, false
	from := "FROM "
	if s.spec.Platform != "" {
		p, _ := platforms.Parse(s.spec.Platform) // has been checked
		from += "--platform=" + platforms.FormatAll(platforms.Normalize(p)) + " "
	}
	from += r.name(s.spec.From)
	name := r.free(cmp.Or(s.spec.Name, "stage-"+strconv.Itoa(len(r.stages))))
	r.line(s.pos, from+" AS "+name)
	for _, st := range s.spec.Steps {
		r.here = st.pos
		lines := st.do.write(r)
		for _, l := range lines {
			if !r.newline && strings.Contains(l, newlineRef) && !strings.HasPrefix(l, "RUN ") {
				r.newline = true
				r.program.Text.BuildArgs = map[string]string{newlineArg: "\n"}
				r.line(st.pos, "ARG "+newlineArg)
			}
		}
		r.write(st, lines)
	}
	r.stages[s] = name
}

// write adds the lines of a step: those of a command are one instruction, of others each.
func (r *renderer) write(st Step, lines []string) {
	if _, ok := st.do.(Command); ok {
		r.line(st.pos, lines...)
		return
	}
	for _, l := range lines {
		r.line(st.pos, l)
	}
}

// free makes a name that means nothing else in the program.
func (r *renderer) free(name string) string {
	free := name
	for n := 2; r.taken[free]; n++ {
		free = name + "-" + strconv.Itoa(n)
	}
	r.taken[free] = true
	return free
}

// name is what instructions call a source.
func (r *renderer) name(src Source) string {
	pos, _ := src.origin()
	switch x := src.(type) {
	case *Stage:
		return r.stages[x]
	case imageSource:
		if _, err := strconv.Atoi(x.ref); err == nil {
			return "docker.io/library/" + x.ref // a number would be a stage's
		}
		return x.ref
	case localSource:
		return r.local(x, pos)
	case gitSource:
		url := x.repo.address()
		return r.context("git", strings.TrimSuffix(filepath.Base(x.repo.URL), ".git"), []string{url}, func(name string) {
			r.program.Remotes = append(r.program.Remotes, RemoteContext{Name: name, URL: url, Pos: pos})
		})
	case buildSource:
		n := x.nested
		dir, err := filepath.Abs(n.Dir)
		if err != nil {
			r.fail(err)
		}
		h := graph.NewHasher("zlayer.dag.nested.v1")
		h.Map(n.Args)
		return r.context("build", filepath.Base(dir), []string{dir, n.File, n.Target, h.Digest().String()}, func(name string) {
			r.program.Nested = append(r.program.Nested, NestedContext{Name: name, Nested: n, Pos: pos})
		})
	case *llbSource:
		return r.once(x, "llb-"+strconv.Itoa(len(r.program.States)), func(name string) {
			r.program.States = append(r.program.States, StateContext{Name: name, State: *x.state, Pos: pos})
		})
	}
	r.fail(fmt.Errorf("a %T cannot be read here", src))
	return scratch
}

func (r *renderer) local(x localSource, pos graph.Pos) string {
	dir, err := filepath.Abs(x.tree.Dir)
	if err != nil {
		r.fail(err)
	}
	what := slices.Concat([]string{dir, strconv.FormatBool(x.tree.NoIgnore)}, x.tree.Include, []string{""}, x.tree.Exclude)
	return r.context("local", filepath.Base(dir), what, func(name string) {
		r.program.Locals = append(r.program.Locals, LocalContext{Name: name, Tree: x.tree, Pos: pos})
	})
}

// context is the name of a source that is no stage; add makes it known when it is new.
// The name is the same in all programs.
func (r *renderer) context(kind, base string, what []string, add func(name string)) string {
	h := graph.NewHasher("zlayer.dag.context.v1")
	h.String(kind)
	h.Int(len(what))
	for _, w := range what {
		h.String(w)
	}
	key := h.Digest().Encoded()
	return r.once(key, plainName(base)+"-"+key[:10], add)
}

// once names what key stands for when it is first asked for.
func (r *renderer) once(key any, name string, add func(name string)) string {
	if known, ok := r.contexts[key]; ok {
		return known
	}
	name = r.free(name)
	r.contexts[key] = name
	add(name)
	return name
}

// plainName makes a name of what may be in the name of an image.
func plainName(s string) string {
	var b bytes.Buffer
	for _, c := range []byte(strings.ToLower(s)) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteByte(c)
		case b.Len() > 0 && b.Bytes()[b.Len()-1] != '-':
			b.WriteByte('-')
		}
	}
	return cmp.Or(strings.Trim(b.String(), "-"), "dir")
}

// Rules is the ignore file of a tree whose own ignore file says what is given; nil where
// that has no say or is not there.
func (t Tree) Rules(own []byte) []byte {
	var b bytes.Buffer
	switch {
	case len(t.Include) > 0:
		b.WriteString("*\n")
		for _, p := range t.Include {
			b.WriteString("!" + p + "\n")
		}
	case !t.NoIgnore:
		b.Write(own)
		b.WriteByte('\n')
	}
	for _, p := range t.Exclude {
		b.WriteString(p + "\n")
	}
	return b.Bytes()
}
