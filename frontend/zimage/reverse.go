package zimage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// FromDockerfile returns the ZImagefile that says what a Dockerfile says; positions are those of
// the Dockerfile, which name calls. [Marshal] gives its text. What the format cannot express is
// refused, all of it at once, see [yamlfile.Errors].
//
// The stages of the result have their arguments declared at their beginning, so that a RUN can see
// arguments that the Dockerfile declares only after it, and their metadata at their end.
func FromDockerfile(name string, text []byte) (*File, error) {
	r := &reverser{decoder: newDecoder(name, text)}
	if line, col, bad := yamlfile.InvalidUTF8(text); bad || bytes.IndexByte(text, 0) >= 0 {
		r.Errorf(graph.Pos{Line: line, Column: col}, "the Dockerfile is not UTF-8 text, which a ZImagefile has to be")
		return nil, r.Err()
	}
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, r.syntax(err)
	}
	stages, meta, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil, r.syntax(err)
	}
	if len(stages) == 0 {
		r.Errorf(graph.Pos{Line: 1}, "the Dockerfile has no stages")
		return nil, r.Err()
	}
	r.escape = ast.EscapeToken
	f := &File{Name: name, Text: text}
	f.Args = r.globals(meta)
	r.nameStages(stages)
	for i := range stages {
		f.Stages = append(f.Stages, *r.stage(&stages[i], i))
	}
	if len(stages) == 1 && stages[0].Name == "" {
		single(f)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	// What was not foreseen here must not come out as a file that does not parse.
	if _, err := Parse(name, Marshal(f)); err != nil {
		for _, e := range yamlfile.Errors(err) {
			r.Errorf(graph.Pos{Line: 1}, "writing this Dockerfile as a ZImagefile: %w", e.Err)
		}
		return nil, r.Err()
	}
	return f, nil
}

// reverser turns one Dockerfile around.
type reverser struct {
	*decoder
	escape rune
	names  []string // of the stages
	// windows says which stages before are of Windows, where paths can have a drive.
	windows []bool
	global  map[string]bool // arguments before the first FROM
}

// parsePrefix is what a position says better.
var parsePrefix = lazyregexp.New(`^dockerfile parse error on line \d+: `)

// syntax gives BuildKit's parse error the form of ours.
func (r *reverser) syntax(err error) error {
	line := 1
	var el *parser.LocationError
	if errors.As(err, &el) && len(el.Locations) > 0 && len(el.Locations[0]) > 0 {
		line = el.Locations[0][0].Start.Line
	}
	r.Errorf(graph.Pos{Line: line}, "parsing the Dockerfile: %s", parsePrefix().ReplaceAllString(err.Error(), ""))
	return r.Err()
}

// place is where an instruction stands.
func (r *reverser) place(loc []parser.Range) graph.Pos {
	if len(loc) == 0 {
		return r.Clamp(graph.Pos{Line: 1})
	}
	p := graph.Pos{Line: loc[0].Start.Line, EndLine: loc[len(loc)-1].End.Line}
	if p.EndLine <= p.Line {
		p.EndLine = 0
	}
	return r.Clamp(p)
}

// text gives a word that is expanded the spelling of ZImagefiles.
func (r *reverser) text(pos graph.Pos, word string) String {
	parts, err := dockerParts(word, r.escape)
	if err == nil {
		var s string
		if s, err = spell(parts, false); err == nil {
			return String{Value: s, Pos: pos}
		}
	}
	r.Fail(pos, err)
	return String{Pos: pos}
}

// literal gives a word that ZImagefiles do not expand.
func (r *reverser) literal(pos graph.Pos, what, word string) String {
	parts, err := dockerParts(word, r.escape)
	if err != nil {
		r.Fail(pos, err)
		return String{Pos: pos}
	}
	if n := names(parts); n != nil {
		r.Errorf(pos, "%s uses $%s, and a ZImagefile expands no variables there: write the value", what, n[0])
		return String{Pos: pos}
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.literal)
	}
	return String{Value: b.String(), Pos: pos}
}

// optional is nil for an empty text.
func optional(s String) *String {
	if s.Value == "" {
		return nil
	}
	return &s
}

// globals are the arguments before the first FROM.
func (r *reverser) globals(meta []instructions.ArgCommand) []Pair {
	var out []Pair
	r.global = map[string]bool{}
	for i := range meta {
		pos := r.place(meta[i].Location())
		for _, a := range meta[i].Args {
			if r.global[a.Key] {
				r.Errorf(pos, "argument %s is declared twice, which a ZImagefile cannot say", a.Key)
			}
			r.global[a.Key] = true
			out = append(out, r.pair(pos, a))
		}
	}
	return out
}

func (r *reverser) pair(pos graph.Pos, a instructions.KeyValuePairOptional) Pair {
	p := Pair{Key: String{Value: a.Key, Pos: pos}, Value: String{Pos: pos}}
	if a.Value != nil {
		p.Value = r.text(pos, *a.Value)
	}
	return p
}

// nameStages gives every stage a name of its own.
func (r *reverser) nameStages(stages []instructions.Stage) {
	taken := map[string]bool{}
	for _, s := range stages {
		if s.Name != "" && taken[s.Name] {
			r.Errorf(r.place(s.Location), "there are two stages called %s, which a ZImagefile cannot say", s.Name)
		}
		taken[s.Name] = true
	}
	for i, s := range stages {
		name := s.Name
		if name == "" {
			name = "stage-" + strconv.Itoa(i)
			for taken[name] {
				name += "-unnamed"
			}
			taken[name] = true
		}
		r.names = append(r.names, name)
	}
}

// stage turns one stage around.
func (r *reverser) stage(s *instructions.Stage, i int) *Stage {
	pos := r.place(s.Location)
	st := &Stage{Name: r.names[i], Pos: pos}
	base := s.BaseName
	// FROM sees the stages before it, by exact name.
	if j := slices.Index(r.names, base); j >= i && base != "" {
		base = unambiguous(base)
	}
	if strings.ContainsAny(base, "\"'\\`") {
		r.Errorf(pos, "the base has quotes or escapes: write it without")
	}
	st.Base = &String{Value: base, Pos: pos}
	if s.Platform != "" {
		st.Platform = &String{Value: s.Platform, Pos: pos}
	}
	parent := slices.Index(r.names[:i], base)
	r.windows = append(r.windows, strings.HasPrefix(s.Platform, "windows") || windowsImage(base) || parent >= 0 && r.windows[parent])
	b := &stageBuilder{reverser: r, Stage: st, index: i, set: map[string]bool{}}
	for _, cmd := range s.Commands {
		b.command(cmd)
	}
	b.finish()
	return st
}

// single makes a file with one unnamed stage one without stages, if the arguments allow it: its
// stage has all arguments of the file.
func single(f *File) {
	st := &f.Stages[0]
	args := map[string]string{}
	for _, a := range st.Args {
		args[a.Key.Value] = a.Value.Value
	}
	for _, a := range f.Args {
		if v, declared := args[a.Key.Value]; !declared || v != "" {
			return
		}
	}
	all := f.Args
	for _, a := range st.Args {
		if slices.ContainsFunc(f.Args, func(g Pair) bool { return g.Key == a.Key || g.Key.Value == a.Key.Value }) {
			continue
		}
		parts, err := parseText(a.Value.Value)
		if err != nil || names(parts) != nil {
			return // the default may need what is known in the stage only
		}
		all = append(all, a)
	}
	f.Args, f.Base, f.Platform, f.Steps, f.Meta, f.Stages = all, st.Base, st.Platform, st.Steps, st.Meta, nil
}

// stageBuilder gathers the instructions of a stage.
type stageBuilder struct {
	*reverser
	*Stage
	index int
	// set are the names that ENV and ARG have set up to here.
	set map[string]bool
	// user is the last USER, and the number of steps before it.
	user   *String
	userAt int
	// labels use these variables, which must keep their value up to the end.
	fixed []string
}

func (b *stageBuilder) step(s Step) { b.Steps = append(b.Steps, s) }

// finish places the last USER: it is the image's unless a step comes after it.
func (b *stageBuilder) finish() {
	if b.user == nil {
		return
	}
	if b.userAt == len(b.Steps) {
		b.User = b.user
		return
	}
	b.flushUser()
}

// flushUser makes the last USER a step, where it stands.
func (b *stageBuilder) flushUser() {
	if b.user != nil {
		b.Steps = slices.Insert(b.Steps, b.userAt, Step{Pos: b.user.Pos, User: b.user})
		b.user = nil
	}
}

// command adds one instruction.
func (b *stageBuilder) command(cmd instructions.Command) {
	pos := b.place(cmd.Location())
	switch c := cmd.(type) {
	case *instructions.ArgCommand:
		b.arg(pos, c)
	case *instructions.EnvCommand:
		b.env(pos, c)
	case *instructions.WorkdirCommand:
		dir := b.text(pos, c.Path)
		if b.Workdir == nil && len(b.Steps) == 0 && b.user == nil {
			b.Workdir = &dir
		} else {
			b.step(Step{Pos: pos, Workdir: &dir})
		}
	case *instructions.UserCommand:
		b.flushUser()
		user := b.text(pos, c.User)
		b.user, b.userAt = &user, len(b.Steps)
	case *instructions.RunCommand:
		b.run(pos, c)
	case *instructions.CopyCommand:
		b.copy(pos, c)
	case *instructions.AddCommand:
		b.add(pos, c)
	case *instructions.LabelCommand:
		b.label(pos, c)
	case *instructions.ExposeCommand:
		b.expose(pos, c)
	case *instructions.VolumeCommand:
		for _, v := range c.Volumes {
			b.Volumes = append(b.Volumes, b.literal(pos, "VOLUME", v))
		}
	case *instructions.HealthCheckCommand:
		b.healthcheck(pos, c)
	case *instructions.StopSignalCommand:
		sig := b.literal(pos, "STOPSIGNAL", c.Signal)
		b.StopSignal = &sig
	case *instructions.EntrypointCommand:
		b.Entrypoint = b.commandLine(pos, c.ShellDependantCmdLine)
	case *instructions.CmdCommand:
		b.Cmd = b.commandLine(pos, c.ShellDependantCmdLine)
	case *instructions.MaintainerCommand:
		b.Errorf(pos, "MAINTAINER cannot be said in a ZImagefile: use a label")
	default:
		b.Errorf(pos, "%s cannot be said in a ZImagefile", strings.ToUpper(cmd.Name()))
	}
}

func (b *stageBuilder) arg(pos graph.Pos, c *instructions.ArgCommand) {
	for _, a := range c.Args {
		p := b.pair(pos, a)
		switch {
		case slices.ContainsFunc(b.Args, func(o Pair) bool { return o.Key.Value == a.Key }):
			b.Errorf(pos, "argument %s is declared twice in this stage, which a ZImagefile cannot say", a.Key)
			continue
		case b.set[a.Key]:
			b.Errorf(pos, "argument %s comes after a variable of that name; in a ZImagefile arguments come first", a.Key)
			continue
		case a.Value != nil && p.Value.Value == "" && b.global[a.Key]:
			b.Errorf(pos, "argument %s has an empty default where the file has another, which a ZImagefile cannot say", a.Key)
			continue
		}
		b.changes(pos, a.Key)
		if parts, err := parseText(p.Value.Value); err == nil {
			for _, n := range names(parts) {
				if b.set[n] {
					b.Errorf(pos, "the default of argument %s uses $%s, which is set before it; in a ZImagefile arguments come first", a.Key, n)
				}
			}
		}
		b.Args = append(b.Args, p)
	}
}

// changes notes that a label before this would see another value of the variable at the end.
func (b *stageBuilder) changes(pos graph.Pos, name string) {
	if slices.Contains(b.fixed, name) {
		b.Errorf(pos, "$%s changes after a LABEL has used it; in a ZImagefile labels come last", name)
	}
}

func (b *stageBuilder) env(pos graph.Pos, c *instructions.EnvCommand) {
	pairs := []Pair{}
	for _, kv := range c.Env {
		key := b.literal(pos, "the name in ENV", kv.Key)
		if fault := yamlfile.VariableName(key.Value); fault != "" {
			b.Errorf(pos, "ENV %q %s", key.Value, fault)
		}
		b.changes(pos, key.Value)
		b.set[key.Value] = true
		pairs = setPair(pairs, Pair{Key: key, Value: b.text(pos, kv.Value)})
	}
	if b.Env == nil && b.Workdir == nil && len(b.Steps) == 0 && b.user == nil {
		b.Env = pairs
		return
	}
	b.step(Step{Pos: pos, Env: pairs})
}

// setPair adds a pair, or replaces the one of the name.
func setPair(pairs []Pair, p Pair) []Pair {
	for i := range pairs {
		if pairs[i].Key.Value == p.Key.Value {
			pairs[i].Value = p.Value
			return pairs
		}
	}
	return append(pairs, p)
}

func (b *stageBuilder) label(pos graph.Pos, c *instructions.LabelCommand) {
	for _, kv := range c.Labels {
		key := b.literal(pos, "the name in LABEL", kv.Key)
		if fault := yamlfile.LabelName(key.Value); fault != "" {
			b.Errorf(pos, "label %q %s", key.Value, fault)
		}
		value := b.text(pos, kv.Value)
		if parts, err := parseText(value.Value); err == nil {
			b.fixed = append(b.fixed, names(parts)...)
		}
		b.Labels = setPair(b.Labels, Pair{Key: key, Value: value})
	}
}

// expose adds ports; ranges become their members.
func (b *stageBuilder) expose(pos graph.Pos, c *instructions.ExposeCommand) {
	for _, p := range c.Ports {
		word := b.literal(pos, "EXPOSE", p).Value
		ports, proto, has := strings.Cut(word, "/")
		if has {
			proto = "/" + proto
		}
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || to < from {
			b.Errorf(pos, "EXPOSE %s cannot be said in a ZImagefile: write ports as NUMBER or NUMBER/PROTOCOL", p)
			continue
		}
		for n := from; n <= to; n++ {
			b.Expose = append(b.Expose, String{Value: fmt.Sprintf("%d%s", n, strings.ToLower(proto)), Pos: pos})
		}
	}
}
