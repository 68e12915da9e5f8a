package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// testRegistry records requests and lets a test answer some of them itself.
type testRegistry struct {
	*httptest.Server
	host string

	mu       sync.Mutex
	requests []string
	answer   func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

func newRegistry(t *testing.T, secure bool) *testRegistry {
	t.Helper()
	reg := &testRegistry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.mu.Lock()
		reg.requests = append(reg.requests, r.Method+" "+r.URL.RequestURI())
		answer := reg.answer
		reg.mu.Unlock()
		if answer == nil || !answer(w, r) {
			inner.ServeHTTP(w, r)
		}
	})
	reg.Server = httptest.NewUnstartedServer(h)
	reg.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		reg.StartTLS()
	} else {
		reg.Start()
	}
	t.Cleanup(reg.Close)
	reg.host = reg.Listener.Addr().String()
	return reg
}

func (r *testRegistry) set(answer func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.requests = answer, nil
}

// log counts the requests that contain all of the parts.
func (r *testRegistry) log(parts ...string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, req := range r.requests {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(req, p) }) {
			n++
		}
	}
	return n
}

// via makes every host name lead to the registry.
func (r *testRegistry) via() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, r.host)
		},
		TLSClientConfig: &tls.Config{},
	}
}

func status(code int, errorCode string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, errorCode)
		return true
	}
}

var noKeys = PushOptions{Keychain: authn.NewMultiKeychain()}

func TestPush(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	multi := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, multi, reg.host+"/me/multi:1", "multi")
	o := noKeys
	var calls [][2]int64
	o.Progress = func(done, total int64) { calls = append(calls, [2]int64{done, total}) }
	pushed, err := s.Push(ctx, reg.host+"/me/multi:1", o)
	if err != nil {
		t.Fatal(err)
	}
	if pushed.Reference != reg.host+"/me/multi:1" || pushed.Descriptor.Digest != multi.Digest {
		t.Errorf("got %+v", pushed)
	}
	size := must[[]Summary](t)(s.Images(ctx, ListOptions{}))[0].Size
	if last := calls[len(calls)-1]; last != [2]int64{size, size} {
		t.Errorf("progress ends with %v, want %d of it", last, size)
	}
	idx := must[v1.ImageIndex](t)(remote.Index(must[name.Reference](t)(name.ParseReference(reg.host + "/me/multi:1"))))
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	if h := must[v1.Hash](t)(idx.Digest()); h.String() != multi.Digest.String() {
		t.Errorf("the registry has %s, want %s", h, multi.Digest)
	}

	reg.set(nil)
	if _, err := s.Push(ctx, multi.Digest.String(), PushOptions{Target: reg.host + "/me/multi:1", Keychain: noKeys.Keychain}); err != nil {
		t.Error(err)
	}
	if n := reg.log("POST") + reg.log("PUT") + reg.log("PATCH"); n != 0 {
		t.Errorf("pushing again wrote %d times: %v", n, reg.requests)
	}
}

func TestPushMounts(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	base := randomImage(t, 500, 2, "linux/amd64")
	extra := must[[]v1.Layer](t)(randomImage(t, 500, 1, "linux/amd64").Layers())
	app := must[v1.Image](t)(mutate.AppendLayers(base, extra...))
	importAs(t, s, putImage(t, s, base), reg.host+"/base:1")
	importAs(t, s, putImage(t, s, app), reg.host+"/app:1")
	if _, err := s.Push(ctx, reg.host+"/base:1", noKeys); err != nil {
		t.Fatal(err)
	}
	// The test registry shows blobs in all repositories, and mounts none.
	reg.set(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/app/blobs/"):
			w.WriteHeader(http.StatusNotFound)
			return true
		case r.URL.Query().Get("mount") != "":
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	if _, err := s.Push(ctx, reg.host+"/app:1", noKeys); err != nil {
		t.Fatal(err)
	}
	if n := reg.log("POST", "mount=", "from=base"); n != 2 {
		t.Errorf("%d blobs mounted, want 2: %v", n, reg.requests)
	}
	if n := reg.log("PATCH"); n != 2 { // a layer and the config
		t.Errorf("%d blobs sent, want 2: %v", n, reg.requests)
	}
}

// Some token servers give nothing at all to who asks for one repository too many.
func TestPushMountsRefused(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	img := randomImage(t, 500, 2, "linux/amd64")
	importAs(t, s, putImage(t, s, img), reg.host+"/private:1", reg.host+"/app:1")
	reg.set(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token" && strings.Contains(r.URL.RawQuery, "private"):
			return status(403, "DENIED")(w, r)
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"t"}`)
			return true
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, reg.host))
			return status(401, "UNAUTHORIZED")(w, r)
		}
		return false
	})
	if _, err := s.Push(ctx, reg.host+"/app:1", noKeys); err != nil {
		t.Error(err)
	}
	if n := reg.log("/token", "private"); n == 0 {
		t.Error("mounting was not tried")
	}
}

func TestPushErrors(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	secure := newRegistry(t, true)
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, d, "registry.example/team/app:1", reg.host+"/team/app:1", "127.0.0.1:1/app:1", "app:1")
	secure.set(status(401, "UNAUTHORIZED"))
	hub := secure.via()
	hub.TLSClientConfig.InsecureSkipVerify = true
	nowhere := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "registry.example", IsNotFound: true}}
	}}
	var report strings.Builder
	for _, tt := range []struct {
		name   string
		ref    string
		answer func(w http.ResponseWriter, r *http.Request) bool
		rt     *http.Transport
	}{
		{"401", reg.host + "/team/app:1", status(401, "UNAUTHORIZED"), nil},
		{"403", reg.host + "/team/app:1", status(403, "DENIED"), nil},
		{"404", reg.host + "/team/app:1", status(404, "NAME_UNKNOWN"), nil},
		{"400", reg.host + "/team/app:1", status(400, "NAME_INVALID"), nil},
		{"413", reg.host + "/team/app:1", status(413, "SIZE_INVALID"), nil},
		{"401 of Docker Hub", "app:1", nil, hub},
		{"HTTP for HTTPS", "registry.example/team/app:1", nil, reg.via()},
		{"certificate", "registry.example/team/app:1", nil, secure.via()},
		{"unknown host", "registry.example/team/app:1", nil, nowhere},
		{"nobody there", "127.0.0.1:1/app:1", nil, nil},
	} {
		o := noKeys
		if tt.rt != nil {
			o.Transport = tt.rt
		}
		inner := tt.answer
		reg.set(func(w http.ResponseWriter, r *http.Request) bool {
			return inner != nil && (r.URL.Path != "/v2/" || tt.rt != nil) && inner(w, r)
		})
		_, err := s.Push(ctx, tt.ref, o)
		if err == nil {
			t.Errorf("%s: pushed", tt.name)
			continue
		}
		if n := reg.log("HEAD", "manifests"); n > 1 {
			t.Errorf("%s: tried %d times", tt.name, n)
		}
		text, _, _ := strings.Cut(err.Error(), ": Get ")
		text, _, _ = strings.Cut(text, ": HEAD ")
		text, _, _ = strings.Cut(text, ": POST ")
		fmt.Fprintf(&report, "%s\n\t%s\n", tt.name, strings.ReplaceAll(text, reg.host, "<registry>"))
	}
	golden(t, "push_errors", report.String())
}

func TestPushInsecure(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	importAs(t, s, putImage(t, s, randomImage(t, 100, 1, "linux/amd64")), "registry.example/team/app:1")
	for _, secure := range []bool{false, true} {
		reg := newRegistry(t, secure)
		o := noKeys
		o.Transport, o.Insecure = reg.via(), true
		if _, err := s.Push(ctx, "registry.example/team/app:1", o); err != nil {
			t.Errorf("TLS %v: %v", secure, err)
		}
	}
}

func TestPushCredentials(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	importAs(t, s, putImage(t, s, randomImage(t, 100, 1, "linux/amd64")), reg.host+"/app:1")
	reg.set(func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == "me" && p == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		return status(401, "UNAUTHORIZED")(w, r)
	})
	if _, err := s.Push(ctx, reg.host+"/app:1", noKeys); err == nil || !strings.Contains(err.Error(), "docker login "+reg.host) {
		t.Errorf("without credentials: got %v", err)
	}
	if _, err := s.Push(ctx, reg.host+"/app:1", PushOptions{Keychain: oneKey{}}); err != nil {
		t.Error(err)
	}
}

type oneKey struct{}

func (oneKey) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "me", Password: "secret"}, nil
}

func TestPushRetries(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	importAs(t, s, putImage(t, s, randomImage(t, 100, 1, "linux/amd64")), reg.host+"/app:1")
	var once sync.Once
	reg.set(func(w http.ResponseWriter, r *http.Request) (answered bool) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "manifests") {
			once.Do(func() { answered = true; w.WriteHeader(http.StatusServiceUnavailable) })
		}
		return answered
	})
	if _, err := s.Push(ctx, reg.host+"/app:1", noKeys); err != nil {
		t.Error(err)
	}
	if n := reg.log("PUT", "manifests"); n != 2 {
		t.Errorf("%d tries, want 2", n)
	}
}

func TestPushDamaged(t *testing.T) {
	s, ctx, reg := openStore(t), context.Background(), newRegistry(t, false)
	d := putImage(t, s, randomImage(t, 3000, 2, "linux/amd64"))
	importAs(t, s, d, reg.host+"/app:1")
	var m ocispecs.Manifest
	if err := s.readJSON(d, maxManifestBytes, &m); err != nil {
		t.Fatal(err)
	}
	damage(t, s, m.Layers[1].Digest)
	_, err := s.Push(ctx, reg.host+"/app:1", noKeys)
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
	if n := reg.log("PUT", "manifests"); n != 0 {
		t.Error("the manifest of a damaged image was pushed")
	}
}

func TestPushCancelled(t *testing.T) {
	s, reg := openStore(t), newRegistry(t, false)
	importAs(t, s, putImage(t, s, randomImage(t, 100, 1, "linux/amd64")), reg.host+"/app:1")
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("interrupted")
	reg.set(func(http.ResponseWriter, *http.Request) bool { cancel(why); return false })
	if _, err := s.Push(ctx, reg.host+"/app:1", noKeys); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
