package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// LastBuild is how the last build of something went that asked a daemon, and whether it was
// asked for again since, when the memo had everything.
type LastBuild struct {
	// Ended is when, Took how long it was.
	Ended time.Time     `json:"ended"`
	Took  time.Duration `json:"tookNanoseconds"`
	// Failed: it did not succeed.
	Failed bool `json:"failed"`
	// Graph has the states and times of stages, and the critical path, but no steps. Of a
	// pipeline it has the images that were built.
	Graph *graph.Picture `json:"graph"`
	// Recalled is the last time after it that the memo had everything; nil for never. Where
	// no daemon has been asked here at all, there is nothing else.
	Recalled *Recalled `json:"-"`
}

// Recalled is a build for which the memo had everything.
type Recalled struct {
	// Ended is when, Took how long it was.
	Ended time.Time     `json:"ended"`
	Took  time.Duration `json:"tookNanoseconds"`
	// Restored: something was put back where it belongs.
	Restored bool `json:"restored,omitempty"`
}

// ErrNoLastBuild says that nothing is known of an earlier build.
var ErrNoLastBuild = errors.New("no build of this has been noted")

// LastBuild gives the last build of what the request asks for: of the same file, target
// and platforms. The error is ErrNoLastBuild where there is none.
func (e *Engine) LastBuild(req Request) (*LastBuild, error) {
	r, err := e.newRun(req)
	if err != nil {
		return nil, err
	}
	defer r.close()
	j, err := r.prepareCall(req)
	if err != nil {
		return nil, err
	}
	defer j.close()
	return readLastBuild(j.lastBuildFile())
}

// LastPipeline gives the last build of a pipeline, whichever of its images were asked for.
func (e *Engine) LastPipeline(p *Pipeline) (*LastBuild, error) {
	return readLastBuild(e.lastPipelineFile(p))
}

func readLastBuild(file string) (*LastBuild, error) {
	if file == "" {
		return nil, ErrNoLastBuild
	}
	recalled := readRecalled(file)
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if recalled != nil {
			return &LastBuild{Recalled: recalled}, nil
		}
		return nil, ErrNoLastBuild
	}
	if err != nil {
		return nil, err
	}
	var l LastBuild
	if err := json.Unmarshal(text, &l); err != nil || l.Graph == nil {
		return nil, fmt.Errorf("%w: %s cannot be read", ErrNoLastBuild, file)
	}
	if recalled != nil && recalled.Ended.After(l.Ended) {
		l.Recalled = recalled
	}
	return &l, nil
}

// recalledFile is where it is noted that the memo had everything, beside the course.
func recalledFile(course string) string {
	return strings.TrimSuffix(course, ".course.json") + ".recalled.json"
}

func readRecalled(course string) *Recalled {
	var r Recalled
	text, err := os.ReadFile(recalledFile(course))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return nil
	}
	return &r
}

// recalledSize is how long a note of it is: one of the same length replaces another
// without making a file shorter, for which some file systems wait for the disk.
const recalledSize = 160

// recalled notes that the memo had everything. It is written in place and not synced, to
// take no time of a call that takes hardly any: what is torn is not believed.
func (c *course) recalled(file string, restored bool) {
	if file == "" {
		return
	}
	now := time.Now()
	text, err := json.Marshal(Recalled{Ended: now, Took: now.Sub(c.began), Restored: restored})
	if err != nil {
		return
	}
	file = recalledFile(file)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) && os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		f, err = os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = fmt.Fprintf(f, "%-*s", recalledSize, text)
}

// lastBuildFile is where the course of a build is noted, "" for nowhere.
func (j *job) lastBuildFile() string {
	file := j.lastFile()
	if file == "" {
		return ""
	}
	return strings.TrimSuffix(file, ".json") + ".course.json"
}

// lastPipelineFile is where the course of a pipeline is noted, "" for nowhere.
func (e *Engine) lastPipelineFile(p *Pipeline) string {
	dir := e.stateDir()
	path, err := filepath.Abs(p.plan.File)
	if dir == "" || err != nil {
		return ""
	}
	h := graph.NewHasher("zlayer.pipeline.v1")
	h.String(path)
	return filepath.Join(dir, "last", h.Digest().Encoded()[:40]+".course.json")
}

// course is what events say of the stages of a call.
type course struct {
	began time.Time

	mu     sync.Mutex
	stages map[digest.Digest]*stageCourse
}

type stageCourse struct {
	started, ended time.Time
	state          string
}

func newCourse() *course {
	return &course{began: time.Now(), stages: map[digest.Digest]*stageCourse{}}
}

// sink notes events on their way to another sink, which may be nil.
func (c *course) sink(next solver.Sink) solver.Sink {
	return func(ev solver.Event) {
		c.note(ev)
		if next != nil {
			next(ev)
		}
	}
}

func (c *course) note(ev solver.Event) {
	if ev.Stage == nil {
		return
	}
	state := map[solver.EventKind]string{
		solver.StageStarted: "", solver.StageDone: graph.StateBuilt, solver.StageCached: graph.StateCached,
		solver.StageFailed: graph.StateFailed, solver.StageSkipped: graph.StateSkipped,
	}
	name, ok := state[ev.Kind]
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stages[ev.Stage.ID]
	if s == nil {
		s = &stageCourse{}
		c.stages[ev.Stage.ID] = s
	}
	if ev.Kind == solver.StageStarted {
		if s.started.IsZero() {
			s.started = ev.Time
		}
		return
	}
	// Of several builds that have the stage, the one that built it is the one to believe.
	rank := map[string]int{"": 0, graph.StateSkipped: 1, graph.StateCached: 2, graph.StateFailed: 3, graph.StateBuilt: 4}
	if rank[name] > rank[s.state] {
		s.state, s.ended = name, ev.Time
	}
}

// write notes how the stages of graphs went; names are those of outputs, by stage. That it
// cannot be written costs the answer to a question that may never be asked.
func (c *course) write(file string, graphs []*graph.Graph, names map[digest.Digest]string, failed bool) {
	if file == "" || len(graphs) == 0 {
		return
	}
	var outputs []*graph.Stage
	for _, g := range graphs {
		outputs = append(outputs, g.Outputs()...)
	}
	all, err := graph.New(outputs...)
	if err != nil {
		return
	}
	now := time.Now()
	l := LastBuild{Ended: now, Took: now.Sub(c.began), Failed: failed, Graph: all.Picture()}
	nameOutputs(l.Graph, names)
	c.mu.Lock()
	for i := range l.Graph.Stages {
		s := &l.Graph.Stages[i]
		s.Steps = nil // their texts may have values of arguments
		if sc := c.stages[s.ID]; sc != nil {
			s.State = sc.state
			if !sc.started.IsZero() && sc.ended.After(sc.started) {
				s.Started, s.Took = sc.started.Sub(c.began), sc.ended.Sub(sc.started)
			}
		}
	}
	c.mu.Unlock()
	l.Graph.MarkCritical()
	text, err := json.Marshal(l)
	if err == nil {
		noteFile(file, text)
	}
}

// noteFile writes a file of what is nice to have.
func noteFile(file string, text []byte) {
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = replaceFile(file, text)
	}
}

// noteCourse notes how the builds of a call went that asked a daemon, or that none did.
func (b *batch) noteCourse(failed bool) {
	restored, there := false, true
	for _, i := range b.images {
		there = there && (i.State == BatchUnchanged || i.State == BatchRestored)
		restored = restored || i.State == BatchRestored
	}
	if there && !failed {
		b.course.recalled(b.req.courseFile, restored)
		return
	}
	var graphs []*graph.Graph
	names := map[digest.Digest]string{}
	for _, i := range b.images {
		if i.Result == nil || i.Result.Graph == nil || i.State != BatchBuilt && i.State != BatchFailed {
			continue
		}
		graphs = append(graphs, i.Result.Graph)
		for _, s := range i.Result.Graph.Outputs() {
			if names[s.ID] == "" {
				names[s.ID] = i.Name
			}
		}
	}
	b.course.write(b.req.courseFile, graphs, names, failed)
}
