package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/moby/buildkit/client"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zlayer-dev/zlayer/engine/daemon"
)

func TestAskAgain(t *testing.T) {
	// As it comes through gRPC.
	unknown := grpcerrors.FromGRPC(grpcerrors.ToGRPC(t.Context(), fmt.Errorf("forwarding Ping: %w", solvererrdefs.NewUnknownJobError("x"))))
	if !unknownJob(unknown) {
		t.Errorf("%v is not taken for what a busy daemon says", unknown)
	}
	gone := status.Error(codes.Unavailable, "the daemon has gone")
	for _, c := range []struct {
		err     error
		touched bool
		want    bool
	}{
		{&busyError{unknown}, false, true},
		{&busyError{unknown}, true, true}, // nothing has begun, whatever was said before
		{unknown, false, false},           // the build had begun
		{gone, false, true},
		{gone, true, false},
		{errors.New("a step failed"), false, false},
		{status.Error(codes.NotFound, "image: not found"), false, false},
	} {
		if got := askAgain(c.err, c.touched); got != c.want {
			t.Errorf("%v, touched %v: asked again is %v, want %v", c.err, c.touched, got, c.want)
		}
	}
	if unknownJob(status.Error(codes.NotFound, "image: not found")) {
		t.Error("an image that is not there is taken for a busy daemon")
	}
}

// TestDroppedConnection: a connection that one call gives up is there for others until
// they have seen for themselves what has become of the daemon.
func TestDroppedConnection(t *testing.T) {
	t.Parallel()
	NeedDaemon(t)
	e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), daemon.Stop(context.Background(), e.cfg.Daemon())); err != nil {
			t.Error(err)
		}
	})
	var used []*client.Client
	err = e.withClient(t.Context(), func(other *client.Client, _ func()) error {
		err := e.withClient(t.Context(), func(c *client.Client, _ func()) error {
			if used = append(used, c); len(used) == 1 {
				return status.Error(codes.Unavailable, "the daemon has gone")
			}
			return nil
		})
		if err == nil && (len(used) != 2 || used[0] != other || used[1] == other) {
			t.Errorf("it was given %p and then %p, the other has %p", used[0], used[1], other)
		}
		_, lerr := other.ListWorkers(t.Context())
		return errors.Join(err, lerr)
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := used[0].ListWorkers(t.Context()); err == nil {
		t.Error("the connection is open although nobody uses it")
	}
}
