package engine

import (
	"context"
	"fmt"
	"maps"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
)

// Call answers a question about the build file of req without building it.
func (e *Engine) Call(ctx context.Context, req Request, call Call) (*CallResult, error) {
	id, ok := map[Call]string{
		CallCheck:    lint.SubrequestLintDefinition.Name,
		CallOutline:  outline.SubrequestsOutlineDefinition.Name,
		CallTargets:  targets.SubrequestsTargetsDefinition.Name,
		CallDescribe: subrequests.RequestSubrequestsDescribe,
	}[call]
	if !ok {
		return nil, inputErrorf("call %q is none of check, outline, targets and %s", call, CallDescribe)
	}
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
	j.attrs["requestid"] = id
	j.attrs["frontend.caps"] = "moby.buildkit.frontend.subrequests+forward"
	var meta map[string][]byte
	err = j.gateway(ctx, func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
		f := dockerfile.Frontend{Options: newComposer(j, gw, nil).options()}
		res, err := f.Build(ctx, gw)
		if err != nil {
			return nil, err
		}
		meta = maps.Clone(res.Metadata)
		return gwclient.NewResult(), nil
	})
	if err != nil {
		return nil, err
	}
	if meta["result.json"] == nil && meta["result.txt"] == nil {
		return nil, fmt.Errorf("the frontend gave no answer to %q", call)
	}
	code := string(meta["result.statuscode"])
	return &CallResult{
		JSON:   meta["result.json"],
		Text:   meta["result.txt"],
		Failed: code != "" && code != "0",
	}, nil
}
