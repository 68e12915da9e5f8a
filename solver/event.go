package solver

import (
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// EventKind says what an [Event] reports.
type EventKind string

// The kinds of events. A stage has at most one StageStarted and then exactly one of
// StageDone, StageCached, StageFailed and StageSkipped; only StageSkipped can come
// without a start.
const (
	// StageStarted: the first step of the stage has been asked for.
	StageStarted EventKind = "stage-started"
	// StageDone: the stage has been built; some step of it ran.
	StageDone EventKind = "stage-done"
	// StageCached: the stage is there and none of its steps had to run.
	StageCached EventKind = "stage-cached"
	// StageFailed: a step of the stage failed; Err says how.
	StageFailed EventKind = "stage-failed"
	// StageSkipped: the stage was not built because a stage it needs failed, or
	// because the build was stopped, perhaps in the middle of it.
	StageSkipped EventKind = "stage-skipped"
	// StepStarted, StepDone: a step (an instruction) began or ended; Step is set.
	// A step that ended from cache has Step.Cached. A step can start and end again:
	// BuildKit asks a base image for its cache key and fetches it later, and repeats
	// what it could not load from a cache.
	StepStarted EventKind = "step-started"
	StepDone    EventKind = "step-done"
	// Output: a step printed; Step and Log are set.
	Output EventKind = "output"
	// Progress: a step moved on, as in a transfer; Step and Progress are set.
	Progress EventKind = "progress"
	// Retrying: something has failed and will be tried again; Retry is set, and Step where
	// it is a step.
	Retrying EventKind = "retrying"
	// Warning: the build file or the daemon has something to say; Warning is set.
	Warning EventKind = "warning"
)

// Event is one entry of the stream from which every progress view is drawn.
// Events of one stage and of one step come in order, and times never go back. Fields
// that do not apply to the kind are zero. What an event points to must not be changed.
type Event struct {
	Kind EventKind
	// Time is when the event was made, by our own clock.
	Time time.Time
	// Build tells builds of one run apart when there are several, such as the
	// images of a pipeline; empty otherwise.
	Build string
	// Stage is the stage concerned; nil for steps outside every stage, such as
	// loading the build file or exporting.
	Stage *graph.Stage
	// Step is the step concerned.
	Step *StepStatus
	// Log is what a step printed.
	Log *Log
	// Progress is how far a step is.
	Progress *Transfer
	// Warning is what there is to say.
	Warning *WarningInfo
	// Retry says what is tried again.
	Retry *RetryInfo
	// Err is the failure (StageFailed) or the cause of skipping (StageSkipped).
	Err error
}

// StepStatus is what is known about a step at the time of an event.
type StepStatus struct {
	// Digest is BuildKit's vertex digest.
	Digest digest.Digest
	// Inputs are the digests of the steps it reads.
	Inputs []digest.Digest
	// Name is the text to show, such as "[build 2/5] RUN make".
	Name string
	// Started and Completed are nil before that happened.
	Started   *time.Time
	Completed *time.Time
	// Cached: the result was there already.
	Cached bool
	// Error is the text of the failure, empty without one.
	Error string
	// Group is BuildKit's progress group id, under which steps are shown as one;
	// GroupName its text, GroupWeak whether it gives way to the steps' own names.
	Group     string
	GroupName string
	GroupWeak bool
}

// Log is a piece of a step's output, cut anywhere, not only at line ends.
type Log struct {
	// Stream is 1 for standard output and 2 for standard error.
	Stream int
	Data   []byte
}

// Transfer is the state of a counted sub-task of a step.
type Transfer struct {
	// ID and Name identify the sub-task within the step.
	ID   string
	Name string
	// Current and Total are in bytes; Total is 0 when it is not known.
	Current   int64
	Total     int64
	Started   *time.Time
	Completed *time.Time
}

// WarningInfo is a warning of a linter or of the daemon.
type WarningInfo struct {
	// Level is the importance, 1 the most important.
	Level int
	// Short is the one-line message, Detail the explanation.
	Short  string
	Detail []string
	URL    string
	// Pos is where in the build file, Source the text of that file.
	Pos    graph.Pos
	Source []byte
	// Step is the vertex digest the warning is attached to.
	Step digest.Digest
}

// Sink receives events. Calls are never concurrent and should return fast: the
// build waits for them. A nil Sink is silent.
type Sink func(Event)
