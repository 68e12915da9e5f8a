package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The handshake rides on BuildKit's own Info call, so that it costs no extra
// round trip and the socket stays one that every BuildKit client can use: the
// daemon adds a header that says who it is, and the caller may add one that
// asks it to leave.
const (
	infoMethod = "/moby.buildkit.v1.Control/Info"
	infoHeader = "zlayer-daemon-bin"
	stopHeader = "zlayer-daemon-stop"

	stopIfIdle = "idle" // leave if nobody else is connected
	stopNow    = "now"  // leave, cancelling what does not end soon
)

// errBusy is a daemon's answer to stopIfIdle while others are connected.
var errBusy = errors.New("daemon is busy")

// errStranger is for a server on our socket that is not our daemon.
var errStranger = errors.New("the server at this socket is not a zlayer daemon")

// greeter is the daemon's side of the handshake.
type greeter struct {
	info     Info
	listener *countingListener
	stop     func()
}

// intercept adds the handshake to Info and leaves all other calls alone.
func (g *greeter) intercept(ctx context.Context, req any, method *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if method.FullMethod != infoMethod {
		return next(ctx, req)
	}
	info := g.info
	info.Connections = g.listener.connections()
	b, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs(infoHeader, string(b))); err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	switch v := md.Get(stopHeader); {
	case len(v) == 0:
	case v[0] == stopNow:
		defer g.stop()
	case !g.listener.leave(1): // the caller's own connection does not count
		return nil, status.Error(codes.FailedPrecondition, errBusy.Error())
	}
	return next(ctx, req)
}

// hello is the client's side of the handshake. With stop, the daemon is asked
// to leave as well; errBusy means that it stays. With errStranger, the version
// alone is known.
func hello(ctx context.Context, c *client.Client, stop string) (Info, error) {
	if stop != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, stopHeader, stop)
	}
	var header metadata.MD
	resp, err := c.ControlClient().Info(ctx, &controlapi.InfoRequest{}, grpc.Header(&header))
	if err != nil {
		if stop == stopIfIdle && status.Code(err) == codes.FailedPrecondition {
			return Info{}, errBusy
		}
		return Info{}, err
	}
	info := Info{Version: resp.GetBuildkitVersion().GetVersion()}
	v := header.Get(infoHeader)
	if len(v) == 0 {
		return info, errStranger
	}
	if err := json.Unmarshal([]byte(v[0]), &info); err != nil {
		return Info{}, fmt.Errorf("reading the daemon's greeting: %w", err)
	}
	return info, nil
}
