package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/zlayer-dev/zlayer/engine/daemon"
)

// busyError says that a daemon has not begun a build, of which nothing has happened: with
// many builds at once BuildKit may take longer to register one than the three seconds
// that it gives the build's first question.
type busyError struct{ err error }

func (e *busyError) Error() string {
	return "the daemon is too busy to begin the build: " + e.err.Error()
}
func (e *busyError) Unwrap() error { return e.err }

// onDaemon is c.Build, with a busyError where the daemon was too busy.
func onDaemon(ctx context.Context, c *client.Client, opt client.SolveOpt, f gwclient.BuildFunc, status chan *client.SolveStatus) (*client.SolveResponse, error) {
	var began atomic.Bool
	resp, err := c.Build(ctx, opt, product, func(ctx context.Context, gw gwclient.Client) (*gwclient.Result, error) {
		began.Store(true)
		return f(ctx, gw)
	}, status)
	if err != nil && !began.Load() && unknownJob(err) {
		err = &busyError{err}
	}
	return resp, err
}

// unknownJob reports whether a daemon does not know the build that it was asked about.
func unknownJob(err error) bool {
	return grpcerrors.Code(err) == codes.NotFound && strings.Contains(err.Error(), "no such job")
}

// askAgain reports whether what failed on a daemon may be done again there, or on the one
// that comes after it; touched says that it has had an effect.
func askAgain(err error, touched bool) bool {
	var busy *busyError
	return errors.As(err, &busy) || daemon.Unavailable(err) && !touched
}
