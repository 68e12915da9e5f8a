package dockerfile

import (
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
)

// knownCaps are the frontend capabilities a caller may require of us
// (frontend attribute frontend.caps).
var knownCaps = map[string]bool{
	"moby.buildkit.frontend.inputs":         true,
	"moby.buildkit.frontend.subrequests":    true,
	"moby.buildkit.frontend.contexts":       true,
	"moby.buildkit.frontend.gitquerystring": true,
	"moby.buildkit.frontend.contexts.zstd":  true,
}

// checkCaps refuses capabilities that this frontend lacks. A required capability
// marked "+forward" may still be had from the frontend that the Dockerfile's
// syntax line names, so mayForward says whether to go on looking for one.
func checkCaps(required string) (mayForward bool, err error) {
	if required == "" {
		return false, nil
	}
	for c := range strings.SplitSeq(required, ",") {
		name, _, _ := strings.Cut(c, "+")
		if knownCaps[name] {
			continue
		}
		err = grpcerrors.WrapCode(errdefs.NewUnsupportedFrontendCapError(name), codes.Unimplemented)
		if !strings.Contains(c, "+forward") {
			return false, err
		}
		mayForward = true
	}
	return mayForward, err
}
