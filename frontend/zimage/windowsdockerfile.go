package zimage

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// CheckWindowsDockerfile is [CheckWindows] for a Dockerfile, and refuses what only a daemon on
// Windows can run where opt does not say that there is one. It looks at what target needs, "" being
// the last stage, and finds nothing in a text that is not a valid Dockerfile. The warnings are
// there beside an error, too.
func CheckWindowsDockerfile(name string, text []byte, target string, opt Options) (warnings []*graph.PosError, err error) {
	if !MayBeWindows(text, opt) {
		return nil, nil
	}
	w := DockerfileStages(name, text, target, opt)
	c := w.converter()
	c.checkWindows(w.list)
	if !opt.Windows {
		for i := range w.list {
			if len(w.list[i].runs) > 0 && isWindows(w.list, i) {
				c.Fail(w.list[i].runs[0].pos, errWindows)
				break
			}
		}
	}
	return c.out.Warnings, c.Err()
}

// MayBeWindows reports whether a build file can be one of Windows, as far as it and the request say
// themselves: builds that it is based on can make it one, too.
func MayBeWindows(text []byte, opt Options) bool {
	mentions := func(s []byte) bool {
		s = bytes.ToLower(s)
		return bytes.Contains(s, []byte("windows")) || bytes.Contains(s, []byte("nanoserver"))
	}
	for _, v := range opt.BuildArgs {
		if mentions([]byte(v)) {
			return true
		}
	}
	return strings.HasPrefix(opt.Platform, "windows") || mentions(text)
}

// dockerfileStages lists the stages of a Dockerfile, and says which one is target; both are only of
// use where target is not -1. Stages that target does not need have no runs. None are listed if it
// is not valid: the frontend for Dockerfiles says what is wrong.
func dockerfileStages(name string, text []byte, target string, opt Options) (list []windowsStage, at int) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, -1
	}
	// Not a nil linter: the parser panics on that where a "# check=" comment stands above an instruction.
	stages, meta, err := instructions.Parse(ast.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, -1
	}
	vars := platformArgs(opt.Platform)
	for _, m := range meta {
		for _, a := range m.Args {
			if v, ok := opt.BuildArgs[a.Key]; ok {
				vars[a.Key] = v
			} else if a.Value != nil {
				vars[a.Key], _, _ = evaluate(*a.Value, vars)
			}
		}
	}
	for _, st := range stages {
		list = append(list, dockerfileStage(name, st, list, vars, opt.Platform))
	}
	return needed(follow(list), target)
}

// platformArgs are the arguments that every FROM can use, for one platform.
func platformArgs(platform string) lookup {
	vars := lookup{}
	own := platforms.DefaultSpec()
	for prefix, p := range map[string]*ocispecs.Platform{"BUILD": &own, "TARGET": parsePlatform(platform)} {
		if p == nil {
			p = &own
		}
		vars[prefix+"PLATFORM"], vars[prefix+"OS"], vars[prefix+"ARCH"], vars[prefix+"VARIANT"] = platforms.FormatAll(*p), p.OS, p.Architecture, p.Variant
	}
	if platform != "" {
		vars["TARGETPLATFORM"] = platform // or several
	}
	return vars
}

// parsePlatform gives nil for what is not one platform.
func parsePlatform(s string) *ocispecs.Platform {
	if s == "" {
		return nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil
	}
	return &p
}

func dockerfileStage(name string, st instructions.Stage, before []windowsStage, vars lookup, platform string) windowsStage {
	w := windowsStage{name: st.Name, parent: -1, platform: platform, pos: graph.Pos{File: name, Line: st.Location[0].Start.Line}}
	w.base, _, _ = evaluate(st.BaseName, vars)
	if st.Platform != "" {
		w.platform, _, _ = evaluate(st.Platform, vars)
		w.own = true
	}
	for i := range before {
		if before[i].name != "" && strings.EqualFold(before[i].name, w.base) {
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
// for several systems have stages for each. It says which one target is.
func needed(list []windowsStage, target string) ([]windowsStage, int) {
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
	return list, last
}
