package solver

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	digest "github.com/opencontainers/go-digest"
)

// cause is one failure and the stage it belongs to.
type cause struct {
	node *node
	err  *StageError
}

// fail takes in the failure of a call for n: finds whose it is, ends that stage, and
// skips what hangs on it.
func (r *run) fail(n *node, err error) {
	switch {
	case !muffled(err):
		r.end(n, r.blame(n, err))
	case r.failFast:
		r.end(n, r.guess(n, err))
	default: // others may hear more
		n.state = unsaid
		r.unsaid = append(r.unsaid, outcome{node: n, err: err})
	}
}

// end ends n and the stage that a failure belongs to.
func (r *run) end(n *node, c *cause) {
	if c.node.state != failed && c.node.state != skipped {
		r.mark(c.node, failed, c.err)
	}
	if n != c.node {
		r.mark(n, skipped, c.err)
	}
	if r.failFast {
		r.stop(c.err)
	}
}

// blame finds the cause behind err, which a call for n returned: the stage whose
// step failed, or n where that cannot be told. A step that several stages share is
// one cause, filed under the first of the stages that were asked for; each of them
// has failed all the same.
func (r *run) blame(n *node, err error) *cause {
	v := vertexOf(err)
	if v == "" {
		v = r.tracker.failedVertex(err)
	}
	v = r.tracker.original(v)
	key := string(v)
	if v == "" {
		key = "text:" + err.Error()
	}
	known := r.causes[key]
	if known != nil && known.node != n && v != "" && !slices.Contains(r.owners[v], n) {
		return known
	}
	owner := r.owner(n, v)
	c := &cause{node: owner, err: newStageError(owner.stage, v, err)}
	if known == nil || owner.index < known.node.index {
		r.causes[key] = c
	}
	return c
}

// guess finds the cause behind a failure of n of which nothing is said: one that is known
// of n or of what it stands on, or else the first step there that the status stream has
// shown to fail.
func (r *run) guess(n *node, err error) *cause {
	below := ancestors(n)
	below[n] = true
	for _, c := range r.sortedCauses() {
		if below[c.node] {
			return c
		}
	}
	for _, m := range r.nodes {
		if !below[m] || m.state == done {
			continue
		}
		if v, text := r.tracker.failure(m.stage); v != "" {
			c := &cause{node: m, err: newStageError(m.stage, v, errors.New(text))}
			r.causes[string(v)] = c
			return c
		}
	}
	return r.blame(n, err)
}

// owner gives the stage to which the failure of vertex v belongs, when a call for n
// returned it. A stage of which the result has been seen is out of the question.
func (r *run) owner(n *node, v digest.Digest) *node {
	nodes := r.owners[v]
	if slices.Contains(nodes, n) {
		return n
	}
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(m *node) bool { return m.state == done })
	if len(nodes) > 1 {
		below := ancestors(n)
		if i := slices.IndexFunc(nodes, func(m *node) bool { return below[m] }); i >= 0 {
			return nodes[i]
		}
	}
	if len(nodes) > 0 {
		return nodes[0]
	}
	return n
}

// mark ends n because of err, and skips what waits for it. What runs already is left
// to its own fate: BuildKit may find that it does not need n.
func (r *run) mark(n *node, s state, err *StageError) {
	n.state = s
	if s == failed {
		r.tracker.failed(n.stage, err, err.Vertex)
	} else {
		r.tracker.skipped(n.stage, err, err.Vertex)
	}
	for todo := slices.Clone(n.users); len(todo) > 0; {
		u := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if u.state == idle {
			u.state = skipped
			r.tracker.skipped(u.stage, err, err.Vertex)
			todo = append(todo, u.users...)
		}
	}
}

// rescue has everything built that the failed output n needs and that does not hang
// on a failure, so that independent failures show themselves in one run.
func (r *run) rescue(n *node) {
	r.broken = true
	held := r.held
	r.held = nil
	for _, o := range held {
		r.fail(o.node, o.err)
	}
	for todo := slices.Clone(n.inputs); len(todo) > 0; {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !m.wanted {
			r.want(m)
			todo = append(todo, m.inputs...)
		}
	}
}

// sortedCauses lists the causes in graph order.
func (r *run) sortedCauses() []*cause {
	return slices.SortedFunc(maps.Values(r.causes), func(a, b *cause) int {
		return cmp.Or(cmp.Compare(a.node.index, b.node.index), cmp.Compare(a.err.Vertex, b.err.Vertex))
	})
}

// ancestors gives everything below n.
func ancestors(n *node) map[*node]bool {
	seen := map[*node]bool{}
	for todo := slices.Clone(n.inputs); len(todo) > 0; {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !seen[m] {
			seen[m] = true
			todo = append(todo, m.inputs...)
		}
	}
	return seen
}
