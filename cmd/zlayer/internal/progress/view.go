package progress

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/solver"
)

// Mode is how a build is shown.
type Mode string

// The modes. Auto is TTY on a terminal and Plain elsewhere.
const (
	Auto    Mode = "auto"
	TTY     Mode = "tty"
	Plain   Mode = "plain"
	RawJSON Mode = "rawjson"
	Quiet   Mode = "quiet"
)

// ErrNoTerminal says that mode TTY was asked for and the output is not a terminal.
var ErrNoTerminal = errors.New("standard error is not a terminal: use plain or auto")

// View shows a build while it runs and remembers what is needed to report its
// end. Sink may be called from any goroutine until Close.
type View struct {
	mode  Mode
	draw  func(*client.SolveStatus)
	close func()

	mu       sync.Mutex
	closed   bool
	counts   Counts
	ended    map[digest.Digest]solver.EventKind
	warnings []solver.WarningInfo
	tails    map[digest.Digest]*tail
}

// Counts says how the stages of a build ended.
type Counts struct {
	Done, Cached, Failed, Skipped int
	// Retries is how often something was tried again.
	Retries int
}

// NewView shows a build on w. For mode TTY, and for Auto to choose it, w must be
// a terminal.
func NewView(w io.Writer, mode Mode) (*View, error) {
	v := &View{mode: mode, tails: map[digest.Digest]*tail{}, ended: map[digest.Digest]solver.EventKind{}, draw: func(*client.SolveStatus) {}, close: func() {}}
	switch mode {
	case Quiet:
	case RawJSON:
		enc := json.NewEncoder(w)
		v.draw = func(s *client.SolveStatus) { _ = enc.Encode(s) }
	default:
		if err := v.display(w); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// display starts BuildKit's own view.
func (v *View) display(w io.Writer) error {
	if v.mode != Plain {
		d, err := progressui.NewDisplay(w, progressui.TtyMode)
		if err == nil {
			v.mode = TTY
			v.run(d)
			return nil
		}
		if v.mode == TTY {
			return ErrNoTerminal
		}
		v.mode = Plain
	}
	d, err := progressui.NewDisplay(&plainWriter{w: w}, progressui.PlainMode)
	if err != nil {
		return err
	}
	v.run(d)
	return nil
}

// run feeds d through a channel: drawing must not hold up the build.
func (v *View) run(d progressui.Display) {
	ch := make(chan *client.SolveStatus, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The build decides when the view ends, also when it is cancelled:
		// the last events are those worth seeing.
		_, _ = d.UpdateFrom(context.Background(), ch)
	}()
	v.draw = func(s *client.SolveStatus) { ch <- s }
	v.close = func() {
		close(ch)
		<-done
	}
}

// Sink shows one event. Events after Close are dropped.
func (v *View) Sink(e solver.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	e = stamp(e, time.Now)
	v.record(e)
	// Warnings are told once, at the end; only programs get them at once.
	if e.Warning != nil && v.mode != RawJSON {
		return
	}
	if s := Status(e); s != nil {
		if v.mode != RawJSON {
			harmless(s)
		}
		v.draw(s)
	}
}

// harmless cleans the texts that come from build files. What steps print is theirs:
// people want its colours.
func harmless(s *client.SolveStatus) {
	for _, vtx := range s.Vertexes {
		vtx.Name, vtx.Error = Lines(vtx.Name), Lines(vtx.Error)
	}
	for _, st := range s.Statuses {
		st.ID, st.Name = printable(st.ID), printable(st.Name)
	}
}

// record keeps what the report needs.
func (v *View) record(e solver.Event) {
	switch e.Kind {
	case solver.StageDone, solver.StageCached, solver.StageFailed, solver.StageSkipped:
		v.countStage(e)
	case solver.Retrying:
		v.counts.Retries++
	case solver.Warning:
		if e.Warning != nil {
			v.warnings = append(v.warnings, *e.Warning)
		}
	}
	v.recordOutput(e)
}

// countStage counts a stage once, however many builds have it: as the one that built it
// says, else the one that it failed for.
func (v *View) countStage(e solver.Event) {
	rank := func(k solver.EventKind) (int, *int) {
		switch k {
		case solver.StageDone:
			return 4, &v.counts.Done
		case solver.StageFailed:
			return 3, &v.counts.Failed
		case solver.StageCached:
			return 2, &v.counts.Cached
		default:
			return 1, &v.counts.Skipped
		}
	}
	n, to := rank(e.Kind)
	if e.Stage != nil && e.Stage.ID != "" {
		if was, ok := v.ended[e.Stage.ID]; ok {
			before, from := rank(was)
			if before >= n {
				return
			}
			*from--
		}
		v.ended[e.Stage.ID] = e.Kind
	}
	*to++
}

// recordOutput keeps the end of what each step printed where the view itself
// does not show it.
func (v *View) recordOutput(e solver.Event) {
	if v.mode != Quiet || e.Step == nil {
		return
	}
	d := e.Step.Digest
	switch {
	case e.Kind == solver.Output && e.Log != nil:
		if v.tails[d] == nil {
			v.tails[d] = &tail{}
		}
		v.tails[d].write(e.Log.Data)
	case e.Kind == solver.StepDone && e.Step.Error == "":
		delete(v.tails, d)
	}
}

// Close draws what is left and releases the output.
func (v *View) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		v.close()
	}
}

// Mode returns how the build is really shown: never Auto.
func (v *View) Mode() Mode { return v.mode }

// Counts returns how stages ended so far.
func (v *View) Counts() Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts
}

// Warnings returns the warnings so far, in order.
func (v *View) Warnings() []solver.WarningInfo {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]solver.WarningInfo(nil), v.warnings...)
}

// Tail returns the last lines a step printed if the view has not shown them.
func (v *View) Tail(step digest.Digest) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tails[step]; t != nil {
		return t.last()
	}
	return nil
}
