package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/engine"
)

// BuildPipeline ends the images bottom <- middle <- top and other as integration tests
// (TestEnginePipelineFailures and those after it) have found that they end.
func (f *fakeEngine) BuildPipeline(ctx context.Context, p *engine.Pipeline, o engine.PipelineOptions) (*engine.BatchResult, error) {
	if err := writeValue(o); err != nil {
		return nil, err
	}
	failure := fakeStageError(2, `process "/bin/sh -c false" did not complete successfully: exit code: 1`)
	push := errors.New("other: pushing r.example/other: 403 Forbidden: log in with docker login r.example")
	gone := errors.New("talking to the BuildKit daemon: error reading from server: EOF")
	end := func(states string, err error) (*engine.BatchResult, error) { return fakeBatch(states, err), err }
	switch os.Getenv("ENGINE") {
	case "":
		return f.Engine.BuildPipeline(ctx, p, o)
	case "good":
		return end("bottom unchanged, middle restored, top built, other built", nil)
	case "root":
		return end("bottom failed, middle skipped bottom, top skipped bottom, other built", failure)
	case "middle":
		return end("bottom built, middle failed, top skipped middle, other built", failure)
	case "leaf":
		return end("bottom built, middle built, top failed, other built", failure)
	case "push":
		return end("bottom built, middle built, top built, other failed", push)
	case "two":
		return end("bottom built, middle failed, top skipped middle, other failed", multierror.Append(nil, failure, push))
	case "daemon":
		return end("bottom built, middle failed, top skipped middle, other failed", gone)
	case "hang":
		err := f.hang(ctx)
		return end("bottom built, middle skipped, top skipped, other built", err)
	}
	return nil, fmt.Errorf("ENGINE=%s is not known to the test", os.Getenv("ENGINE"))
}

// fakeBatch is a result of "NAME STATE [BECAUSE]", with commas.
func fakeBatch(states string, err error) *engine.BatchResult {
	res := &engine.BatchResult{Duration: 3 * time.Second}
	for s := range strings.SplitSeq(states, ", ") {
		words := strings.Fields(s)
		i := engine.BatchImage{Name: words[0], State: engine.BatchState(words[1])}
		if len(words) > 2 {
			i.Because = words[2]
		}
		switch i.State {
		case engine.BatchFailed, engine.BatchSkipped:
			i.Err = err
		default:
			i.Result = &engine.Result{Digest: digest.FromString(i.Name)}
		}
		if i.State != engine.BatchSkipped {
			i.Duration = 1500 * time.Millisecond
		}
		if i.State == engine.BatchBuilt {
			i.Pushed = []string{"r.example/" + i.Name}
		}
		res.Images = append(res.Images, i)
	}
	return res
}
