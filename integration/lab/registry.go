package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// RegistryConfig configures StartRegistry. The zero value is an open registry, plain http, on a
// free loopback port, that keeps everything in memory.
type RegistryConfig struct {
	Addr     string // listen address; "" is a free port of 127.0.0.1
	BlobDir  string // folder for pushed blobs; "" keeps them in memory. Manifests are always in memory
	User     string // with Password: what HTTP basic authentication has to give; "" lets everyone in
	Password string
	TLS      bool // serve https with a certificate of its own, see Registry.CA
}

// Registry is an OCI registry in this process. It holds what is pushed to it for as long as it
// runs, and remembers which requests came in. It is safe for concurrent use.
type Registry struct {
	server *httptest.Server
	blobs  *blobStore
	config RegistryConfig

	mu       sync.Mutex
	requests []Request
}

// Request is one request that a Registry was sent.
type Request struct {
	Method string
	Path   string // as in /v2/library/busybox/manifests/latest
	Status int    // of the answer
}

// StartRegistry starts a registry; Close ends it.
func StartRegistry(c RegistryConfig) (*Registry, error) {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("starting a registry: %w", err)
	}
	r := &Registry{config: c, blobs: &blobStore{dir: c.BlobDir, blobs: map[v1.Hash]blob{}}}
	handler := registry.New(
		registry.WithBlobHandler(r.blobs),
		registry.WithReferrersSupport(true),
		registry.Logger(log.New(io.Discard, "", 0)),
	)
	r.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: r.record(r.authenticate(handler))}}
	if c.TLS {
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	return r, nil
}

// Addr is the registry's host:port, the first part of the references of its images.
func (r *Registry) Addr() string { return r.server.Listener.Addr().String() }

// CA is the PEM certificate that clients of a TLS registry have to trust; nil without TLS.
func (r *Registry) CA() []byte {
	if !r.config.TLS {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// Requests lists the requests answered so far or since the last ResetRequests, in the order of the
// answers.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// ResetRequests empties the list of requests.
func (r *Registry) ResetRequests() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Close stops the registry and forgets what it holds; blobs in a BlobDir stay. It cuts connections
// that are in use: a client that still pulls gets an error.
func (r *Registry) Close() error {
	r.server.CloseClientConnections()
	r.server.Close()
	return nil
}

func (r *Registry) authenticate(next http.Handler) http.Handler {
	if r.config.User == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, ok := req.BasicAuth()
		if !ok || user != r.config.User || password != r.config.Password {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (r *Registry) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.requests = append(r.requests, Request{Method: req.Method, Path: req.URL.Path, Status: sw.status})
		}()
		next.ServeHTTP(sw, req)
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// blobStore holds blobs for the registry: pushed ones in memory or in dir, and the lab's own layers
// where they lie in the cache.
type blobStore struct {
	dir string

	mu    sync.RWMutex
	blobs map[v1.Hash]blob
}

// blob is a blob in memory, or in a file if path is set.
type blob struct {
	path string
	data []byte
	size int64
}

var (
	_ registry.BlobStatHandler   = (*blobStore)(nil)
	_ registry.BlobPutHandler    = (*blobStore)(nil)
	_ registry.BlobDeleteHandler = (*blobStore)(nil)
)

// link serves the file as a blob. The file has to hold what the hash says and to stay.
func (s *blobStore) link(h v1.Hash, path string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h] = blob{path: path, size: size}
}

// Stat implements registry.BlobStatHandler.
func (s *blobStore) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.blobs[h]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return b.size, nil
}

// Get implements registry.BlobHandler.
func (s *blobStore) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.blobs[h]
	if !ok {
		return nil, registry.ErrNotFound
	}
	if b.path != "" {
		return os.Open(b.path)
	}
	return newBytesCloser(b.data), nil
}

// Put implements registry.BlobPutHandler. The reader checks the digest itself.
func (s *blobStore) Put(_ context.Context, _ string, h v1.Hash, rc io.ReadCloser) error {
	defer rc.Close()
	b, err := s.receive(h, rc)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h] = b
	return nil
}

func (s *blobStore) receive(h v1.Hash, r io.Reader) (blob, error) {
	if s.dir == "" {
		data, err := io.ReadAll(r)
		return blob{data: data, size: int64(len(data))}, err
	}
	name := filepath.Join(s.dir, h.Algorithm, h.Hex)
	size, err := writeVerified(name, h, r)
	return blob{path: name, size: size}, err
}

// Delete implements registry.BlobDeleteHandler.
func (s *blobStore) Delete(_ context.Context, _ string, h v1.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.blobs[h]; !ok {
		return registry.ErrNotFound
	}
	delete(s.blobs, h)
	return nil
}

// writeVerified writes r to the file name, which appears only if it is complete and has the digest.
func writeVerified(name string, want v1.Hash, r io.Reader) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".receiving-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return 0, fmt.Errorf("receiving %s: the bytes have the digest sha256:%s", want, got)
	}
	if err := f.Chmod(0o644); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return n, os.Rename(f.Name(), name)
}
