package zimage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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

// document parses the text and returns the root mapping, nil after a mistake.
func (d *decoder) document() *yaml.Node {
	text := bytes.TrimPrefix(d.text, []byte("\xef\xbb\xbf"))
	if len(text) > maxSize {
		d.errorf(graph.Pos{Line: 1}, "the file has %d bytes, more than the %d that a build file may have", len(text), maxSize)
		return nil
	}
	if line, col, ok := invalidUTF8(text); ok {
		d.errorf(graph.Pos{Line: line, Column: col}, "the file is not UTF-8 text: save it as UTF-8")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.errorf(graph.Pos{Line: 1}, "the file is empty: it needs one of runtime, base, build, stages or wasm")
		return nil
	} else if err != nil {
		d.yamlError(err)
		return nil
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		d.errorf(graph.Pos{Line: next.Line}, "a second YAML document begins here: a build file is one document")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.yamlError(err)
		return nil
	}
	root := &doc
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	if isNull(root) {
		d.errorf(d.pos(root), "the file is empty: it needs one of runtime, base, build, stages or wasm")
		return nil
	}
	return root
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// yamlError notes what the YAML parser says, at the line it names.
func (d *decoder) yamlError(err error) {
	m := yamlLine.FindStringSubmatch(strings.TrimSpace(err.Error()))
	line, _ := strconv.Atoi(m[1])
	if start := d.lineStart(line); start > 0 && start < len(d.text) && d.text[start] == '\t' {
		m[2] += " (YAML is indented with blanks, not with tabs)"
	}
	d.errorf(graph.Pos{Line: line}, "reading YAML: %s", m[2])
}

func invalidUTF8(text []byte) (line, col int, found bool) {
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

// entry is a key of a mapping with its value.
type entry struct {
	key, val *yaml.Node
}

// entries lists a mapping's keys in the order of the file, with merge keys expanded: what the
// mapping says itself goes before what it merges, and what is merged first before the rest.
func (d *decoder) entries(n *yaml.Node) []entry {
	var own []entry
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
			d.errorf(d.pos(k), "a key must be a text, not %s", kindName(k))
			continue
		}
		if first, dup := seen[k.Value]; dup {
			d.errorf(d.pos(k), "%q is given twice, first on line %d", k.Value, first.Line)
			continue
		}
		seen[k.Value] = k
		own = append(own, entry{k, v})
	}
	for _, m := range merges {
		d.merge(m, seen, &own, true)
	}
	return own
}

// merge adds the entries of what a merge key names, which is a mapping or a list of mappings.
func (d *decoder) merge(m *yaml.Node, seen map[string]*yaml.Node, into *[]entry, list bool) {
	n := d.enter(m)
	if n == nil {
		return
	}
	defer d.leave(m)
	switch {
	case n.Kind == yaml.MappingNode:
		for _, e := range d.entries(n) {
			if !d.count(m) {
				return
			}
			if _, dup := seen[e.key.Value]; !dup {
				seen[e.key.Value] = e.key
				*into = append(*into, e)
			}
		}
	case n.Kind == yaml.SequenceNode && list:
		for _, c := range n.Content {
			d.merge(c, seen, into, false)
		}
	default:
		d.errorf(d.pos(m), "a merge key (<<) needs a mapping or a list of mappings")
	}
}

// isNull reports whether a node is YAML's null in any of its spellings.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// kindName says what a node is, for messages.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return kindName(n.Alias)
	}
	if isNull(n) {
		return "nothing"
	}
	return "a single value"
}

// didYouMean ends a message with the nearest of the options, if one is near.
func didYouMean(val string, options []string) string {
	s, ok := suggest.Search(val, options, true)
	if !ok || levenshtein.Distance(val, s, nil) >= max(len(val), len(s)) {
		return "" // nothing in common
	}
	return fmt.Sprintf(" (did you mean %s?)", s)
}
