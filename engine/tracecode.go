package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// traceCoder writes traces, or reads them: one list of fields for both. A call reads the
// traces of all its builds before it knows that there is nothing to do, and as JSON that
// was a fifth of what it did.
type traceCoder struct {
	// written is what has been written; reading, left is what is still to be read.
	written []byte
	reading bool
	left    string
	// broken: what is read is no trace.
	broken bool
}

// encode gives the bytes that a trace is kept as.
func (tr *trace) encode() ([]byte, error) {
	var c traceCoder
	err := c.trace(tr)
	return c.written, err
}

// decodeTrace reads what encode has written; nil for everything else.
func decodeTrace(data []byte) *trace {
	c := traceCoder{reading: true, left: string(data)}
	var tr trace
	if c.trace(&tr) != nil || c.broken || c.left != "" {
		return nil
	}
	return &tr
}

func (c *traceCoder) trace(tr *trace) error {
	coded(c, &tr.Version)
	if c.reading && tr.Version != traceVersion {
		c.broken = true
		return nil
	}
	textual(c, &tr.Base)
	listed(c, &tr.Outputs, func(k *graph.Key) { textual(c, k) })
	listed(c, &tr.Inputs, func(a *answered) {
		textual(c, &a.Kind)
		textual(c, &a.Build)
		textual(c, &a.About)
		textual(c, &a.More)
		textual(c, &a.Answer)
	})
	listed(c, &tr.Stages, c.stage)
	// Both are rare.
	return errors.Join(asJSON(c, &tr.Lint), asJSON(c, &tr.Told))
}

func (c *traceCoder) stage(s *tracedStage) {
	textual(c, &s.ID)
	textual(c, &s.Key)
	textual(c, &s.Name)
	textual(c, &s.Pos.File)
	coded(c, &s.Pos.Line)
	coded(c, &s.Pos.Column)
	coded(c, &s.Pos.EndLine)
	c.platform(&s.Platform)
	textual(c, &s.Head)
	listed(c, &s.Steps, func(d *digest.Digest) { textual(c, d) })
}

func (c *traceCoder) platform(p *ocispecs.Platform) {
	textual(c, &p.OS)
	textual(c, &p.Architecture)
	textual(c, &p.Variant)
	textual(c, &p.OSVersion)
	listed(c, &p.OSFeatures, func(s *string) { textual(c, s) })
}

// asJSON is a list as JSON, or nothing if it is empty.
func asJSON[T any](c *traceCoder, list *[]T) error {
	text := ""
	if !c.reading && len(*list) > 0 {
		t, err := json.Marshal(list)
		if err != nil {
			return err
		}
		text = string(t)
	}
	textual(c, &text)
	if c.reading && text != "" {
		return json.Unmarshal([]byte(text), list)
	}
	return nil
}

// coded is a number that is not negative.
func coded(c *traceCoder, n *int) {
	if !c.reading {
		c.written = binary.AppendUvarint(c.written, uint64(max(*n, 0)))
		return
	}
	v, size := binary.Uvarint([]byte(c.left[:min(len(c.left), binary.MaxVarintLen64)]))
	if size <= 0 || v > math.MaxInt {
		c.broken, c.left = true, ""
		return
	}
	*n, c.left = int(v), c.left[size:]
}

// textual is a text: its length and its bytes.
func textual[T ~string](c *traceCoder, s *T) {
	n := len(*s)
	coded(c, &n)
	switch {
	case !c.reading:
		c.written = append(c.written, *s...)
	case n > len(c.left):
		c.broken, c.left = true, ""
	default:
		*s, c.left = T(c.left[:n]), c.left[n:]
	}
}

// listed is a list: its length and its elements. Each has at least one byte, which bounds
// what a length can make of a file that is none of ours.
func listed[T any](c *traceCoder, l *[]T, element func(*T)) {
	n := len(*l)
	coded(c, &n)
	if c.reading {
		if n > len(c.left) {
			c.broken, c.left = true, ""
			return
		}
		if n > 0 {
			*l = make([]T, n)
		}
	}
	for i := range *l {
		element(&(*l)[i])
	}
}
