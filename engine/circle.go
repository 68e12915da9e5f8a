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
