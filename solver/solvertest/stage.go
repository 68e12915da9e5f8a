package solvertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// Stage makes a stage with the given number of steps, chained, that reads inputs. Its
// definition is real LLB, but holds the stage's own steps only, so that making large
// graphs is cheap. Stages of different names differ.
func Stage(t testing.TB, name string, steps int, inputs ...*graph.Stage) *graph.Stage {
	t.Helper()
	st := llb.Scratch()
	for i := range steps {
		st = st.File(llb.Mkfile(fmt.Sprintf("/%s-%d", name, i), 0o644, nil), llb.WithCustomName(fmt.Sprintf("%s %d", name, i)))
	}
	return StageOf(t, name, st, inputs...)
}

// StageOf makes a stage of a state. Its position is line 1 of a file of its name.
func StageOf(t testing.TB, name string, st llb.State, inputs ...*graph.Stage) *graph.Stage {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	spec := graph.Spec{
		Name:       name,
		Pos:        graph.Pos{File: name, Line: 1},
		Platform:   ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		Definition: graph.Definition(def),
	}
	for _, in := range inputs {
		spec.Inputs = append(spec.Inputs, graph.Input{Stage: in, Kind: graph.InputCopy})
	}
	s, err := graph.NewStage(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Graph makes a graph.
func Graph(t testing.TB, outputs ...*graph.Stage) *graph.Graph {
	t.Helper()
	g, err := graph.New(outputs...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Script makes messages of BuildKit's status stream, on a clock of its own that ticks
// once a message.
type Script struct {
	now time.Time
	at  map[digest.Digest]*client.Vertex
}

// Start is the start of a step of s, by its index. The steps before it are its
// inputs, as they are in BuildKit.
func (c *Script) Start(s *graph.Stage, step int) *client.SolveStatus {
	return c.begin(s, step, false)
}

// Hit is the start and end of a step that is in cache.
func (c *Script) Hit(s *graph.Stage, step int) *client.SolveStatus {
	msg := c.begin(s, step, true)
	msg.Vertexes = append(msg.Vertexes, c.end(s, step, true, "").Vertexes...)
	return msg
}

// End is the end of a step that was started; text is its failure, empty for success.
func (c *Script) End(s *graph.Stage, step int, text string) *client.SolveStatus {
	return c.end(s, step, false, text)
}

// Print is a line of a step's output.
func (c *Script) Print(s *graph.Stage, step int, line string) *client.SolveStatus {
	return &client.SolveStatus{Logs: []*client.VertexLog{{
		Vertex: s.Steps[step].Digest, Stream: 1, Data: []byte(line), Timestamp: c.tick(),
	}}}
}

func (c *Script) begin(s *graph.Stage, step int, cached bool) *client.SolveStatus {
	if c.at == nil {
		c.at = map[digest.Digest]*client.Vertex{}
	}
	now := c.tick()
	v := &client.Vertex{Digest: s.Steps[step].Digest, Name: s.Steps[step].Name, Started: &now, Cached: cached}
	if step > 0 {
		v.Inputs = []digest.Digest{s.Steps[step-1].Digest}
	}
	c.at[v.Digest] = v
	return &client.SolveStatus{Vertexes: []*client.Vertex{v}}
}

func (c *Script) end(s *graph.Stage, step int, cached bool, text string) *client.SolveStatus {
	now := c.tick()
	v := *c.at[s.Steps[step].Digest]
	v.Completed, v.Cached, v.Error = &now, cached, text
	return &client.SolveStatus{Vertexes: []*client.Vertex{&v}}
}

func (c *Script) tick() time.Time {
	if c.now.IsZero() {
		c.now = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	c.now = c.now.Add(time.Millisecond)
	return c.now
}
