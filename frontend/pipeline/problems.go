package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// problems gathers the mistakes of all files of a pipeline.
type problems struct {
	list  []*graph.PosError
	texts map[string][]byte
	rank  map[string]int // of the files, by the names that positions use
	// expanded counts the bytes of expanded texts; exhausted says that there are too many.
	expanded  int
	exhausted bool
}

func (p *problems) errorf(pos graph.Pos, format string, args ...any) {
	p.fail(pos, fmt.Errorf(format, args...))
}

func (p *problems) fail(pos graph.Pos, err error) {
	p.list = append(p.list, p.mistake(pos, err))
}

func (p *problems) mistake(pos graph.Pos, err error) *graph.PosError {
	return &graph.PosError{Pos: pos, Err: err, Source: p.texts[pos.File]}
}

// err joins the mistakes, file by file in the order in which they were read. What concerns options
// comes last.
func (p *problems) err() error {
	rank := func(e *graph.PosError) int {
		if n, ok := p.rank[e.Pos.File]; ok {
			return n
		}
		return math.MaxInt
	}
	slices.SortStableFunc(p.list, func(a, b *graph.PosError) int { return cmp.Compare(rank(a), rank(b)) })
	return yamlfile.Join(p.list)
}
