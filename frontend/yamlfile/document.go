package yamlfile

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// Document parses the text and returns the root mapping, nil after a mistake.
func (d *Decoder) Document() *yaml.Node {
	text := bytes.TrimPrefix(d.text, []byte("\xef\xbb\xbf"))
	if len(text) > maxSize {
		d.Errorf(graph.Pos{Line: 1}, "the file has %d bytes, more than the %d that a build file may have", len(text), maxSize)
		return nil
	}
	if line, col, ok := InvalidUTF8(text); ok {
		d.Errorf(graph.Pos{Line: line, Column: col}, "the file is not UTF-8 text: save it as UTF-8")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.Errorf(graph.Pos{Line: 1}, "the file is empty: %s", d.Empty)
		return nil
	} else if err != nil {
		d.yamlError(err)
		return nil
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		d.Errorf(graph.Pos{Line: next.Line}, "a second YAML document begins here: a build file is one document")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.yamlError(err)
		return nil
	}
	if d.Expand != nil {
		d.expand(&doc)
	}
	root := &doc
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	if IsNull(root) {
		d.Errorf(d.Pos(root), "the file is empty: %s", d.Empty)
		return nil
	}
	return root
}

// expand changes the scalars below n. A plain one then means what YAML makes of the new text. What
// an anchor names is met once, where it stands.
func (d *Decoder) expand(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		if text := d.Expand(n.Value); text != n.Value {
			n.Value = text
			if n.Style&(yaml.TaggedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
				n.Tag = ""
			}
		}
	}
	for _, c := range n.Content {
		d.expand(c)
	}
}

var yamlLine = lazyregexp.New(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// yamlError notes what the YAML parser says, at the line it names.
func (d *Decoder) yamlError(err error) {
	m := yamlLine().FindStringSubmatch(strings.TrimSpace(err.Error()))
	line, _ := strconv.Atoi(m[1])
	if start := d.lineStart(line); start > 0 && start < len(d.text) && d.text[start] == '\t' {
		m[2] += " (YAML is indented with blanks, not with tabs)"
	}
	d.Errorf(graph.Pos{Line: line}, "reading YAML: %s", m[2])
}

// InvalidUTF8 finds the first place where a text is not UTF-8.
func InvalidUTF8(text []byte) (line, col int, found bool) {
	if utf8.Valid(text) {
		return 0, 0, false
	}
	line, col = 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			return line, col, true
		}
		col++
		if r == '\n' {
			line, col = line+1, 1
		}
		text = text[n:]
	}
	return 0, 0, false
}

// Entry is a key of a mapping with its value.
type Entry struct {
	Key, Val *yaml.Node
}

// Entries lists a mapping's keys in the order of the file, with merge keys expanded: what the
// mapping says itself goes before what it merges, and what is merged first before the rest.
func (d *Decoder) Entries(n *yaml.Node) []Entry {
	var own []Entry
	var merges []*yaml.Node
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			merges = append(merges, v)
			continue
		}
		if k.Kind == yaml.AliasNode && k.Alias.Kind == yaml.ScalarNode {
			k = &yaml.Node{Kind: yaml.ScalarNode, Tag: k.Alias.Tag, Value: k.Alias.Value, Line: k.Line, Column: k.Column}
		}
		if k.Kind != yaml.ScalarNode {
			d.Errorf(d.Pos(k), "a key must be a text, not %s", KindName(k))
			continue
		}
		if first, dup := seen[k.Value]; dup {
			d.Errorf(d.Pos(k), "%q is given twice, first on line %d", k.Value, first.Line)
			continue
		}
		seen[k.Value] = k
		own = append(own, Entry{k, v})
	}
	for _, m := range merges {
		d.merge(m, seen, &own, true)
	}
	return own
}

// merge adds the entries of what a merge key names, which is a mapping or a list of mappings.
func (d *Decoder) merge(m *yaml.Node, seen map[string]*yaml.Node, into *[]Entry, list bool) {
	n := d.Enter(m)
	if n == nil {
		return
	}
	defer d.Leave(m)
	switch {
	case n.Kind == yaml.MappingNode:
		for _, e := range d.Entries(n) {
			if !d.count(m) {
				return
			}
			if _, dup := seen[e.Key.Value]; !dup {
				seen[e.Key.Value] = e.Key
				*into = append(*into, e)
			}
		}
	case n.Kind == yaml.SequenceNode && list:
		for _, c := range n.Content {
			d.merge(c, seen, into, false)
		}
	default:
		d.Errorf(d.Pos(m), "a merge key (<<) needs a mapping or a list of mappings")
	}
}

// IsNull reports whether a node is YAML's null in any of its spellings.
func IsNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// KindName says what a node is, for messages.
func KindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return KindName(n.Alias)
	}
	if IsNull(n) {
		return "nothing"
	}
	return "a single value"
}
