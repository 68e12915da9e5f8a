package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// link is a step of the way from the outermost build to a nested one.
type link struct {
	key   string
	shown string
	// pos is where the next build is asked for.
	pos graph.Pos
}

// checkChain refuses builds that nest each other.
func checkChain(chain []link, key string) error {
	if len(chain) > maxNesting {
		return fmt.Errorf("builds are nested more than %d deep", maxNesting)
	}
	for i, l := range chain {
		if l.key != key {
			continue
		}
		return circleError(chain[i:], l.shown)
	}
	return nil
}

// errCircle says that units nest each other.
var errCircle = errors.New("builds nest each other in a circle")

// circleError is the mistake of units that nest each other, the first being called
// shown.
func circleError(chain []link, shown string) error {
	var way []string
	for _, l := range chain {
		way = append(way, l.pos.String())
	}
	return fmt.Errorf("%w: %s, and back to %s", errCircle, strings.Join(way, " -> "), shown)
}

// nestingError is a build that cannot be nested where a file asks for it; by are the
// places that nest that file, the outermost first.
type nestingError struct {
	error
	by []graph.Pos
}

// Error says what is wrong, and the way there.
func (e *nestingError) Error() string {
	if len(e.by) == 0 {
		return e.error.Error()
	}
	var way []string
	for _, p := range e.by {
		way = append(way, p.String())
	}
	return e.error.Error() + " (nested by " + strings.Join(way, " -> ") + ")"
}

// Unwrap gives what is wrong.
func (e *nestingError) Unwrap() error { return e.error }

// nesting makes a mistake about a build that cannot be nested one that tells the way to it.
func nesting(err error) error {
	if pe, ok := err.(*graph.PosError); ok { //nolint:errorlint // what wraps it is another mistake
		return &graph.PosError{Pos: pe.Pos, Err: &nestingError{error: pe.Err}, Source: pe.Source}
	}
	return err
}

// nestedBy adds a place to the way. The error is everybody's who asks for the build, so
// that it stays as it is.
func nestedBy(err error, pos graph.Pos) error {
	pe, ok := err.(*graph.PosError) //nolint:errorlint // as nesting makes it
	if !ok {
		return err
	}
	ne, ok := pe.Err.(*nestingError) //nolint:errorlint // as nesting makes it
	if !ok {
		return err
	}
	return &graph.PosError{Pos: pe.Pos, Err: &nestingError{ne.error, append([]graph.Pos{pos}, ne.by...)}, Source: pe.Source}
}

// wait is an edge of the graph of who waits for whom.
type wait struct {
	link // who waits, and where it asks
	on   *composed
}

// willWait notes that the unit d, which is being compiled, waits for another, unless that
// one waits for it. The table is locked. A nil unit is none, and nobody waits for it.
func (d *composed) willWait(on *composed, chain []link) error {
	if d == nil || len(chain) == 0 {
		return nil
	}
	asks := chain[len(chain)-1]
	if way := on.wayTo(d, map[*composed]bool{}); way != nil {
		return circleError(append([]link{asks}, way...), asks.shown)
	}
	d.waits = append(d.waits, wait{asks, on})
	return nil
}

// wayTo lists who waits for whom on the way to another unit; nil if there is none.
// What has been seen is not looked at again.
func (d *composed) wayTo(other *composed, seen map[*composed]bool) []link {
	seen[d] = true
	for _, w := range d.waits {
		if w.on == other {
			return []link{w.link}
		}
		if seen[w.on] {
			continue
		}
		if way := w.on.wayTo(other, seen); way != nil {
			return append([]link{w.link}, way...)
		}
	}
	return nil
}
