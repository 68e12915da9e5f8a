package zimage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/moby/buildkit/util/suggest"
	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/graph"
)

// Bounds of what Parse takes. They are far above what people write (ten thousand stages fit) and
// low enough that a hostile file costs little.
const (
	maxSize    = 16 << 20  // bytes of a file
	maxDepth   = 100       // of nesting, aliases followed
	maxAliased = 1_000_000 // nodes that are reached through aliases
	maxErrors  = 100       // problems that are reported of one file
)

// Parse decodes and checks a ZImagefile. name is how positions call it. A file with mistakes gives
// an error that holds all of them, see [Errors].
//
// The text has to be UTF-8, with or without byte order mark, with any kind of line ends, and hold
// one YAML document. Scalars mean what is written: "3000", "1.10", "yes" and "0755" are texts
// where a text is meant. A field that is null (or has no value) counts as absent. Anchors, aliases
// and merge keys work as in YAML 1.1; keys that stand twice in one mapping are mistakes.
func Parse(name string, text []byte) (*File, error) {
	d := &decoder{name: name, text: text, lines: 1 + bytes.Count(text, []byte("\n"))}
	root := d.document()
	if root == nil {
		return nil, d.err()
	}
	f := &File{Name: name, Text: text}
	if decodeObject(d, fileTable(), root, f) {
		d.validate(f)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return f, nil
}

// Errors lists the mistakes that an error of this package holds, in the order of the file. It is
// nil if err holds none.
func Errors(err error) []*graph.PosError {
	if err == nil {
		return nil
	}
	if pe, ok := err.(*graph.PosError); ok { //nolint:errorlint // what wraps is unfolded below
		return []*graph.PosError{pe}
	}
	var list []*graph.PosError
	switch u := err.(type) { //nolint:errorlint // this is the unfolding
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			list = append(list, Errors(e)...)
		}
	case interface{ Unwrap() error }:
		list = Errors(u.Unwrap())
	}
	return list
}

// decoder turns nodes into values and gathers the mistakes of one file.
type decoder struct {
	name  string
	text  []byte
	lines int
	errs  []*graph.PosError
	// depth and aliased are the bounds' counters, following the anchors that are being expanded.
	depth     int
	aliased   int
	following []*yaml.Node
	gaveUp    bool
	starts    []int // offsets of the lines, from 1
	// index and near are for the checks of names.
	index *stageIndex
	near  map[string]string
}

// errorf notes a mistake.
func (d *decoder) errorf(pos graph.Pos, format string, args ...any) {
	d.fail(pos, fmt.Errorf(format, args...))
}

func (d *decoder) fail(pos graph.Pos, err error) {
	d.errs = append(d.errs, &graph.PosError{Pos: d.clamp(pos), Err: err, Source: d.text})
}

// clamp keeps a position inside the file: YAML counts line breaks that editors do not.
func (d *decoder) clamp(pos graph.Pos) graph.Pos {
	pos.File = d.name
	pos.Line = max(1, min(pos.Line, d.lines))
	if pos.EndLine > 0 {
		pos.EndLine = max(pos.Line, min(pos.EndLine, d.lines))
	}
	return pos
}

// err joins the mistakes, sorted by place.
func (d *decoder) err() error {
	return join(d.errs)
}

func join(list []*graph.PosError) error {
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b *graph.PosError) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Column - b.Pos.Column
	})
	list = slices.CompactFunc(list, func(a, b *graph.PosError) bool {
		return a.Pos == b.Pos && a.Err.Error() == b.Err.Error()
	})
	if len(list) == 1 {
		return list[0]
	}
	if len(list) > maxErrors {
		list = list[:maxErrors]
	}
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// pos is the place of a node.
func (d *decoder) pos(n *yaml.Node) graph.Pos {
	return d.clamp(graph.Pos{Line: n.Line, Column: n.Column})
}

// span is the place of a key, up to the last line of its value.
func (d *decoder) span(key, val *yaml.Node) graph.Pos {
	p := d.pos(key)
	p.EndLine = d.lastLine(val, key.Column)
	return d.clamp(p)
}

// lastLine finds the last line of a value whose key, or list item, begins at the column. YAML's
// nodes know their beginning only; what belongs to a block is indented deeper than its key.
func (d *decoder) lastLine(n *yaml.Node, column int) int {
	switch n.Kind {
	case yaml.AliasNode:
		return n.Line
	case yaml.MappingNode, yaml.SequenceNode:
		last := n.Line
		for i, c := range n.Content {
			col := n.Column
			if n.Kind == yaml.MappingNode && i%2 == 1 {
				col = n.Content[i-1].Column
			}
			last = max(last, d.lastLine(c, col))
			if last > n.Line+maxAliased {
				break
			}
		}
		return last
	}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 && !strings.Contains(n.Value, " ") {
		return n.Line
	}
	last := n.Line
	for line, i := n.Line+1, d.lineStart(n.Line+1); i >= 0 && i < len(d.text); line++ {
		end := bytes.IndexByte(d.text[i:], '\n')
		if end < 0 {
			end = len(d.text) - i
		}
		content := d.text[i : i+end]
		trimmed := bytes.TrimLeft(content, " ")
		if blank := len(bytes.TrimSpace(trimmed)) == 0; !blank {
			if len(content)-len(trimmed) < column {
				break
			}
			last = line
		}
		i += end + 1
	}
	return last
}

// lineStart returns the offset of a line, -1 if there is none.
func (d *decoder) lineStart(line int) int {
	if d.starts == nil {
		d.starts = []int{0, 0}
		for i, c := range d.text {
			if c == '\n' {
				d.starts = append(d.starts, i+1)
			}
		}
	}
	if line >= len(d.starts) {
		return -1
	}
	return d.starts[line]
}

// enter follows n if it is an alias and counts it. It returns nil after noting why it must not be
// looked at; otherwise leave has to be called.
func (d *decoder) enter(n *yaml.Node) *yaml.Node {
	if d.gaveUp {
		return nil
	}
	alias := n
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		if slices.Contains(d.following, n) {
			d.errorf(d.pos(alias), "the anchor *%s contains itself", alias.Value)
			d.gaveUp = true
			return nil
		}
	}
	if (len(d.following) > 0 || alias != n) && !d.count(alias) {
		return nil
	}
	if d.depth++; d.depth > maxDepth {
		d.errorf(d.pos(alias), "the file is nested more than %d levels deep", maxDepth)
		d.gaveUp = true
		return nil
	}
	if alias != n {
		d.following = append(d.following, n)
	}
	return n
}

// count counts a value that is reached through an alias. It reports false if that is too many.
func (d *decoder) count(alias *yaml.Node) bool {
	if d.gaveUp {
		return false
	}
	if d.aliased++; d.aliased > maxAliased {
		d.errorf(d.pos(alias), "the aliases of the file expand to more than %d values", maxAliased)
		d.gaveUp = true
	}
	return !d.gaveUp
}

// leave ends what enter began with the same node.
func (d *decoder) leave(n *yaml.Node) {
	d.depth--
	if n.Kind == yaml.AliasNode {
		d.following = d.following[:len(d.following)-1]
	}
}

// didYouMean ends a message with the nearest of the options, if one is near.
func didYouMean(val string, options []string) string {
	s, ok := suggest.Search(val, options, true)
	if !ok || levenshtein.Distance(val, s, nil) >= max(len(val), len(s)) {
		return "" // nothing in common
	}
	return fmt.Sprintf(" (did you mean %s?)", s)
}
