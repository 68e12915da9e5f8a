package zimage

import (
	"bytes"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// Format lays a ZImagefile out in the common way: two blanks of indentation, quotes only where they
// are needed. Order, comments and empty lines between values stay, and so does what the file means.
// Formatting what has been formatted changes nothing. A file with mistakes is not touched; the
// error is that of [Parse]. So is a file with comments in places where they would be lost: it is
// returned as it is.
func Format(text []byte) ([]byte, error) {
	f, err := Parse("", text)
	if err != nil {
		return nil, err
	}
	out, ok := layOut(text)
	if !ok {
		return text, nil
	}
	again, ok := layOut(out)
	if !ok || !bytes.Equal(out, again) {
		return text, nil
	}
	g, err := Parse("", out)
	if err != nil || !bytes.Equal(Marshal(f), Marshal(g)) || !slices.Equal(comments(text), comments(out)) {
		return text, nil
	}
	return out, nil
}

// layOut writes the document again, with the empty lines where they were.
func layOut(text []byte) ([]byte, bool) {
	text = bytes.ReplaceAll(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), []byte("\r\n"), []byte("\n"))
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, false
	}
	tidy(&doc, 0)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if enc.Encode(&doc) != nil || enc.Close() != nil {
		return nil, false
	}
	var written yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &written); err != nil {
		return nil, false
	}
	return copyGaps(text, &doc, b.Bytes(), &written), true
}

// tidy removes quotes that are not needed. Values keep the kind that other readers of YAML see.
func tidy(n *yaml.Node, depth int) {
	if depth > yamlfile.MaxDepth {
		return
	}
	if n.Tag == "!!merge" {
		n.Tag = "" // the key says it, and the encoder would say it again
	}
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		if plainStyle(n.Value) {
			n.Style = 0
		} else if want := yamlfile.TextNode(n.Value); want.Style == 0 && n.Style&yaml.SingleQuotedStyle == 0 && !strings.ContainsAny(n.Value, "'\\") {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, c := range n.Content {
		tidy(c, depth+1)
	}
}

// plainStyle reports whether a text is so simple that nobody would quote it.
func plainStyle(s string) bool {
	if yamlfile.TextNode(s).Style != 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		inside := i > 0 && strings.IndexByte("_-.", c) >= 0 || i > 0 && i+1 < len(s) && (c == ':' || c == '@') && isAlnum(s[i+1])
		if !isAlnum(c) && c != '/' && !inside {
			return false
		}
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return n.ShortTag() == "!!str"
}

// copyGaps puts an empty line before every value that had one before it, or before its comment.
func copyGaps(from []byte, a *yaml.Node, to []byte, b *yaml.Node) []byte {
	src, dst := strings.Split(string(from), "\n"), strings.Split(string(to), "\n")
	gaps := map[int]bool{}
	pairNodes(a, b, func(x, y *yaml.Node) {
		i, j := start(x, src), start(y, dst)
		if i > 1 && j > 1 && i-2 < len(src) && j-2 < len(dst) && strings.TrimSpace(src[i-2]) == "" && strings.TrimSpace(dst[j-2]) != "" {
			gaps[j] = true
		}
	})
	var out strings.Builder
	for i, line := range dst {
		if gaps[i+1] {
			out.WriteByte('\n')
		}
		out.WriteString(line)
		if i < len(dst)-1 {
			out.WriteByte('\n')
		}
	}
	return []byte(out.String())
}

// pairNodes calls do for the keys and list items of two documents of the same shape.
func pairNodes(a, b *yaml.Node, do func(x, y *yaml.Node)) {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) || a.Style&yaml.FlowStyle != 0 {
		return
	}
	for i := range a.Content {
		x, y := a.Content[i], b.Content[i]
		if a.Kind == yaml.SequenceNode || a.Kind == yaml.MappingNode && i%2 == 0 {
			do(x, y)
		}
		pairNodes(x, y, do)
	}
}

// start is the line where a value begins, with the comment lines right above it.
func start(n *yaml.Node, lines []string) int {
	line := n.Line
	for line >= 2 && line-2 < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[line-2]), "#") {
		line--
	}
	return line
}

// comments lists the comments of a document. They are found by the parser, so that a # in a text
// is none.
func comments(text []byte) []string {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil
	}
	var out []string
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		for _, c := range []string{n.HeadComment, n.LineComment, n.FootComment} {
			for line := range strings.SplitSeq(c, "\n") {
				if line = strings.TrimSpace(line); line != "" {
					out = append(out, line)
				}
			}
		}
		for _, c := range n.Content {
			if depth < yamlfile.MaxDepth {
				walk(c, depth+1)
			}
		}
	}
	walk(&doc, 0)
	slices.Sort(out)
	return out
}
