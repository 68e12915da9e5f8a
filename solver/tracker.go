package solver

import (
	"fmt"
	"strings"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// Tracker makes events of BuildKit's status stream and of what a [Solver] learns.
// Its owner passes everything that comes out of the status channel of one
// connection to Status, and calls Close when that channel is closed. It serves one
// Solve at a time. The zero value works and reports to nobody; it must not be copied.
//
// The stream lags behind what calls return, so the end of a stage is reported when
// the stream has shown the end of the stage's last step, and at Close at the latest:
// only after Close are Counts final.
//
// What counts as a step that ran follows from how BuildKit v0.34 reports: a step that
// is in a cache starts and ends as cached, or never shows. A step without inputs (a
// base image, a build context) starts once to find its cache key, which is no work,
// and a second time to fetch; a build context is always fetched. When the files of a
// cached step are downloaded later, the step starts once more, and that report leaves
// out the step's inputs.
type Tracker struct {
	// Events receives the events, one at a time. It must not call the Tracker.
	Events Sink
	// Build is copied into every event.
	Build string
	// Now is the clock of Event.Time; nil is time.Now. Times of steps are the
	// daemon's.
	Now func() time.Time

	deliver sync.Mutex // held while Events is called; before mu

	mu       sync.Mutex
	order    []*tracked
	stages   map[digest.Digest]*tracked
	steps    map[digest.Digest]*stepOf
	alias    map[digest.Digest]digest.Digest
	heads    map[digest.Digest][]*tracked
	vertexes map[digest.Digest]*vertex
	onRun    func(*graph.Stage)
	run      []*graph.Stage // to tell onRun
	late     []lateEvent
	queue    []Event
	last     time.Time
}

// tracked is what is known about a stage.
type tracked struct {
	stage  *graph.Stage
	inputs []*tracked
	open   int // users that are not known to be there

	started   bool
	executing bool // asked for, no answer yet
	built     bool // asked for and there
	assumed   bool // not asked for, and the Solver is done
	userDone  bool // a user is there
	ran       bool // a step of it ran
	headSeen  bool // the stream has shown the end of its last step
	end       EventKind
}

// stepOf says which stages a step belongs to, in graph order.
type stepOf struct {
	owners []*tracked
	// local: reads a build context
	local bool
}

// lateEvent is the end of a stage that waits for the stream to show the end of the
// failed vertex.
type lateEvent struct {
	vertex digest.Digest
	event  Event
}

// attach makes the stages of g known. onRun, if not nil, is called when a step of a
// stage runs, without locks held.
func (t *Tracker) attach(g *graph.Graph, onRun func(*graph.Stage)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open()
	t.onRun = onRun
	for _, s := range g.Stages() {
		if t.stages[s.ID] != nil {
			continue
		}
		st := t.add(s)
		for _, in := range g.Inputs(s) {
			m := t.stages[in.ID]
			m.open++
			st.inputs = append(st.inputs, m)
		}
	}
}

// open makes a Tracker that has seen nothing ready.
func (t *Tracker) open() {
	if t.stages == nil {
		t.stages, t.steps = map[digest.Digest]*tracked{}, map[digest.Digest]*stepOf{}
		t.alias, t.heads = map[digest.Digest]digest.Digest{}, map[digest.Digest][]*tracked{}
	}
}

// add makes a stage known that is not.
func (t *Tracker) add(s *graph.Stage) *tracked {
	st := &tracked{stage: s}
	for _, step := range s.Steps {
		t.addStep(st, step)
	}
	t.heads[s.Head] = append(t.heads[s.Head], st)
	t.stages[s.ID], t.order = st, append(t.order, st)
	return st
}

func (t *Tracker) addStep(st *tracked, step graph.Step) {
	so := t.steps[step.Digest]
	if so == nil {
		so = &stepOf{local: step.Source != nil && step.Source.Scheme == "local"}
		t.steps[step.Digest] = so
		// BuildKit gives a step that must ignore the cache this digest while the same
		// step runs in another build that may use it.
		t.alias[digest.FromString(string(step.Digest)+"-ignorecache")] = step.Digest
	}
	so.owners = append(so.owners, st)
}

// canon undoes the digests BuildKit makes up.
func (t *Tracker) canon(d digest.Digest) digest.Digest {
	if a := t.alias[d]; a != "" {
		return a
	}
	return d
}

// update runs f under the lock, then delivers events and tells of stages that run.
func (t *Tracker) update(f func()) {
	t.mu.Lock()
	f()
	run, onRun := t.run, t.onRun
	t.run = nil
	t.mu.Unlock()
	t.flush()
	if onRun != nil {
		for _, s := range run {
			onRun(s)
		}
	}
}

// flush delivers what is queued. Whoever holds deliver takes everything there is, so
// events go out in the order in which they were queued.
func (t *Tracker) flush() {
	t.deliver.Lock()
	defer t.deliver.Unlock()
	t.mu.Lock()
	queue := t.queue
	t.queue = nil
	t.mu.Unlock()
	for _, e := range queue {
		t.Events(e)
	}
}

func (t *Tracker) emit(e Event) {
	if t.Events == nil {
		return
	}
	now := t.Now
	if now == nil {
		now = time.Now
	}
	if n := now(); n.After(t.last) {
		t.last = n
	}
	e.Time, e.Build = t.last, t.Build
	t.queue = append(t.queue, e)
}

// start reports that something of st has been asked for.
func (t *Tracker) start(st *tracked) {
	if !st.started && st.end == "" {
		st.started = true
		t.emit(Event{Kind: StageStarted, Stage: st.stage})
	}
}

// executing notes that s has been asked for; announce makes that its start.
func (t *Tracker) executing(s *graph.Stage, announce bool) {
	t.update(func() {
		st := t.stages[s.ID]
		st.executing = true
		if announce {
			t.start(st)
		}
	})
}

// built notes that the result of s is there.
func (t *Tracker) built(s *graph.Stage) {
	t.update(func() {
		st := t.stages[s.ID]
		st.executing, st.built = false, true
		if st.headSeen || st.userDone || st.stage.Terminal() {
			t.settle(st)
		}
	})
}

// failed ends s; v is the vertex at fault, empty when there is none.
func (t *Tracker) failed(s *graph.Stage, err error, v digest.Digest) {
	t.abort(s, Event{Kind: StageFailed, Stage: s, Err: err}, v)
}

// skipped ends s because of err; v as for failed.
func (t *Tracker) skipped(s *graph.Stage, err error, v digest.Digest) {
	t.abort(s, Event{Kind: StageSkipped, Stage: s, Err: err}, v)
}

func (t *Tracker) abort(s *graph.Stage, e Event, v digest.Digest) {
	t.update(func() {
		st := t.stages[s.ID]
		st.executing = false
		if st.end != "" {
			return
		}
		if e.Kind == StageFailed {
			t.start(st)
		}
		st.end = e.Kind
		v = t.canon(v)
		if vs := t.vertexes[v]; v == "" || vs != nil && vs.failed {
			t.emit(e)
		} else {
			t.late = append(t.late, lateEvent{v, e})
		}
	})
}

// seal says that the Solver is done: what has no end by now was not needed.
func (t *Tracker) seal() {
	t.update(func() {
		t.onRun = nil
		for _, st := range t.order {
			st.executing, st.assumed = false, true
			if st.userDone && st.open == 0 {
				t.settle(st)
			}
		}
	})
}

// settle ends a stage that is there, and then its inputs: what they had to report
// came before. An input that nobody has asked for is given up once all its users are
// there; until then one of them might still make BuildKit build it.
func (t *Tracker) settle(st *tracked) {
	for todo := []*tracked{st}; len(todo) > 0; {
		st := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if st.end != "" {
			continue
		}
		t.start(st)
		st.end = st.outcome()
		t.emit(Event{Kind: st.end, Stage: st.stage})
		todo = append(todo, t.release(st)...)
	}
}

// release takes st off the users of its inputs and gives those that are to end.
func (t *Tracker) release(st *tracked) []*tracked {
	var out []*tracked
	for _, in := range st.inputs {
		in.open--
		in.userDone = true
		if in.end == "" && (in.built || in.open == 0 && !in.executing) {
			out = append(out, in)
		}
	}
	return out
}

func (st *tracked) outcome() EventKind {
	if st.ran {
		return StageDone
	}
	return StageCached
}

// Close says that the status stream has ended: every end that waited for it is
// reported now.
func (t *Tracker) Close() {
	t.update(func() {
		t.releaseLate(func(lateEvent) bool { return true })
		for _, st := range t.order {
			if st.built || st.assumed {
				t.settle(st)
			}
		}
	})
}

func (t *Tracker) releaseLate(due func(lateEvent) bool) {
	var rest []lateEvent
	for _, l := range t.late {
		if due(l) {
			t.emit(l.event)
		} else {
			rest = append(rest, l)
		}
	}
	t.late = rest
}

// failedVertex finds the one vertex whose failure, by the status stream, is what err
// says; empty when there is none or more than one. It is for daemons whose errors
// arrive without types.
func (t *Tracker) failedVertex(err error) digest.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, found := err.Error(), digest.Digest("")
	for d, v := range t.vertexes {
		if v.failed && v.status.Error != "" && strings.Contains(text, v.status.Error) {
			if found != "" {
				return ""
			}
			found = d
		}
	}
	return found
}

// failure gives the first step of a stage that has failed by the status stream, with
// what that says of it; "" if there is none.
func (t *Tracker) failure(s *graph.Stage) (digest.Digest, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range s.Steps {
		if v := t.vertexes[t.canon(st.Digest)]; v != nil && v.failed && v.status.Error != "" {
			return st.Digest, v.status.Error
		}
	}
	return "", ""
}

// Counts says how the stages of a build ended.
type Counts struct {
	Done    int
	Cached  int
	Failed  int
	Skipped int
}

// String renders the counts that are not zero, such as "3 built, 12 cached".
func (c Counts) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{c.Done, "built"}, {c.Cached, "cached"}, {c.Failed, "failed"}, {c.Skipped, "skipped"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// Counts gives the number of stages that have ended so far, in each way. After Solve
// and Close every stage of the graph is counted once.
func (t *Tracker) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	var c Counts
	for _, st := range t.order {
		switch st.end {
		case StageDone:
			c.Done++
		case StageCached:
			c.Cached++
		case StageFailed:
			c.Failed++
		case StageSkipped:
			c.Skipped++
		}
	}
	return c
}
