package engine

import (
	"errors"
	"fmt"
	"testing"

	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
