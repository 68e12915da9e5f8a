// Package integration tests zlayer end to end: against a real BuildKit and a real registry.
//
// The package shares one embedded daemon and one lab registry (see lab) between its tests. It needs
// root or user namespaces, runc and git; where they are missing the tests are skipped, unless
// CI=true or ZLAYER_INTEGRATION=1 says that the machine is meant to have them.
package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/log"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"

	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// fixture is what all tests of the process share.
var fixture struct {
	config daemon.Config // of the daemon, with a state directory that ends with the process
	once   sync.Once
	conn   *daemon.Conn
	err    error
}

func TestMain(m *testing.M) {
	if daemon.Reexec() {
		return
	}
	if isEmulator() {
		emulatorMain()
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if err := log.SetLevel("error"); err != nil { // BuildKit and containerd log a lot
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "zlayer-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	fixture.config = daemon.Config{
		StateDir:    filepath.Join(dir, "state"),
		ConfigFile:  filepath.Join(dir, "buildkitd.toml"),
		IdleTimeout: time.Minute, // for the case that this process ends in a panic
	}
	defer stopDaemon()
	return m.Run()
}

// stopDaemon ends the daemon, if a test needed it. Its log is shown where that fails, for nobody
// will see it otherwise.
func stopDaemon() {
	if fixture.conn == nil {
		return
	}
	fixture.conn.Close()
	if err := daemon.Stop(context.Background(), fixture.config); err != nil {
		fmt.Fprintf(os.Stderr, "stopping the daemon: %v\n", err)
		if data, err := os.ReadFile(fixture.conn.Info.LogPath); err == nil {
			os.Stderr.Write(data)
		}
	}
}

// unavailable skips the test because the machine lacks something, or fails it where the machine is
// meant to have everything.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	if labtest.InCI() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format+" (ZLAYER_INTEGRATION=1 makes this a failure)", args...)
}

// buildkit gives a client of the daemon that the package shares, which pulls from the lab.
func buildkit(t testing.TB) *client.Client {
	t.Helper()
	l := labtest.Start(t)
	fixture.once.Do(func() {
		fixture.conn, fixture.err = startDaemon(context.Background(), l.BuildkitdTOML())
	})
	if fixture.err != nil {
		unavailable(t, "starting the embedded BuildKit: %v", fixture.err)
	}
	return fixture.conn.Client
}

// startDaemon starts a background daemon of this process's own, which pulls from the lab.
func startDaemon(ctx context.Context, registries string) (*daemon.Conn, error) {
	if err := os.WriteFile(fixture.config.ConfigFile, []byte(registries), 0o600); err != nil {
		return nil, err
	}
	return daemon.Connect(ctx, fixture.config)
}

// layoutOf copies an image of the lab into an OCI layout and gives its directory and digest.
func layoutOf(t *testing.T, image string) (dir, digest string) {
	t.Helper()
	l := labtest.Require(t, image)
	ref, err := name.ParseReference(l.Ref(image))
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(ref, l.RemoteOptions(t.Context())...)
	if err != nil {
		t.Fatal(err)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	return dir, desc.Digest.String()
}
