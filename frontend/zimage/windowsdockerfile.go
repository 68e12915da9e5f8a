package zimage

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/graph"
)

// dockerfileStages lists the stages of a Dockerfile that target needs, none if it is not valid: the
// frontend for Dockerfiles says what is wrong.
func dockerfileStages(name string, text []byte, target string, opt Options) []windowsStage {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	// Not a nil linter: the parser panics on that where a "# check=" comment stands above an instruction.
	stages, meta, err := instructions.Parse(ast.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil
	}
	vars := lookup{}
	for _, m := range meta {
		for _, a := range m.Args {
			if v, ok := opt.BuildArgs[a.Key]; ok {
				vars[a.Key] = v
			} else if a.Value != nil {
				vars[a.Key], _, _ = evaluate(*a.Value, vars)
			}
		}
	}
	vars["TARGETPLATFORM"] = opt.Platform
	var list []windowsStage
	for _, st := range stages {
		list = append(list, dockerfileStage(name, st, list, vars, opt.Platform))
	}
	return needed(follow(list), target)
}

func dockerfileStage(name string, st instructions.Stage, before []windowsStage, vars lookup, platform string) windowsStage {
	w := windowsStage{name: st.Name, parent: -1, platform: platform, pos: graph.Pos{File: name, Line: st.Location[0].Start.Line}}
	w.base, _, _ = evaluate(st.BaseName, vars)
	if st.Platform != "" {
		w.platform, _, _ = evaluate(st.Platform, vars)
	}
	for i := range before {
		if before[i].name != "" && before[i].name == w.base {
			w.parent = i
		}
	}
	for _, cmd := range st.Commands {
		switch cmd := cmd.(type) {
		case *instructions.CopyCommand:
			w.reads = append(w.reads, cmd.From)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(cmd) {
				w.reads = append(w.reads, m.From)
			}
			w.runs = append(w.runs, dockerfileRun(name, cmd))
		}
	}
	return w
}

func dockerfileRun(name string, run *instructions.RunCommand) windowsRun {
	r := windowsRun{pos: graph.Pos{File: name, Line: run.Location()[0].Start.Line}}
	if !run.PrependShell {
		r.exec = run.CmdLine
		return r
	}
	r.shell = strings.Join(run.CmdLine, " ")
	for _, f := range run.Files {
		r.shell += "\n" + f.Data
	}
	return r
}

// needed drops the runs of stages that target does not need: the others are not built, and files
// for several systems have stages for each.
func needed(list []windowsStage, target string) []windowsStage {
	index := map[string]int{}
	for i, st := range list {
		index[strconv.Itoa(i)] = i
		if st.name != "" {
			index[strings.ToLower(st.name)] = i
		}
	}
	last := len(list) - 1
	if i, ok := index[strings.ToLower(target)]; ok && target != "" {
		last = i
	}
	need := make([]bool, len(list))
	var visit func(i int)
	visit = func(i int) {
		if i < 0 || need[i] {
			return
		}
		need[i] = true
		visit(list[i].parent)
		for _, from := range list[i].reads {
			if j, ok := index[strings.ToLower(from)]; ok && j < i {
				visit(j)
			}
		}
	}
	visit(last)
	for i := range list {
		if !need[i] {
			list[i].runs, list[i].platform = nil, ""
		}
	}
	return list
}
