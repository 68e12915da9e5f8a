// Package labtest gives tests the lab: one per test process, started when first asked for, and skips
// that turn into failures where a skip would hide a hole.
package labtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/zlayer-dev/zlayer/integration/lab"
)

// shared is the lab of this process. It ends with the process: it has nothing on disk but its cache.
var shared struct {
	sync.Mutex
	lab *lab.Lab
}

// Start gives the lab that all tests of this process share. What a test pushes to it should have a
// name of its own (t.Name() is a good part of one), because nobody cleans up. Without a busybox on
// the machine the test is skipped, in CI it fails.
//
// ZLAYER_TEST_REGISTRY names a registry that images without a recipe in the lab are copied from.
func Start(t testing.TB) *lab.Lab {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.lab == nil {
		l, err := lab.Start(context.Background(), lab.Config{Upstream: os.Getenv("ZLAYER_TEST_REGISTRY"), Logf: logf})
		if err != nil {
			stop(t, err)
		}
		shared.lab = l
	}
	return shared.lab
}

// Require gives the shared lab with the images in it, making those that are not there yet. Where the
// machine cannot make one, the test is skipped with the reason; in CI it fails.
func Require(t testing.TB, images ...string) *lab.Lab {
	t.Helper()
	l := Start(t)
	if err := l.Ensure(t.Context(), images...); err != nil {
		stop(t, err)
	}
	return l
}

// RequireDebian is Require of debian:bookworm-slim.
func RequireDebian(t testing.TB) *lab.Lab {
	t.Helper()
	return Require(t, "debian:bookworm-slim")
}

// InCI tells whether a test that cannot run must fail instead of being skipped: CI=true or
// ZLAYER_INTEGRATION=1 says that the machine is meant to have everything.
func InCI() bool {
	return os.Getenv("CI") == "true" || os.Getenv("ZLAYER_INTEGRATION") == "1"
}

// stop ends the test: a skip if the machine lacks something and may, else a failure.
func stop(t testing.TB, err error) {
	t.Helper()
	var u *lab.UnavailableError
	if errors.As(err, &u) && !InCI() {
		t.Skip(err)
	}
	t.Fatal(err)
}

// logf says what takes so long: go test shows it for a failing or verbose run.
func logf(format string, args ...any) {
	_, _ = os.Stderr.WriteString("lab: " + fmt.Sprintf(format, args...) + "\n")
}
