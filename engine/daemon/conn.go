package daemon

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
)

// Conn is a connection to a BuildKit.
type Conn struct {
	// Client is BuildKit's own client, valid until Close.
	Client *client.Client
	// Info describes the other side as it was when the connection was made.
	Info Info

	close func() error
	once  sync.Once
	err   error
}

// Info describes a BuildKit. What a foreign one does not tell is left zero.
type Info struct {
	// Version is BuildKit's own version.
	Version string
	// BuildID and ConfigHash identify program and effective configuration of
	// an embedded BuildKit.
	BuildID    string
	ConfigHash string
	// PID is the process that serves, as seen by the caller.
	PID int
	// Address is what BuildKit clients dial; empty if nobody else can.
	Address string
	// StateDir is the directory that holds the cache.
	StateDir string
	// LogPath is the log file.
	LogPath string
	// Rootless is set if BuildKit runs in a user namespace.
	Rootless bool
	// Snapshotter is overlayfs, or native where every layer is a full copy.
	Snapshotter string
	// Runc is the OCI runtime's path.
	Runc string
	// Started is when the daemon was started.
	Started time.Time
	// Connections counts the daemon's connections, the caller's included.
	Connections int
	// Warnings are sentences for the user: things that work, but slower or
	// otherwise than they would expect.
	Warnings []string
}

// Close releases the connection and, for an in-process engine, stops it. It
// may be called more than once.
func (c *Conn) Close() error {
	c.once.Do(func() { c.err = c.close() })
	return c.err
}

// Unavailable reports whether err, from any call on a Conn, means that the
// daemon is gone: it was stopped, replaced or killed after the connection was
// made. A caller that has had no side effect yet may connect again and retry.
// A daemon that leaves because it is idle never does this to a Conn.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	return grpcerrors.Code(err) == codes.Unavailable || gone(err)
}

// gone reports whether err from a dial or handshake means that nobody serves
// there (any more).
func gone(err error) bool {
	for _, target := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, io.EOF} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
