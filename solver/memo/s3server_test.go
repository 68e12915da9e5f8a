package memo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bucketServer speaks as much of S3's protocol as records need, in path style, with
// the errors that S3 gives. It has one bucket, "memo".
type bucketServer struct {
	*httptest.Server
	anonymous bool // expect no signature
	pageSize  int  // of listings

	mu      sync.Mutex
	objects map[string][]byte
	asked   []string
}

func newBucketServer(t *testing.T) *bucketServer {
	b := &bucketServer{objects: map[string][]byte{}, pageSize: 2}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

// ServeHTTP implements http.Handler.
func (b *bucketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.asked = append(b.asked, r.Method+" "+r.Header.Get("Range"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	sum := sha256.Sum256(body)
	switch signed := strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKID/"); {
	case signed == b.anonymous:
		fail(w, http.StatusForbidden, "AccessDenied")
	case signed && r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		fail(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
	case bucket != "memo":
		fail(w, http.StatusNotFound, "NoSuchBucket")
	case object == "" && r.Method == http.MethodGet && r.FormValue("list-type") == "2":
		b.list(w, r.FormValue("prefix"), r.FormValue("continuation-token"))
	case r.Method == http.MethodPut:
		b.objects[object] = body
	case r.Method == http.MethodDelete:
		delete(b.objects, object)
		w.WriteHeader(http.StatusNoContent)
	default:
		b.get(w, r, object)
	}
}

func (b *bucketServer) get(w http.ResponseWriter, r *http.Request, object string) {
	data, ok := b.objects[object]
	switch {
	case !ok:
		fail(w, http.StatusNotFound, "NoSuchKey")
	case r.Header.Get("Range") != "" && len(data) == 0:
		fail(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	default:
		http.ServeContent(w, r, "", time.Now(), bytes.NewReader(data))
	}
}

func (b *bucketServer) list(w http.ResponseWriter, prefix, after string) {
	type content struct {
		Key          string
		Size         int
		LastModified time.Time
	}
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}
	for _, name := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		if len(answer.Contents) == b.pageSize {
			answer.IsTruncated, answer.NextContinuationToken = true, answer.Contents[b.pageSize-1].Key
			break
		}
		answer.Contents = append(answer.Contents, content{name, len(b.objects[name]), time.Now().UTC()})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(answer)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

// since gives what was asked since the last call.
func (b *bucketServer) since() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = nil
	return asked
}

// edit changes all objects.
func (b *bucketServer) edit(change func([]byte) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, data := range b.objects {
		b.objects[name] = change(bytes.Clone(data))
	}
}
