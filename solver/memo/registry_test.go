package memo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// lab is a registry that notes what it is asked and lets in whom it is told to.
type lab struct {
	*httptest.Server
	auth string // "", "basic" or "token"

	mu    sync.Mutex
	asked []string
}

const user, password = "anna", "s3cret"

func newLab(t *testing.T, auth string) *lab {
	l := &lab{auth: auth}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, r.Method+" "+shortPath(r.URL.Path))
		l.mu.Unlock()
		if l.admit(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// shortPath cuts what differs from record to record.
func shortPath(path string) string {
	if i := strings.LastIndexByte(path, '/'); strings.HasPrefix(path[i+1:], "zlayer-memo-") {
		path = path[:i+1] + "TAG"
	}
	if i := strings.Index(path, "/blobs/"); i >= 0 {
		path = path[:i+len("/blobs/")] + "…"
	}
	return path
}

func (l *lab) admit(w http.ResponseWriter, r *http.Request) bool {
	given := r.Header.Get("Authorization")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	switch {
	case l.auth == "":
		return true
	case r.URL.Path == "/token":
		if given == basic {
			fmt.Fprintf(w, `{"token":"for %s","expires_in":60}`, r.URL.Query().Get("scope"))
		} else {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return false
	case l.auth == "basic" && given == basic:
		return true
	case l.auth == "token" && allows(given, r):
		return true
	case l.auth == "basic":
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
	default:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="lab"`, l.URL))
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// allows tells whether a token is for what a request does.
func allows(token string, r *http.Request) bool {
	actions, ok := strings.CutPrefix(token, "Bearer for repository:team/app:")
	action := "push"
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		action = "pull"
	case http.MethodDelete:
		action = "delete"
	}
	return ok && slices.Contains(strings.Split(actions, ","), action)
}

// since gives what was asked since the last call.
func (l *lab) since() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked
	l.asked = nil
	return asked
}

// keys is a keychain with one user of one registry.
type keys struct{ user, password string }

func (k keys) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

func openRegistry(t *testing.T, addr string, timeout time.Duration) *memo.Registry {
	t.Helper()
	s, err := memo.NewRegistry(memo.RegistryConfig{Repository: addr + "/team/app", Timeout: timeout}, keys{user, password})
	must(t, err)
	s.Transport = &http.Transport{}
	t.Cleanup(s.Transport.(*http.Transport).CloseIdleConnections)
	return s
}

func (l *lab) open(t *testing.T) *memo.Registry {
	return openRegistry(t, l.Listener.Addr().String(), 30*time.Second)
}

func TestRegistry(t *testing.T) {
	for _, auth := range []string{"", "basic", "token"} {
		t.Run("auth="+auth, func(t *testing.T) {
			memotest.Conformance(t, func(t *testing.T) memo.Store { return newLab(t, auth).open(t) })
		})
	}
}

func TestRegistryUnavailable(t *testing.T) {
	memotest.Unavailable(t, func(t *testing.T, addr string, timeout time.Duration) memo.Store {
		return openRegistry(t, addr, timeout)
	})
}

// TestRegistryRequests holds the promise of one request a record.
func TestRegistryRequests(t *testing.T) {
	const get, put = "GET /v2/team/app/manifests/TAG", "PUT /v2/team/app/manifests/TAG"
	for _, c := range []struct {
		auth  string
		login []string
	}{
		{"", []string{"GET /v2/"}},
		{"basic", []string{"GET /v2/"}},
		{"token", []string{"GET /v2/", "GET /token"}},
	} {
		t.Run("auth="+c.auth, func(t *testing.T) {
			l, ctx := newLab(t, c.auth), t.Context()
			expect := func(doing string, want ...string) {
				t.Helper()
				if diff := cmp.Diff(want, l.since()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", doing, diff)
				}
			}
			s := l.open(t)
			for n := range 2 {
				must(t, s.Put(ctx, memotest.WithParts(memotest.Record(n), 20_000)))
			}
			expect("first two Puts", append(slices.Clone(c.login),
				"HEAD /v2/team/app/blobs/…", "POST /v2/team/app/blobs/…", "PATCH /v2/team/app/blobs/…", "PUT /v2/team/app/blobs/…",
				put, put)...)
			must(t, s.Put(ctx, memotest.WithParts(memotest.Record(2), 100_000)))
			expect("Put with large parts",
				"HEAD /v2/team/app/blobs/…", "POST /v2/team/app/blobs/…", "PATCH /v2/team/app/blobs/…", "PUT /v2/team/app/blobs/…", put)

			s = l.open(t)
			_, err := s.Get(ctx, memotest.Key(0))
			must(t, err)
			expect("first Get", append(slices.Clone(c.login), get)...)
			large, err := s.Get(ctx, memotest.Key(2))
			must(t, err)
			expect("next Get", get)
			if _, err := s.Get(ctx, memotest.Key(9)); !errors.Is(err, memo.ErrNotFound) {
				t.Errorf("absent: %v", err)
			}
			expect("Get of what is absent", get)
			_, err = s.ReadParts(ctx, large)
			must(t, err)
			expect("large parts", "GET /v2/team/app/blobs/…")
		})
	}
}

// TestRegistryLogsInOnce: a run's first look-ups come all at the same time.
func TestRegistryLogsInOnce(t *testing.T) {
	l := newLab(t, "token")
	s := l.open(t)
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			if _, err := s.Get(t.Context(), memotest.Key(n)); !errors.Is(err, memo.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	asked := l.since()
	if len(asked) != 52 {
		t.Errorf("%d requests for 50 records, want 52: %v", len(asked), asked)
	}
}

func TestRegistryWrongPassword(t *testing.T) {
	for _, auth := range []string{"basic", "token"} {
		s := newLab(t, auth).open(t)
		s.Keychain = keys{user, "wr0ng"}
		_, err := s.Get(t.Context(), memotest.Key(1))
		if err == nil || errors.Is(err, memo.ErrNotFound) || !strings.Contains(err.Error(), "log in") {
			t.Errorf("%s: %v, want one that says to log in", auth, err)
		}
		if err != nil && strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: the password is in %q", auth, err)
		}
	}
}

// TestRegistryBeside: records are artifacts that the repository's images do not mind,
// and what is no record is absent.
func TestRegistryBeside(t *testing.T) {
	ctx, l := t.Context(), newLab(t, "")
	s := l.open(t)
	must(t, remote.Write(s.Repo.Tag("latest"), empty.Image))
	must(t, s.Put(ctx, memotest.WithParts(memotest.Record(1), 100_000)))
	tags, err := remote.List(s.Repo)
	must(t, err)
	tag := "zlayer-memo-" + memotest.Key(1).Encoded()
	if diff := cmp.Diff([]string{"latest", tag}, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	d, err := remote.Get(s.Repo.Tag(tag))
	must(t, err)
	var m ocispecs.Manifest
	must(t, json.Unmarshal(d.Manifest, &m))
	if m.ArtifactType != "application/vnd.zlayer.memo.record.v1" || m.Config.MediaType != ocispecs.MediaTypeEmptyJSON || len(m.Layers) != 1 || m.SchemaVersion != 2 {
		t.Errorf("manifest %s", d.Manifest)
	}

	url := l.URL + "/v2/team/app/manifests/zlayer-memo-" + memotest.Key(2).Encoded()
	for name, manifest := range map[string]string{
		"no JSON":       `none`,
		"no record":     `{"schemaVersion":2}`,
		"no base64":     `{"annotations":{"dev.zlayer.memo.record":"%%"}}`,
		"damaged":       `{"annotations":{"dev.zlayer.memo.record":"AAAA"}}`,
		"wrong type":    `{"annotations":{"dev.zlayer.memo.record":[1]}}`,
		"other's":       string(d.Manifest),
		"cut in base64": strings.Replace(string(d.Manifest), `record":"`, `record":"ABCD`, 1),
	} {
		req, err := http.NewRequest(http.MethodPut, url, strings.NewReader(manifest))
		must(t, err)
		req.Header.Set("Content-Type", ocispecs.MediaTypeImageManifest)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %s", name, resp.Status)
		}
		if r, err := s.Get(ctx, memotest.Key(2)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("%s: %v, %v, want ErrNotFound", name, r, err)
		}
	}
}

// TestRegistryFlood: an answer without an end does not fill the memory.
func TestRegistryFlood(t *testing.T) {
	sent := 0
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		block := bytes.Repeat([]byte(" "), 1<<20)
		for sent = 0; sent < 1000; sent++ {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	s := openRegistry(t, ts.Listener.Addr().String(), time.Minute)
	if _, err := s.Get(t.Context(), memotest.Key(1)); err == nil || errors.Is(err, memo.ErrNotFound) {
		t.Errorf("got %v, want trouble", err)
	}
	ts.Close()
	if sent > 100 {
		t.Errorf("took %d MiB", sent)
	}
}

func TestRegistryDelete(t *testing.T) {
	ctx, l := t.Context(), newLab(t, "token")
	s := l.open(t)
	must(t, s.Put(ctx, memotest.Record(1)))
	must(t, s.Delete(ctx, memotest.Key(1)))
	if _, err := s.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("after Delete: %v", err)
	}
}
