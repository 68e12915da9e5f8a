package engine

import (
	"testing"

	"github.com/zlayer-dev/zlayer/graph"
)

// TestStagesOfOneName: nested builds have stages of one name; each is held against its own.
func TestStagesOfOneName(t *testing.T) {
	stage := func(file string, key graph.Key) madeStage {
		return madeStage{Name: "stage-0", Platform: "linux/amd64", Pos: graph.Pos{File: file, Line: 1}, Key: key}
	}
	was := &made{Stages: []madeStage{stage("/x/a/Dockerfile", "a"), stage("/x/b/Dockerfile", "b")}}
	now := &made{Stages: []madeStage{stage("a/Dockerfile", "a"), stage("b/Dockerfile", "b2")}}
	w := compare(was, now)
	if len(w.Stages) != 2 || w.Stages[0].State != StageSame || w.Stages[1].State != StageChanged {
		t.Errorf("got %+v", w.Stages)
	}
	now.Stages = now.Stages[:1]
	if w := compare(was, now); w.Same || w.Stages[1].State != StageRemoved || w.Stages[1].Pos.File != "/x/b/Dockerfile" {
		t.Errorf("one is gone: got %+v", w.Stages)
	}
}
