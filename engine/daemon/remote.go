package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/connhelper"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/worker/label"
	"google.golang.org/grpc/codes"
)

// DefaultConnectTimeout bounds Dial if Remote.Timeout is zero. Going through
// ssh or a Kubernetes API server takes seconds.
const DefaultConnectTimeout = 20 * time.Second

// Remote is any BuildKit that can be reached by an address.
type Remote struct {
	// Addr is one of
	//
	//	unix:///path/to/buildkitd.sock
	//	tcp://host:port
	//	ssh://[user@]host[:port][/path/to/buildkitd.sock]
	//	docker-container://container[?context=name]
	//	podman-container://container
	//	kube-pod://pod[?context=name&namespace=name&container=name]
	//
	// The last four need ssh, docker, podman or kubectl here, and buildctl at
	// the other end.
	Addr string

	// CA, Cert and Key are PEM files for tcp addresses. If one of the fields or
	// ServerName is set, or TLS, the connection is encrypted; without CA the
	// system's certificates count.
	CA, Cert, Key string
	// ServerName is the name in the server's certificate, if it is not Addr's.
	ServerName string
	// TLS encrypts although none of the other fields is set.
	TLS bool

	// Timeout bounds connecting. Zero means DefaultConnectTimeout.
	Timeout time.Duration
}

func (r Remote) tls() bool {
	return r.TLS || r.CA != "" || r.Cert != "" || r.Key != "" || r.ServerName != ""
}

// Dial connects to the BuildKit at r.Addr and makes sure that it answers.
func Dial(ctx context.Context, r Remote) (*Conn, error) {
	u, err := parseAddr(r.Addr)
	if err != nil {
		return nil, err
	}
	opts, err := r.options(u)
	if err != nil {
		return nil, err
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	c, info, err := r.connect(ctx, opts)
	// What a command says when it ends is read only if the end is seen in reading, not
	// in writing; it is worth asking again for.
	for i := 0; i < 3 && err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "broken pipe"); i++ {
		c, info, err = r.connect(ctx, opts)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		hint := "is it running there?"
		if strings.Contains(err.Error(), "executable file not found") {
			hint = "addresses of this kind need that program"
		}
		return nil, fmt.Errorf("connecting to BuildKit at %s: %w: %s", r.Addr, plain(err), hint)
	}
	info.Address = r.Addr
	return &Conn{Client: c, Info: info, close: c.Close}, nil
}

// connect makes a connection and asks who is there.
func (r Remote) connect(ctx context.Context, opts []client.ClientOpt) (*client.Client, Info, error) {
	c, err := client.New(ctx, r.Addr, opts...)
	if err != nil {
		return nil, Info{}, err
	}
	info, err := describe(ctx, c)
	if err != nil {
		c.Close()
		return nil, Info{}, err
	}
	return c, info, nil
}

// parseAddr checks an address as far as that is possible without using it.
func parseAddr(addr string) (*url.URL, error) {
	const known = "unix://, tcp://, ssh://, docker-container://, podman-container:// and kube-pod://"
	if addr == "" {
		return nil, errors.New("BuildKit address is empty")
	}
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		hint := "tcp://" + addr
		if strings.Contains(addr, "/") {
			hint = "unix://" + addr
		}
		return nil, fmt.Errorf("BuildKit address %q has no scheme: did you mean %s?", addr, hint)
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("BuildKit address %q is malformed: %w", addr, errors.Unwrap(err))
	}
	switch scheme {
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("BuildKit address %q needs an absolute path: write unix:///path/to/buildkitd.sock", addr)
		}
	case "tcp":
		if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
			return nil, fmt.Errorf("BuildKit address %q needs a host and a port: write tcp://host:1234", addr)
		}
		if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("BuildKit address %q has more than a host and a port: write tcp://%s", addr, u.Host)
		}
	case "ssh", "docker-container", "podman-container", "kube-pod":
		if _, err := connhelper.GetConnectionHelper(addr); err != nil {
			return nil, fmt.Errorf("BuildKit address %q is malformed: %w", addr, err)
		}
		if rest == "" || u.Host == "" {
			return nil, fmt.Errorf("BuildKit address %q names nothing to connect to: write %s://name", addr, scheme)
		}
	default:
		return nil, fmt.Errorf("BuildKit address %q has the unknown scheme %s: known are %s", addr, scheme, known)
	}
	return u, nil
}

// options returns what BuildKit's client has to know besides the address.
func (r Remote) options(u *url.URL) ([]client.ClientOpt, error) {
	if r.tls() && u.Scheme != "tcp" {
		return nil, fmt.Errorf("TLS is for tcp:// addresses and BuildKit's is %s: leave out the certificates", r.Addr)
	}
	if (r.Cert == "") != (r.Key == "") {
		return nil, errors.New("a client certificate and its key belong together: give both or neither")
	}
	var opts []client.ClientOpt
	if u.Scheme == "unix" {
		opts = append(opts, client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialUnix(ctx, u.Path)
		}))
	}
	if r.tls() {
		name := r.ServerName
		if name == "" {
			name = u.Hostname()
		}
		if r.CA != "" {
			opts = append(opts, client.WithServerConfig(name, r.CA))
		} else {
			opts = append(opts, client.WithServerConfigSystem(name))
		}
		if r.Cert != "" {
			opts = append(opts, client.WithCredentials(r.Cert, r.Key))
		}
	}
	return opts, nil
}

// describe asks a BuildKit about itself.
func describe(ctx context.Context, c *client.Client) (Info, error) {
	info, err := hello(ctx, c, "")
	switch {
	case err == nil:
		return info, nil // one of ours
	case errors.Is(err, errStranger): // the workers say the rest
	case grpcerrors.Code(err) != codes.Unimplemented: // before BuildKit 0.11
		return Info{}, err
	}
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return Info{}, err
	}
	if len(workers) == 0 {
		return Info{}, errors.New("it has no worker")
	}
	info.Snapshotter = workers[0].Labels[label.Snapshotter]
	return info, nil
}

// plainError is an error under a text fit for users.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// plain takes the reason out of gRPC's description of a failed connection,
// which has the form: connection error: desc = "transport: ...: reason".
func plain(err error) error {
	_, quoted, ok := strings.Cut(err.Error(), "connection error: desc = ")
	if !ok {
		return err
	}
	text, unquoteErr := strconv.Unquote(quoted)
	if unquoteErr != nil {
		return err
	}
	for _, prefix := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return &plainError{text: text, err: err}
}
