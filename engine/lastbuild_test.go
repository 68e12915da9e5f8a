package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

// courses lists the stages of a picture with their states.
func courses(p *graph.Picture) string {
	var out []string
	for _, s := range p.Stages {
		text := s.Name + " " + s.State
		if s.Critical {
			text += " critical"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// TestOutlookAndLastBuild asks before and after builds how it stands.
func TestOutlookAndLastBuild(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"Dockerfile": "FROM scratch AS one\nARG SECRET=quite-long\nCOPY a /a-$SECRET\nFROM scratch AS two\nCOPY b /b\nFROM two\nCOPY --from=one /* /\n", "a": "a", "b": "b",
	})
	req := Request{Context: dir, BuildArgs: map[string]string{"SECRET": "hush-hush"}}
	outlook := func(want string) {
		t.Helper()
		p, err := e.Outlook(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := courses(p); got != want {
			t.Errorf("the outlook is %s, want %s", got, want)
		}
	}
	build := func() {
		t.Helper()
		if _, err := e.Build(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.LastBuild(req); !errors.Is(err, ErrNoLastBuild) {
		t.Errorf("before the first build: %v", err)
	}
	outlook("two runs, one runs, stage-2 runs")
	build()
	outlook("two memoized, one memoized, stage-2 memoized")
	first, err := e.LastBuild(req)
	if err != nil || first.Failed || first.Took <= 0 {
		t.Fatalf("after a build: %+v, %v", first, err)
	}
	for _, s := range first.Graph.Stages {
		if s.State != graph.StateBuilt || s.Name == "stage-2" && !s.Critical || len(s.Steps) > 0 {
			t.Errorf("after the first build: %+v", s)
		}
	}
	build() // the memo has it
	if again, err := e.LastBuild(req); err != nil || !again.Ended.Equal(first.Ended) {
		t.Errorf("a build that had nothing to do was noted: %+v, %v", again, err)
	} else if r := again.Recalled; r == nil || !r.Ended.After(first.Ended) || r.Took <= 0 || r.Restored || first.Recalled != nil {
		t.Errorf("that the memo had everything was noted as %+v, after %+v", r, first.Recalled)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	outlook("two unchanged, one runs, stage-2 runs")
	build()
	last, err := e.LastBuild(req)
	if err != nil || last.Recalled != nil {
		t.Fatalf("%+v, %v", last, err)
	}
	for _, s := range last.Graph.Stages {
		if want := map[string]string{"two": graph.StateCached}[s.Name]; want != "" && s.State != want {
			t.Errorf("stage %s is %s, want %s", s.Name, s.State, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(e.stateDir(), "last", "*.course.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("courses are noted in %v, %v", files, err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || strings.Contains(string(text), "hush-hush") {
		t.Errorf("the course has the value of an argument: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch AS one\nCOPY a /a\nFROM one\nCOPY missing /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Build(t.Context(), req); err == nil {
		t.Fatal("a build that copies what is not there succeeded")
	}
	failed, err := e.LastBuild(req)
	if err != nil || !failed.Failed || !strings.Contains(courses(failed.Graph), "stage-1 failed") {
		t.Errorf("after a failure: %+v, %v", failed, err)
	}
}

// TestLastPipeline notes how the images of a pipeline went.
func TestLastPipeline(t *testing.T) {
	e := realEngine(t)
	dir := project(t, map[string]string{
		"ZPipeline.yaml":  "images:\n  app: {context: app}\n  base: {context: base, tags: example.com/base}\n",
		"base/Dockerfile": "FROM scratch\nCOPY a /a\n", "base/a": "a",
		"app/Dockerfile": "FROM example.com/base\nCOPY b /b\n", "app/b": "b",
	})
	p, err := LoadPipeline(PipelineRequest{File: filepath.Join(dir, "ZPipeline.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.BuildPipeline(t.Context(), p, PipelineOptions{}); err != nil {
		t.Fatal(err)
	}
	last, err := e.LastPipeline(p)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range last.Graph.Stages {
		names[s.Name] = s.State == graph.StateBuilt
	}
	if !names["app"] || !names["base"] || len(names) != 2 || last.Failed {
		t.Errorf("the last build of the pipeline is %s", courses(last.Graph))
	}
	if _, err := e.BuildPipeline(t.Context(), p, PipelineOptions{}); err != nil {
		t.Fatal(err)
	}
	if again, err := e.LastPipeline(p); err != nil || again.Recalled == nil || again.Recalled.Restored || !again.Ended.Equal(last.Ended) {
		t.Errorf("after a run for which the memo had everything: %+v, %v", again, err)
	}
	if err := os.Remove(e.lastPipelineFile(p)); err != nil {
		t.Fatal(err)
	}
	if again, err := e.LastPipeline(p); err != nil || again.Recalled == nil || again.Graph != nil {
		t.Errorf("where nothing else is known: %+v, %v", again, err)
	}
	if err := os.WriteFile(recalledFile(e.lastPipelineFile(p)), []byte(`{"ended":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.LastPipeline(p); !errors.Is(err, ErrNoLastBuild) {
		t.Errorf("a note that is torn: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app", "b"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	outlook, err := e.OutlookPipeline(t.Context(), p, PipelineOptions{})
	if err != nil || courses(outlook) != "base memoized, app runs" {
		t.Errorf("the outlook is %v, %v", outlook, err)
	}
}
