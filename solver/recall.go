package solver

import (
	"github.com/moby/buildkit/client"

	"github.com/zlayer-dev/zlayer/graph"
)

// Recalled reports stages whose results were there already, without a Solve: warnings,
// and the end of every stage as cached. It takes the place of everything else that is
// done with a Tracker. Of a stage it needs what people are shown, and the digests of the
// steps that warnings are about.
func (t *Tracker) Recalled(stages []*graph.Stage, warnings []*client.VertexWarning) {
	t.update(func() {
		t.open()
		for _, s := range stages {
			t.add(s)
		}
		for _, w := range warnings {
			t.warn(w)
		}
		for _, st := range t.order {
			t.start(st)
			st.end = StageCached
			t.emit(Event{Kind: StageCached, Stage: st.stage})
		}
	})
}

// Warn reports warnings that do not come with the status stream.
func (t *Tracker) Warn(warnings []*client.VertexWarning) {
	t.update(func() {
		for _, w := range warnings {
			t.warn(w)
		}
	})
}
