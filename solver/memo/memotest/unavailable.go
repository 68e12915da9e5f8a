package memotest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/solver/memo"
)

// Unavailable runs the tests of stores on other machines that cannot be used. open
// gives a store whose backend is at an address, host:port, and speaks HTTP; it must
// give up a Get after timeout.
func Unavailable(t *testing.T, open func(t *testing.T, addr string, timeout time.Duration) memo.Store) {
	const patient, brief = 30 * time.Second, 100 * time.Millisecond
	t.Run("ClosedPort", func(t *testing.T) {
		trouble(t, open(t, closedPort(t), patient))
	})
	for name, status := range map[string]int{
		"Unauthorized": http.StatusUnauthorized,
		"Forbidden":    http.StatusForbidden,
		"TooMany":      http.StatusTooManyRequests,
		"Broken":       http.StatusInternalServerError,
		"Unavailable":  http.StatusServiceUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			addr, asked := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			trouble(t, open(t, addr, patient))
			if n := asked.Load(); n > 8 {
				t.Errorf("%d requests for a Get and a Put", n)
			}
		})
	}
	t.Run("HangsUp", func(t *testing.T) {
		addr, _ := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		trouble(t, open(t, addr, patient))
	})
	t.Run("Hanging", func(t *testing.T) { hanging(t, brief, open) })
	t.Run("HangingHalfway", func(t *testing.T) {
		addr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("zlayer-memo 1 "))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		if _, err := open(t, addr, brief).Get(t.Context(), Key(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: %v, want a deadline", err)
		}
	})
}

// hanging: a store that does not answer costs its timeout once, not once a record.
func hanging(t *testing.T, brief time.Duration, open func(*testing.T, string, time.Duration) memo.Store) {
	addr, asked := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := open(t, addr, brief).Get(t.Context(), Key(1))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: %v, want a deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(brief, cancel)
	if _, err := open(t, addr, time.Hour).Get(ctx, Key(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Get: %v, want context.Canceled", err)
	}

	var warnings []error
	s := memo.Tolerant(open(t, addr, brief), func(err error) { warnings = append(warnings, err) })
	if _, err := s.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("tolerant Get: %v, want ErrNotFound", err)
	}
	before := asked.Load()
	for n := range 100 {
		if _, err := s.Get(t.Context(), Key(n)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("tolerant Get: %v, want ErrNotFound", err)
		}
		if err := s.Put(t.Context(), Record(n)); err != nil {
			t.Errorf("tolerant Put: %v", err)
		}
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("asked %d times more", n)
	}
	if len(warnings) != 1 {
		t.Errorf("warnings %v, want one", warnings)
	}
}

// trouble expects that s is in trouble, which is not the same as having nothing, and
// that Tolerant makes it the same.
func trouble(t *testing.T, s memo.Store) {
	t.Helper()
	if r, err := s.Get(t.Context(), Key(1)); err == nil || errors.Is(err, memo.ErrNotFound) {
		t.Errorf("Get: %v, %v, want trouble", r, err)
	}
	if err := s.Put(t.Context(), Record(1)); err == nil {
		t.Error("Put: no error, want trouble")
	}
	var warnings []error
	tolerant := memo.Tolerant(s, func(err error) { warnings = append(warnings, err) })
	if _, err := tolerant.Get(t.Context(), Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("tolerant Get: %v, want ErrNotFound", err)
	}
	if err := tolerant.Put(t.Context(), Record(1)); err != nil {
		t.Errorf("tolerant Put: %v", err)
	}
	if len(warnings) != 1 {
		t.Errorf("warnings %v, want one", warnings)
	}
}

// serve answers with h, and counts what is asked.
func serve(t *testing.T, h http.HandlerFunc) (addr string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h(w, r)
	}))
	t.Cleanup(func() {
		ts.CloseClientConnections() // a handler may wait for its client to leave
		ts.Close()
	})
	return ts.Listener.Addr().String(), asked
}

// closedPort gives an address that nobody listens at.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}
