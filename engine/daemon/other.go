//go:build !linux

package daemon

import (
	"context"
	"errors"
	"net"
)

// BuildKit itself needs Linux. Elsewhere only Dial is of use.

// errNotHere is returned by all that needs an embedded BuildKit.
var errNotHere = errors.New("the embedded BuildKit needs Linux: use one on a Linux machine or in a container with --addr or BUILDKIT_HOST")

// ErrNotRunning is returned by Status and Stop if there is no daemon.
var ErrNotRunning = errors.New("no daemon is running")

// Reexec returns false.
func Reexec() bool { return false }

// Connect fails on this system.
func Connect(context.Context, Config) (*Conn, error) { return nil, errNotHere }

// InProcess fails on this system.
func InProcess(context.Context, Config) (*Conn, error) { return nil, errNotHere }

// Serve fails on this system.
func Serve(context.Context, Config, func(Info)) error { return errNotHere }

// Status fails on this system.
func Status(context.Context, Config) (Info, error) { return Info{}, errNotHere }

// Stop fails on this system.
func Stop(context.Context, Config) error { return errNotHere }

// LogPath fails on this system.
func LogPath(Config) (string, error) { return "", errNotHere }

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
