package lab

import (
	"bytes"
	"context"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// RemoteOptions are what go-containerregistry needs to talk to this registry: its credentials, its
// certificate, and a transport that ignores proxy settings.
func (r *Registry) RemoteOptions(ctx context.Context) []remote.Option {
	o := []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.server.Client().Transport)}
	if r.config.User != "" {
		o = append(o, remote.WithAuth(&authn.Basic{Username: r.config.User, Password: r.config.Password}))
	}
	return o
}

// bytesCloser reads bytes in memory. It is an io.ReaderAt, too, which the registry needs for ranges.
type bytesCloser struct{ *bytes.Reader }

func newBytesCloser(b []byte) io.ReadCloser { return bytesCloser{bytes.NewReader(b)} }

// Close does nothing.
func (bytesCloser) Close() error { return nil }
