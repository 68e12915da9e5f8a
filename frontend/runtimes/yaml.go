package runtimes

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"gopkg.in/yaml.v3"
)

// toYAML writes the Dockerfile of a template as a ZImagefile. It knows the instructions that
// templates consist of, in the order in which they have them.
func toYAML(text []byte, os string) ([]byte, error) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	file, args, stages := mapping(), mapping(), mapping()
	put(file, "version", quoted("1"), nil)
	if os == "windows" {
		put(file, "os", plainText(os), nil)
	}
	put(file, "args", args, nil)
	put(file, "stages", stages, nil)
	var st *yamlStage
	for _, n := range ast.AST.Children {
		n.Value = strings.ToLower(n.Value)
		switch {
		case n.Value == command.From:
			st = newStage(n)
			put(stages, st.name, st.node, n.PrevComment)
		case st == nil:
			name, value, _ := strings.Cut(n.Next.Value, "=")
			put(args, name, quoted(value), n.PrevComment)
		default:
			if err := st.add(n); err != nil {
				return nil, err
			}
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(file); err != nil {
		return nil, err
	}
	return spaced(out.Bytes()), enc.Close()
}

// spaced puts empty lines between the parts of a file.
func spaced(text []byte) []byte {
	lines := strings.SplitAfter(string(text), "\n")
	var out strings.Builder
	inStages, first, comment := false, true, false
	for _, l := range lines {
		switch {
		case l == "args:\n" || l == "stages:\n":
			out.WriteByte('\n')
			inStages = l == "stages:\n"
		case inStages && strings.HasPrefix(l, "  #"):
			if !comment && !first {
				out.WriteByte('\n')
			}
			first = false
		}
		comment = strings.HasPrefix(strings.TrimLeft(l, " "), "#")
		out.WriteString(l)
	}
	return []byte(out.String())
}

// yamlStage is a stage that is being written.
type yamlStage struct {
	name              string
	node, args, steps *yaml.Node
}

func newStage(n *parser.Node) *yamlStage {
	s := &yamlStage{name: n.Next.Next.Next.Value, node: mapping()} // image AS name
	put(s.node, "base", plainText(n.Next.Value), nil)
	for _, f := range n.Flags {
		put(s.node, "platform", plainText(strings.TrimPrefix(f, "--platform=")), nil)
	}
	return s
}

// add writes one instruction, as a field of the stage if nothing has happened in it yet, or if
// nothing more can.
func (s *yamlStage) add(n *parser.Node) error {
	switch n.Value {
	case command.Arg:
		if s.args == nil {
			s.args = mapping()
			put(s.node, "args", s.args, nil)
		}
		put(s.args, n.Next.Value, quoted(""), n.PrevComment)
	case command.Env:
		s.env(n)
	case command.Workdir, command.User:
		if s.steps != nil && n.Value == command.Workdir || n.Value == command.User && n.Next.Value == "root" {
			s.step(n, n.Value, plainText(n.Next.Value))
		} else {
			put(s.node, n.Value, quotedNumber(n.Next.Value), n.PrevComment)
		}
	case command.Cmd:
		put(s.node, "cmd", list(words(n)), n.PrevComment)
	case command.Copy:
		s.copy(n)
	case command.Run:
		return s.run(n)
	default:
		return fmt.Errorf("templates have no %s", n.Value)
	}
	return nil
}

func (s *yamlStage) env(n *parser.Node) {
	vars := mapping()
	for v := n.Next; v != nil; v = v.Next.Next.Next { // name, value, separator
		put(vars, v.Value, plainText(v.Next.Value), nil)
	}
	switch last := len(s.node.Content) - 1; {
	case s.steps != nil:
		s.step(n, "env", vars)
	case last > 0 && s.node.Content[last-1].Value == "env":
		s.node.Content[last].Content = append(s.node.Content[last].Content, vars.Content...)
	default:
		put(s.node, "env", vars, n.PrevComment)
	}
}

func (s *yamlStage) copy(n *parser.Node) {
	w := words(n)
	from := w[:len(w)-1]
	src := plainText(from[0])
	if len(from) > 1 {
		src = list(from)
	}
	step := s.step(n, "copy", src)
	put(step, "to", plainText(w[len(w)-1]), nil)
	for _, f := range n.Flags {
		if v, ok := strings.CutPrefix(f, "--from="); ok {
			put(step, "from", plainText(v), nil)
		}
		if v, ok := strings.CutPrefix(f, "--chown="); ok {
			put(step, "owner", quoted(v), nil)
		}
	}
}

func (s *yamlStage) run(n *parser.Node) error {
	step := s.step(n, "run", plainText(n.Next.Value))
	mounts := &yaml.Node{Kind: yaml.SequenceNode}
	for _, f := range n.Flags {
		fields, ok := strings.CutPrefix(f, "--mount=type=cache,")
		if !ok {
			return fmt.Errorf("templates have no %s", f)
		}
		m := mapping()
		sharing := "shared" // what Dockerfiles mean by nothing; ZImagefiles mean locked
		for field := range strings.SplitSeq(fields, ",") {
			key, value, _ := strings.Cut(field, "=")
			if key == "sharing" {
				sharing = value
				continue
			}
			put(m, key, plainText(value), nil)
		}
		put(m, "sharing", plainText(sharing), nil)
		mounts.Content = append(mounts.Content, m)
	}
	if len(mounts.Content) > 0 {
		put(step, "cache", mounts, nil)
	}
	return nil
}

// step adds a step to the stage.
func (s *yamlStage) step(n *parser.Node, action string, value *yaml.Node) *yaml.Node {
	if s.steps == nil {
		s.steps = &yaml.Node{Kind: yaml.SequenceNode}
		put(s.node, "steps", s.steps, nil)
	}
	step := mapping()
	step.HeadComment = strings.Join(n.PrevComment, "\n")
	put(step, action, value, nil)
	s.steps.Content = append(s.steps.Content, step)
	return step
}

// words gives what follows an instruction.
func words(n *parser.Node) []string {
	var w []string
	for v := n.Next; v != nil; v = v.Next {
		w = append(w, v.Value)
	}
	return w
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

// put adds an entry to a mapping.
func put(m *yaml.Node, key string, value *yaml.Node, comment []string) {
	k := plainText(key)
	k.HeadComment = strings.Join(comment, "\n")
	m.Content = append(m.Content, k, value)
}

// plainText is a text with quotes only where it needs them.
func plainText(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func quoted(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
}

// quotedNumber quotes what looks like a number.
func quotedNumber(s string) *yaml.Node {
	if strings.Trim(s, "0123456789:") == "" {
		return quoted(s)
	}
	return plainText(s)
}

func list(items []string) *yaml.Node {
	l := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, i := range items {
		l.Content = append(l.Content, plainText(i))
	}
	return l
}
