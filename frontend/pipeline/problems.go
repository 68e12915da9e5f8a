package pipeline

import (
	"fmt"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// problems gathers the mistakes of all files of a pipeline.
type problems struct {
	list  []*graph.PosError
	texts map[string][]byte
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

func (p *problems) err() error { return yamlfile.Join(p.list) }
