package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// maxSocketPath is the size of sockaddr_un.sun_path without the final zero.
const maxSocketPath = 107

// withSocketPath calls f with a name for the socket at path that is short
// enough for the kernel: longer ones go through a descriptor of the directory.
func withSocketPath[T any](path string, f func(string) (T, error)) (T, error) {
	if len(path) <= maxSocketPath {
		return f(path)
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		var zero T
		return zero, err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// listenSocket replaces the socket at path, which must be stale, by a new one
// for this user only.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing stale socket: %w", err)
	}
	l, err := withSocketPath(path, func(short string) (*net.UnixListener, error) {
		return net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	// The listener would remove the name it was opened with, which may be gone.
	l.SetUnlinkOnClose(false)
	// Until here the slot's directory, which is 0700, has kept others out.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return &unlinkListener{Listener: l, path: path}, nil
}

// unlinkListener removes its socket before it closes, so that a client finds
// either a daemon or no socket.
type unlinkListener struct {
	net.Listener
	path string
	done atomic.Bool
}

func (l *unlinkListener) Close() error {
	if l.done.CompareAndSwap(false, true) {
		os.Remove(l.path)
	}
	return l.Listener.Close()
}

// dialSocket connects to the socket at path and returns the process at its
// other end, in the caller's numbering. A socket of another user is refused.
func dialSocket(path string) (net.Conn, int, error) {
	c, err := withSocketPath(path, func(short string) (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
	})
	if err != nil {
		return nil, 0, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		c.Close()
		return nil, 0, err
	}
	if credErr != nil {
		c.Close()
		return nil, 0, credErr
	}
	if int(cred.Uid) != os.Geteuid() {
		c.Close()
		return nil, 0, fmt.Errorf("the daemon at %s belongs to user %d: set ZLAYER_STATE_DIR to a directory of your own", path, cred.Uid)
	}
	return c, int(cred.Pid), nil
}

// dialUnix connects to any user's socket.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return withSocketPath(path, func(short string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", short)
	})
}

// clientOn returns a client that uses conn and never dials again: after the
// daemon is gone, another one at the same place may be of another version.
func clientOn(ctx context.Context, address string, conn net.Conn) (*client.Client, error) {
	var used atomic.Bool
	dial := func(context.Context, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, net.ErrClosed
		}
		return conn, nil
	}
	c, err := client.New(ctx, address,
		client.WithContextDialer(dial),
		// A connection that counts as idle would be closed by the client.
		client.WithGRPCDialOption(grpc.WithIdleTimeout(0)),
	)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}
