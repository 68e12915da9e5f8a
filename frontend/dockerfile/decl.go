package dockerfile

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// decl is a stage as the Dockerfile declares it.
type decl struct {
	index int
	// name is the stage's own name, "stage-N" for one without.
	name  string
	named bool
	// unique: no other stage has the name, so it can be lowered as a target.
	unique bool
	// platform is the expanded --platform flag, nil without one.
	platform *ocispecs.Platform
	stage    instructions.Stage
	reads    []read
	names    []name
}

// read is a reference from one stage to another.
type read struct {
	decl *decl
	kind graph.InputKind
	loc  []parser.Range
}

// name is a reference from a stage to something that is no stage of the file.
type name struct {
	name     string
	platform *ocispecs.Platform
	kind     graph.InputKind
	loc      []parser.Range
}

// file is a parsed Dockerfile with the stages' references to each other. It
// exists to find edges and to give every stage a name to lower it by; what the
// instructions mean is left to dockerfile2llb. A reference that is missed here
// (an ONBUILD trigger of a base image) costs an edge, not correctness: the stage
// it names is then lowered as part of its reader.
type file struct {
	decls []*decl
	// scanned is the Dockerfile with one more line, which declares [scanStageArg].
	scanned []byte
	// shift is the number of that line.
	shift int
	// plain: scanned means what the Dockerfile means, and every stage without a name can
	// have the one that BuildKit gives it.
	plain bool
}

// parseFile parses what dockerfile2llb has accepted already. args are the values
// of build arguments, env the predefined arguments.
func parseFile(text []byte, args map[string]string, env *llb.EnvList) (*file, error) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	stages, metaArgs, err := instructions.Parse(ast.AST, silent())
	if err != nil {
		return nil, err
	}
	lex := shell.NewLex(ast.EscapeToken)
	env = expandMetaArgs(lex, env, metaArgs, args)
	f := &file{}
	byName := map[string]*decl{}
	for i, st := range stages {
		d := &decl{index: i, name: st.Name, named: st.Name != "", unique: true, stage: st}
		base := expand(lex, st.BaseName, env)
		if st.Platform != "" {
			if p, err := platforms.Parse(expand(lex, st.Platform, env)); err == nil {
				d.platform = &p
			}
		}
		// FROM sees the stages before it, by exact name; COPY and RUN see all.
		if b := byName[base]; b != nil {
			d.reads = append(d.reads, read{decl: b, kind: graph.InputBase, loc: st.Location})
		} else {
			d.names = append(d.names, name{name: base, platform: d.platform, kind: graph.InputBase, loc: st.Location})
		}
		if d.named {
			if other := byName[strings.ToLower(st.Name)]; other != nil {
				other.unique, d.unique = false, false
			}
			byName[strings.ToLower(st.Name)] = d
		}
		f.decls = append(f.decls, d)
	}
	for _, d := range f.decls {
		for _, cmd := range d.stage.Commands {
			f.commandReads(d, cmd, byName)
		}
		d.stage.Commands = nil // all that is needed of them is known, and the lowering has its own
	}
	f.scanStages(text, ast, metaArgs, byName)
	return f, nil
}

// commandReads adds the stages that an instruction of d names.
func (f *file) commandReads(d *decl, cmd instructions.Command, byName map[string]*decl) {
	switch c := cmd.(type) {
	case *instructions.CopyCommand:
		from := byName[strings.ToLower(c.From)]
		if i, err := strconv.Atoi(c.From); err == nil && i >= 0 && i < len(f.decls) {
			from = f.decls[i]
		}
		d.read(from, c.From, graph.InputCopy, c.Location())
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			d.read(byName[strings.ToLower(m.From)], m.From, graph.InputMount, c.Location())
		}
	}
}

func (d *decl) read(from *decl, named string, kind graph.InputKind, loc []parser.Range) {
	switch {
	case from == nil && named != "":
		d.names = append(d.names, name{name: named, kind: kind, loc: loc})
	case from != nil && from.index < d.index:
		d.reads = append(d.reads, read{decl: from, kind: kind, loc: loc})
	}
}

// expandMetaArgs adds the arguments declared before the first FROM.
func expandMetaArgs(lex *shell.Lex, env *llb.EnvList, cmds []instructions.ArgCommand, args map[string]string) *llb.EnvList {
	for _, cmd := range cmds {
		for _, kv := range cmd.Args {
			if v, ok := args[kv.Key]; ok {
				env = env.AddOrReplace(kv.Key, v)
			} else if kv.Value != nil {
				env = env.AddOrReplace(kv.Key, expand(lex, *kv.Value, env))
			}
		}
	}
	return env
}

// expand replaces variables; a word that cannot be expanded has made the
// lowering fail before, so its error is of no interest here.
func expand(lex *shell.Lex, word string, env shell.EnvGetter) string {
	res, err := lex.ProcessWordWithMatches(word, env)
	if err != nil {
		return word
	}
	return res.Result
}

// scanStages makes the scanned text; metaArgs are the arguments before the first FROM.
func (f *file) scanStages(text []byte, ast *parser.Result, metaArgs []instructions.ArgCommand, byName map[string]*decl) {
	if len(f.decls) == 0 {
		f.scanned = text // what is wrong with it is for the lowering to say
		return
	}
	f.plain = !bytes.HasPrefix(text, []byte("#!")) && !namesScanArg(ast)
	f.shift = lastLine(text, metaArgs) + 1
	f.scanned = withScanLine(text, f.shift)
	f.nameStages(byName)
}

// withScanLine adds the line that declares [scanStageArg] as the n-th.
func withScanLine(text []byte, n int) []byte {
	text, marked := bytes.CutPrefix(text, byteOrderMark)
	above := 0
	for range n - 1 {
		above += bytes.IndexByte(text[above:], '\n') + 1
	}
	var mark []byte
	if marked {
		mark = byteOrderMark
	}
	return slices.Concat(mark, text[:above], []byte("ARG "+scanStageArg+"=true\n"), text[above:])
}

var byteOrderMark = []byte("\ufeff")

// lastLine is the last line of what must stay at the top: directives and arguments.
// Comments above the first FROM stay with it.
func lastLine(text []byte, metaArgs []instructions.ArgCommand) int {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if len(metaArgs) > 0 {
		loc := metaArgs[len(metaArgs)-1].Location()
		return loc[len(loc)-1].End.Line
	}
	var p parser.DirectiveParser
	n := 0
	for line := range bytes.Lines(text) {
		if d, err := p.ParseLine(bytes.TrimSpace(line)); d == nil || err != nil {
			break
		}
		n++
	}
	return n
}

// namesScanArg reports whether an instruction that could speaks of the scan-stage
// argument.
func namesScanArg(ast *parser.Result) bool {
	return slices.ContainsFunc(ast.AST.Children, func(n *parser.Node) bool {
		switch strings.ToUpper(n.Value) {
		case "ARG", "FROM", "ONBUILD":
			return strings.Contains(strings.ToUpper(n.Original), scanStageArg)
		}
		return false
	})
}

// nameStages gives every stage a name. That of an unnamed one is the name that
// dockerfile2llb shows for it anyway, unless the file uses it for another.
func (f *file) nameStages(byName map[string]*decl) {
	for _, d := range f.decls {
		if d.named {
			continue
		}
		d.name = "stage-" + strconv.Itoa(d.index)
		for byName[d.name] != nil {
			d.name += "-unnamed"
			f.plain = false
		}
	}
}

// named is the scanned text with a name on every stage.
func (f *file) named() []byte {
	lines := bytes.Split(f.scanned, []byte("\n"))
	for _, d := range f.decls {
		if d.named {
			continue
		}
		from := "FROM "
		if d.stage.Platform != "" {
			from += "--platform=" + d.stage.Platform + " "
		}
		from += d.stage.BaseName + " AS " + d.name
		for _, r := range d.stage.Location {
			for n := r.Start.Line; n <= r.End.Line && n < len(lines); n++ {
				lines[n] = []byte(from) // one further down, for the scan line
				from = ""
			}
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

// unshift gives for a range of the scanned or named text that of the text itself.
func (f *file) unshift(r *pb.Range) *pb.Range {
	r = r.CloneVT()
	for _, p := range []*pb.Position{r.Start, r.End} {
		if p != nil && int(p.Line) > f.shift {
			p.Line--
		}
	}
	return r
}

// unshifted turns ranges of the scanned or named text into ranges of the text itself.
func (f *file) unshifted(loc []parser.Range) []parser.Range {
	loc = slices.Clone(loc)
	for i := range loc {
		for _, p := range []*parser.Position{&loc[i].Start, &loc[i].End} {
			if p.Line > f.shift {
				p.Line--
			}
		}
	}
	return loc
}

// target returns the stage a build of the file ends in, nil when there is none
// of that name.
func (f *file) target(name string) *decl {
	if name == "" && len(f.decls) > 0 {
		return f.decls[len(f.decls)-1]
	}
	for i := len(f.decls) - 1; i >= 0; i-- {
		if d := f.decls[i]; d.named && strings.EqualFold(d.name, name) {
			return d
		}
	}
	return nil
}
