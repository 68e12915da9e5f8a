package zimage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// Overlay puts a file in runtime mode on top of the Dockerfile of the runtime. What the file says
// about the image follows the last stage, in the order that [Convert] has for the top of a file
// with stages; its args replace the defaults of the arguments that the template declares, and must
// be among them. Lines of the template come from the file's runtime key.
func Overlay(f *File, template []byte, opt Options) (*Dockerfile, error) {
	if f.Mode() != ModeRuntime {
		return nil, fmt.Errorf("%s is not a file with a runtime", f.Name)
	}
	ast, err := parser.Parse(bytes.NewReader(template))
	if err != nil {
		return nil, fmt.Errorf("parsing the template of runtime %s: %w", f.Runtime.Value, err)
	}
	if ast.EscapeToken != parser.DefaultEscapeToken {
		return nil, fmt.Errorf("the template of runtime %s changes the escape character", f.Runtime.Value)
	}
	c := newConverter(f, opt)
	c.windows()
	list, at := dockerfileStages("", template, "", opt)
	for i := range list {
		list[i].pos = f.Runtime.Pos
		for n := range list[i].runs {
			list[i].runs[n].pos = f.Runtime.Pos
		}
	}
	if !opt.Windows && at >= 0 && isWindows(list, at) {
		c.Fail(f.Runtime.Pos, errWindows)
	}
	c.out.Windows = &WindowsStages{name: f.Name, text: f.Text, opt: opt, list: list, target: at}
	lines := strings.Split(strings.TrimSuffix(string(template), "\n"), "\n")
	places := slices.Repeat([]graph.Pos{f.at("runtime", f.Runtime.Pos)}, len(lines))
	c.overrideArgs(ast.AST, lines, places)
	for i, line := range lines {
		c.out.Text = append(append(c.out.Text, line...), '\n')
		c.out.Lines = append(c.out.Lines, c.Clamp(places[i]))
	}
	st := &stageState{Stage: &Stage{}, scope: &scope{vars: map[string]string{}}}
	c.head(st, &f.Meta)
	c.tail(st, &f.Meta)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return c.out, nil
}

// overrideArgs rewrites the declarations of arguments that the file has a default for.
func (c *converter) overrideArgs(ast *parser.Node, lines []string, places []graph.Pos) {
	defaults := map[string]Pair{}
	for _, a := range c.file.Args {
		defaults[a.Key.Value] = a
	}
	var declared []string
	for _, n := range ast.Children {
		if !strings.EqualFold(n.Value, "arg") {
			continue
		}
		inst, err := instructions.ParseInstruction(n)
		if err != nil {
			continue // BuildKit says what is wrong with it
		}
		arg, ok := inst.(*instructions.ArgCommand)
		if !ok {
			continue
		}
		text := "ARG"
		changed := false
		for _, a := range arg.Args {
			declared = append(declared, a.Key)
			text += " " + a.Key
			if p, ok := defaults[a.Key]; ok && p.Value.Value != "" {
				w, ok := c.word(&stageState{newline: true}, p.Value)
				if !ok {
					return
				}
				if strings.Contains(p.Value.Value, "\n") {
					c.Errorf(p.Value.Pos, "the argument of a runtime must be one line")
				}
				text += "=" + w
				changed = true
				places[n.StartLine-1] = p.Key.Pos
			} else if a.Value != nil {
				text += "=" + *a.Value
			}
		}
		if changed {
			lines[n.StartLine-1] = text
			for i := n.StartLine; i < n.EndLine; i++ {
				lines[i] = ""
			}
		}
	}
	for _, a := range c.file.Args {
		if !slices.Contains(declared, a.Key.Value) {
			c.Errorf(a.Key.Pos, "runtime %s has no argument %q%s", c.file.Runtime.Value, a.Key.Value, yamlfile.DidYouMean(a.Key.Value, declared))
		}
	}
}
