package graph

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPictureGolden draws a graph with all there can be known about stages.
func TestPictureGolden(t *testing.T) {
	p := sample(t).Picture()
	at := func(i int, state string, started, took time.Duration) {
		p.Stages[i].State, p.Stages[i].Started, p.Stages[i].Took = state, started, took
	}
	at(0, StateBuilt, 0, 3*time.Second)
	at(1, StateCached, time.Second, time.Millisecond)
	at(2, StateBuilt, 3*time.Second, 1500*time.Millisecond)
	at(3, StateFailed, 4500*time.Millisecond, time.Second)
	at(4, StateSkipped, 0, 0)
	p.MarkCritical()
	for file, draw := range map[string]func(io.Writer) error{"picture.txt": p.Text, "picture.dot": p.Dot, "picture.mmd": p.Mermaid, "picture.json": p.JSON} {
		var b bytes.Buffer
		if err := draw(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
	for i, critical := range []bool{true, false, true, true, false} {
		if p.Stages[i].Critical != critical {
			t.Errorf("stage %s is critical: %v, want %v", p.Stages[i].Name, p.Stages[i].Critical, critical)
		}
	}
}

// The end of an input is heard of after that of the stage that reads it, and a stage is begun that then
// was not worked on.
func TestCriticalPathOfLateNews(t *testing.T) {
	p := sample(t).Picture()
	for i := range p.Stages {
		p.Stages[i].Started, p.Stages[i].Took = time.Duration(i)*time.Second, time.Second
	}
	reader := len(p.Stages) - 1
	in := p.Stages[reader].Inputs[0].ID
	for i := range p.Stages {
		if p.Stages[i].ID == in {
			p.Stages[i].Took = time.Minute
		}
	}
	p.MarkCritical()
	for _, s := range p.Stages {
		if want := s.ID == p.Stages[reader].ID || s.ID == in; want && !s.Critical {
			t.Errorf("stage %s is not critical", s.Name)
		}
	}
	p.Stages[reader].Took = 0
	p.MarkCritical()
	for _, s := range p.Stages {
		if s.ID == p.Stages[reader].ID && s.Critical || s.ID == in && !s.Critical {
			t.Errorf("without its reader: stage %s is critical: %v", s.Name, s.Critical)
		}
	}
}
