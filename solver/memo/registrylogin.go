package memo

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// options give what every request needs: a transport that is logged in for the scope,
// and no second tries. Go-containerregistry would log in for each call, under the
// context of that call, and wait for seconds between tries.
func (s *Registry) options(ctx context.Context, scope string) ([]remote.Option, error) {
	t, err := s.login(ctx, scope)
	if err != nil {
		return nil, err
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(t),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}, nil
}

// login gives a transport that is logged in. All who ask at the same time share one
// login, which none of them can cancel; one that fails is tried again by the next.
func (s *Registry) login(ctx context.Context, scope string) (http.RoundTripper, error) {
	s.mu.Lock()
	t := s.clients[scope]
	s.mu.Unlock()
	if t != nil {
		return t, nil
	}
	shared := s.logins.DoChan(scope, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout())
		defer cancel()
		return s.logInNow(ctx, scope)
	})
	select {
	case <-ctx.Done():
		return nil, s.trouble("reaching", ctx.Err())
	case got := <-shared:
		if got.Err != nil {
			return nil, s.trouble("reaching", got.Err)
		}
		return got.Val.(http.RoundTripper), nil
	}
}

func (s *Registry) logInNow(ctx context.Context, scope string) (http.RoundTripper, error) {
	auth, err := authn.Resolve(ctx, s.keychain(), s.Repo)
	if err != nil {
		return nil, err
	}
	t, err := transport.NewWithContext(ctx, s.Repo.Registry, auth, s.base(), []string{s.Repo.Scope(scope)})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = map[string]http.RoundTripper{}
	}
	s.clients[scope] = t
	return t, nil
}

func (s *Registry) keychain() authn.Keychain {
	if s.Keychain != nil {
		return s.Keychain
	}
	return authn.DefaultKeychain
}

// base gives the transport below the login, the same one for all scopes.
func (s *Registry) base() http.RoundTripper {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transport == nil {
		t := s.Transport
		if t == nil {
			t = remote.DefaultTransport
		}
		if h, ok := t.(*http.Transport); ok && s.Insecure {
			h = h.Clone()
			if h.TLSClientConfig == nil {
				h.TLSClientConfig = &tls.Config{}
			}
			h.TLSClientConfig.InsecureSkipVerify = true
			t = h
		}
		s.transport = bounded{t}
	}
	return s.transport
}

// bounded is a transport that ends bodies which no answer to us can have.
type bounded struct{ http.RoundTripper }

// maxBody is a manifest with the largest record in it, or the largest parts.
const maxBody = MaxTotal + 1<<20

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if resp != nil && resp.Body != nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer is too large")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
