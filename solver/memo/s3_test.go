package memo_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// awsEnvironment is all that the SDK may look at.
func awsEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func openS3(t *testing.T, addr string, timeout time.Duration) *memo.S3 {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &memo.S3{
		Config: memo.S3Config{Bucket: "memo", Endpoint: "http://" + addr, Prefix: "team/a+b ü/", PathStyle: true, Timeout: timeout},
		HTTP:   &http.Client{Transport: transport},
	}
}

func (b *bucketServer) open(t *testing.T) *memo.S3 {
	return openS3(t, b.Listener.Addr().String(), 30*time.Second)
}

func TestS3(t *testing.T) {
	awsEnvironment(t)
	memotest.Conformance(t, func(t *testing.T) memo.Store { return newBucketServer(t).open(t) })
}

func TestS3Unavailable(t *testing.T) {
	awsEnvironment(t)
	memotest.Unavailable(t, func(t *testing.T, addr string, timeout time.Duration) memo.Store {
		return openS3(t, addr, timeout)
	})
}

// TestS3Requests: a look-up is one request, of little.
func TestS3Requests(t *testing.T) {
	awsEnvironment(t)
	ctx, b := t.Context(), newBucketServer(t)
	s := b.open(t)
	must(t, s.Put(ctx, memotest.WithParts(memotest.Record(1), 1<<20)))
	_, err := s.Get(ctx, memotest.Key(1))
	must(t, err)
	if _, err = s.Get(ctx, memotest.Key(2)); !errors.Is(err, memo.ErrNotFound) {
		t.Error(err)
	}
	large := memotest.Record(3)
	large.Metadata["big"] = strings.Repeat("x", 100_000)
	must(t, s.Put(ctx, large))
	_, err = s.Get(ctx, memotest.Key(3))
	must(t, err)
	want := []string{"PUT ", "GET bytes=0-65535", "GET bytes=0-65535", "PUT ", "GET bytes=0-65535", "GET bytes=0-101099"}
	got := b.since()
	if n := len(got) - 1; n < 0 || !strings.HasPrefix(got[n], "GET bytes=0-10") {
		t.Errorf("second request for a large record: %v", got)
	} else {
		want[len(want)-1] = got[n]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestS3Damage(t *testing.T) {
	awsEnvironment(t)
	ctx := t.Context()
	for name, change := range map[string]func([]byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"cut":           func(b []byte) []byte { return b[:len(b)-1] },
		"cut in JSON":   func(b []byte) []byte { return b[:200] },
		"longer":        func(b []byte) []byte { return append(b, 0) },
		"edited":        func(b []byte) []byte { b[150] ^= 1; return b },
		"foreign":       func([]byte) []byte { return []byte("<html>please log in</html>\n") },
		"foreign, huge": func([]byte) []byte { return make([]byte, 20<<20) },
	} {
		b := newBucketServer(t)
		s := b.open(t)
		must(t, s.Put(ctx, memotest.WithParts(memotest.Record(1), 1000)))
		b.edit(change)
		if r, err := s.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
			t.Errorf("%s: %v, %v, want ErrNotFound", name, r, err)
		}
		must(t, s.Put(ctx, memotest.Record(1)))
		if _, err := s.Get(ctx, memotest.Key(1)); err != nil {
			t.Errorf("%s: after a new Put: %v", name, err)
		}
	}
}

func TestS3LostParts(t *testing.T) {
	awsEnvironment(t)
	ctx, b := t.Context(), newBucketServer(t)
	s := b.open(t)
	must(t, s.Put(ctx, memotest.WithParts(memotest.Record(1), 1000)))
	b.edit(func(data []byte) []byte { data[len(data)-1] ^= 1; return data })
	r, err := s.Get(ctx, memotest.Key(1))
	must(t, err)
	if _, err := s.ReadParts(ctx, r); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("edited parts: %v, want ErrNotFound", err)
	}
}

func TestS3Configuration(t *testing.T) {
	awsEnvironment(t)
	ctx, b := t.Context(), newBucketServer(t)
	expectTrouble := func(what string, s *memo.S3, want string) {
		t.Helper()
		_, err := s.Get(ctx, memotest.Key(1))
		if err == nil || errors.Is(err, memo.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want trouble with %q", what, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the key is in %q", what, err)
		}
	}
	s := b.open(t)
	s.Config.Bucket = "other"
	expectTrouble("bucket that is not there", s, "NoSuchBucket")

	s = b.open(t)
	s.Config.Anonymous = true
	expectTrouble("no signature", s, "s3:ListBucket")
	b.anonymous = true
	if _, err := s.Get(ctx, memotest.Key(1)); !errors.Is(err, memo.ErrNotFound) {
		t.Errorf("no signature, where none is wanted: %v", err)
	}

	b.since()
	expectTrouble("no region", &memo.S3{Config: memo.S3Config{Bucket: "memo"}}, "region")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	expectTrouble("no credentials", b.open(t), "credentials")
	if asked := b.since(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}

	// Of what shares the bucket, nothing is a record.
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	b.anonymous = false
	for _, name := range []string{"team/a+b ü/v1/zz", "team/a+b ü/v1/zz/" + memotest.Key(1).Encoded(), "v1/x", "other"} {
		b.objects[name] = []byte("x")
	}
	s = b.open(t)
	must(t, s.Put(ctx, memotest.Record(1)))
	p, err := s.Prune(ctx, memo.Limits{All: true})
	if err != nil || p.Removed != 1 || len(b.objects) != 4 {
		t.Errorf("Prune: %+v, %v, left %d", p, err, len(b.objects))
	}
}
