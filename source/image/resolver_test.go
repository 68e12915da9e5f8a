package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// server is a registry that counts requests and can be out of reach.
type server struct {
	*httptest.Server
	host        string
	requests    atomic.Int64
	connections atomic.Int64
	down        atomic.Bool
	noHead      atomic.Bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	h := registry.New()
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		switch {
		case s.down.Load():
			http.Error(w, "down", http.StatusServiceUnavailable)
		case s.noHead.Load() && r.Method == http.MethodHead:
			http.Error(w, "no", http.StatusMethodNotAllowed)
		default:
			h.ServeHTTP(w, r)
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

// put stores an image for one platform and returns its reference and digest.
func (s *server) put(t *testing.T, ref string) (string, digest.Digest) {
	t.Helper()
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	full := s.host + "/" + ref
	tag, err := name.NewTag(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return full, digest.Digest(d.String())
}

func TestResolveAsksOnceAndRemembers(t *testing.T) {
	s := newServer(t)
	ref, want := s.put(t, "base:1")
	dir := t.TempDir()
	r := &Resolver{Dir: dir}
	s.requests.Store(0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			res, err := r.Resolve(t.Context(), ref, nil)
			if err != nil || res.Digest != want || len(res.Config) == 0 {
				t.Errorf("got %+v, %v", res, err)
			}
		})
	}
	wg.Wait()
	// ping and HEAD, ping and manifest, ping and config
	if n := s.requests.Load(); n > 6 {
		t.Errorf("20 look-ups took %d requests", n)
	}

	s.requests.Store(0)
	again := &Resolver{Dir: dir}
	if res, err := again.Resolve(t.Context(), ref, nil); err != nil || res.Digest != want || len(res.Config) == 0 {
		t.Errorf("got %+v, %v", res, err)
	}
	if n := s.requests.Load(); n > 2 {
		t.Errorf("a name whose image is known took %d requests, want a ping and a HEAD", n)
	}

	s.requests.Store(0)
	if _, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref+"@"+want.String(), nil); err != nil {
		t.Error(err)
	}
	if n := s.requests.Load(); n != 0 {
		t.Errorf("a digest that is known took %d requests", n)
	}
}

func TestResolveWithoutRegistry(t *testing.T) {
	s := newServer(t)
	ref, want := s.put(t, "base:1")
	dir := t.TempDir()
	if _, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	s.down.Store(true)
	s.requests.Store(0)
	known := &Resolver{Dir: dir, Mode: Known}
	if res, err := known.Resolve(t.Context(), ref, nil); err != nil || res.Digest != want {
		t.Errorf("got %v, %v", res.Digest, err)
	}
	arm := &ocispecs.Platform{OS: "linux", Architecture: "arm64"}
	if _, err := known.Resolve(t.Context(), ref, arm); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v for another platform, want ErrUnknown", err)
	}
	if _, err := known.Resolve(t.Context(), s.host+"/other", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v for another name, want ErrUnknown", err)
	}
	if n := s.requests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	if _, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); err == nil {
		t.Error("a registry that is down was not missed")
	}
	pinned := &Resolver{Dir: dir, Pin: func(string, ocispecs.Platform) (digest.Digest, error) { return want, nil }}
	if res, err := pinned.Resolve(t.Context(), ref, nil); err != nil || res.Digest != want {
		t.Errorf("got %v, %v for a locked name", res.Digest, err)
	}
}

func TestResolveFollowsTags(t *testing.T) {
	s := newServer(t)
	ref, first := s.put(t, "base:1")
	dir := t.TempDir()
	if res, _ := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); res.Digest != first {
		t.Fatalf("got %v", res.Digest)
	}
	_, second := s.put(t, "base:1")
	s.noHead.Store(true)
	if res, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); err != nil || res.Digest != second {
		t.Errorf("got %v, %v, want %v", res.Digest, err, second)
	}
}

func TestResolvePlatforms(t *testing.T) {
	s := newServer(t)
	idx := v1.ImageIndex(empty.Index)
	want := map[string]string{}
	for _, p := range []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "unknown", Architecture: "unknown"}} {
		img, err := random.Image(10, 1)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _ := img.ConfigFile()
		cfg = cfg.DeepCopy()
		cfg.OS, cfg.Architecture = p.OS, p.Architecture
		if img, err = mutate.ConfigFile(img, cfg); err != nil {
			t.Fatal(err)
		}
		raw, _ := img.RawConfigFile()
		want[p.Architecture] = string(raw)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	ref, err := name.ParseReference(s.host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, idx); err != nil {
		t.Fatal(err)
	}
	d, _ := idx.Digest()
	r := &Resolver{Dir: t.TempDir()}
	for _, arch := range []string{"amd64", "arm64"} {
		res, err := r.Resolve(t.Context(), ref.Name(), &ocispecs.Platform{OS: "linux", Architecture: arch})
		if err != nil || string(res.Config) != want[arch] || res.Digest.String() != d.String() {
			t.Errorf("%s: got %s, %s, %v", arch, res.Digest, res.Config, err)
		}
	}
	if _, err := r.Resolve(t.Context(), ref.Name(), &ocispecs.Platform{OS: "linux", Architecture: "s390x"}); err == nil || !strings.Contains(err.Error(), "not there for linux/s390x") {
		t.Errorf("got %v", err)
	}
}

func TestResolveMirrors(t *testing.T) {
	mirror, home := newServer(t), newServer(t)
	_, want := mirror.put(t, "lib/base:1")
	_, other := home.put(t, "lib/other:1")
	r := &Resolver{Dir: t.TempDir(), Registries: map[string]resolverconfig.RegistryConfig{home.host: {Mirrors: []string{mirror.host}}}}
	if res, err := r.Resolve(t.Context(), home.host+"/lib/base:1", nil); err != nil || res.Digest != want {
		t.Errorf("got %v, %v from the mirror", res.Digest, err)
	}
	if res, err := r.Resolve(t.Context(), home.host+"/lib/other:1", nil); err != nil || res.Digest != other {
		t.Errorf("got %v, %v of what the mirror has not", res.Digest, err)
	}
}

func TestHasAndRetag(t *testing.T) {
	s := newServer(t)
	ref, d := s.put(t, "app:1")
	s.put(t, "app:2")
	r := &Resolver{Dir: t.TempDir()}
	if got, err := r.Head(t.Context(), ref); err != nil || got != d {
		t.Errorf("head: got %v, %v", got, err)
	}
	if _, err := r.Head(t.Context(), s.host+"/nothing:1"); !errdefs.IsNotFound(err) {
		t.Errorf("of a name that is not there: got %v", err)
	}
	if !r.Has(t.Context(), s.host+"/app:2", d) || r.Has(t.Context(), s.host+"/other:2", d) {
		t.Error("Has does not say what the registry has")
	}
	if err := r.Retag(t.Context(), s.host+"/app:2", d); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Head(t.Context(), s.host+"/app:2"); err != nil || got != d {
		t.Errorf("after tagging: got %v, %v", got, err)
	}
}

func TestOneCallerGivesUp(t *testing.T) {
	s := newServer(t)
	ref, want := s.put(t, "base:1")
	r := &Resolver{Dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, ref, nil); err == nil {
		// The answer may have been there already; that is no mistake.
		t.Log("resolved before the caller gave up")
	}
	if res, err := r.Resolve(t.Context(), ref, nil); err != nil || res.Digest != want {
		t.Errorf("got %v, %v for the second caller", res.Digest, err)
	}
}

func TestBadRecordsAreIgnored(t *testing.T) {
	s := newServer(t)
	ref, want := s.put(t, "base:1")
	dir := t.TempDir()
	r := &Resolver{Dir: dir}
	if _, err := r.Resolve(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	damageAll(t, dir)
	if res, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref, nil); err != nil || res.Digest != want || len(res.Config) == 0 {
		t.Errorf("got %+v, %v", res, err)
	}
}

// A registry that is known to have no TLS is not asked with it first, repository by repository.
func TestPlainHTTPAtOnce(t *testing.T) {
	s := newServer(t)
	var refs []string
	for i := range 3 {
		ref, _ := s.put(t, fmt.Sprintf("plain%d:1", i))
		refs = append(refs, ref)
	}
	s.connections.Store(0)
	yes := true
	r := &Resolver{Registries: map[string]resolverconfig.RegistryConfig{s.host: {PlainHTTP: &yes}}}
	for _, ref := range refs {
		if _, err := r.Head(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("three look-ups took %d connections, want one that is kept", n)
	}
}
