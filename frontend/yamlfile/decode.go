package yamlfile

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

// Bounds of what a Decoder takes. They are far above what people write (ten thousand stages fit) and
// low enough that a hostile file costs little.
const (
	maxSize    = 16 << 20  // bytes of a file
	maxAliased = 1_000_000 // nodes that are reached through aliases
	maxErrors  = 100       // problems that are reported of one file
)

// MaxDepth is how deeply the values of a file may be nested, aliases followed.
const MaxDepth = 100

// NewDecoder makes the decoder of one file. name is how positions call it.
func NewDecoder(name string, text []byte) *Decoder {
	return &Decoder{name: name, text: text, lines: 1 + bytes.Count(text, []byte("\n"))}
}

// Errors lists the mistakes that an error of a build file holds, in the order of the file. It is
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

// Decoder turns nodes into values and gathers the mistakes of one file.
type Decoder struct {
	// Empty is said of a file without content: what it needs.
	Empty string
	// Borrowed, if set, gives what a key of another tool is called in this format, "" for nothing.
	Borrowed func(name string) string
	// Expand, if set, is what becomes of the text of every scalar before anything is made of it. What
	// it puts in stays within the scalar: it cannot add keys, items or comments.
	Expand func(text string) string

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
}

// Errorf notes a mistake.
func (d *Decoder) Errorf(pos graph.Pos, format string, args ...any) {
	d.Fail(pos, fmt.Errorf(format, args...))
}

// Fail notes a mistake that is an error already.
func (d *Decoder) Fail(pos graph.Pos, err error) {
	d.errs = append(d.errs, d.Mistake(pos, err))
}

// Mistake is an error at a place of the file; unlike Fail, it is not noted.
func (d *Decoder) Mistake(pos graph.Pos, err error) *graph.PosError {
	return &graph.PosError{Pos: d.Clamp(pos), Err: err, Source: d.text}
}

// Clamp keeps a position inside the file: YAML counts line breaks that editors do not.
func (d *Decoder) Clamp(pos graph.Pos) graph.Pos {
	pos.File = d.name
	pos.Line = max(1, min(pos.Line, d.lines))
	if pos.EndLine > 0 {
		pos.EndLine = max(pos.Line, min(pos.EndLine, d.lines))
	}
	return pos
}

// Mistakes are those noted so far. The list is not to be changed.
func (d *Decoder) Mistakes() []*graph.PosError { return d.errs }

// Err joins the mistakes, sorted by place.
func (d *Decoder) Err() error { return Join(d.errs) }

// Join makes one error of mistakes: each once, ordered by place within a file, a hundred at most.
// Files are in the order of their first mistake in the list. The list is changed.
func Join(list []*graph.PosError) error {
	if len(list) == 0 {
		return nil
	}
	rank := map[string]int{}
	for _, e := range list {
		if _, ok := rank[e.Pos.File]; !ok {
			rank[e.Pos.File] = len(rank)
		}
	}
	slices.SortStableFunc(list, func(a, b *graph.PosError) int {
		if a.Pos.File != b.Pos.File {
			return rank[a.Pos.File] - rank[b.Pos.File]
		}
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

// Pos is the place of a node.
func (d *Decoder) Pos(n *yaml.Node) graph.Pos {
	return d.Clamp(graph.Pos{Line: n.Line, Column: n.Column})
}

// Span is the place of a key, up to the last line of its value.
func (d *Decoder) Span(key, val *yaml.Node) graph.Pos {
	p := d.Pos(key)
	p.EndLine = d.lastLine(val, key.Column)
	return d.Clamp(p)
}

// lastLine finds the last line of a value whose key, or list item, begins at the column. YAML's
// nodes know their beginning only; what belongs to a block is indented deeper than its key.
func (d *Decoder) lastLine(n *yaml.Node, column int) int {
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
func (d *Decoder) lineStart(line int) int {
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

// Enter follows n if it is an alias and counts it. It returns nil after noting why it must not be
// looked at; otherwise Leave has to be called.
func (d *Decoder) Enter(n *yaml.Node) *yaml.Node {
	if d.gaveUp {
		return nil
	}
	alias := n
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		if slices.Contains(d.following, n) {
			d.Errorf(d.Pos(alias), "the anchor *%s contains itself", alias.Value)
			d.gaveUp = true
			return nil
		}
	}
	if (len(d.following) > 0 || alias != n) && !d.count(alias) {
		return nil
	}
	if d.depth++; d.depth > MaxDepth {
		d.Errorf(d.Pos(alias), "the file is nested more than %d levels deep", MaxDepth)
		d.gaveUp = true
		return nil
	}
	if alias != n {
		d.following = append(d.following, n)
	}
	return n
}

// count counts a value that is reached through an alias. It reports false if that is too many.
func (d *Decoder) count(alias *yaml.Node) bool {
	if d.gaveUp {
		return false
	}
	if d.aliased++; d.aliased > maxAliased {
		d.Errorf(d.Pos(alias), "the aliases of the file expand to more than %d values", maxAliased)
		d.gaveUp = true
	}
	return !d.gaveUp
}

// Leave ends what Enter began with the same node.
func (d *Decoder) Leave(n *yaml.Node) {
	d.depth--
	if n.Kind == yaml.AliasNode {
		d.following = d.following[:len(d.following)-1]
	}
}

// DidYouMean ends a message with the nearest of the options, if one is near.
func DidYouMean(val string, options []string) string {
	s, ok := suggest.Search(val, options, true)
	if !ok || levenshtein.Distance(val, s, nil) >= max(len(val), len(s)) {
		return "" // nothing in common
	}
	return fmt.Sprintf(" (did you mean %s?)", s)
}
