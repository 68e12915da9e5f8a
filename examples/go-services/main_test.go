package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
)

func TestMain(m *testing.M) {
	if engine.ReexecDaemon() {
		return
	}
	os.Exit(m.Run())
}

// TestServices builds a few services from Go and from the Dockerfiles that say the same:
// neither has anything left to do after the other.
func TestServices(t *testing.T) {
	_, err := exec.LookPath("runc")
	if _, berr := os.Stat("/bin/busybox"); os.Getuid() != 0 || err != nil || berr != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, runc and busybox-static: run scripts/install-deps")
		}
		t.Skip("needs root, runc and busybox-static: run scripts/install-deps as root")
	}
	o := options{count: 6, dir: t.TempDir(), quiet: true}
	sums := func(want string) {
		t.Helper()
		var out bytes.Buffer
		if err := run(t.Context(), o, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("files=%v: got %q, want %q", o.files, out.String(), want)
		}
	}
	sums("6 built, 0 unchanged, 0 failed")
	sums("0 built, 6 unchanged, 0 failed")
	o.files = true
	sums("0 built, 6 unchanged, 0 failed")
	if err := os.WriteFile(filepath.Join(o.dir, "services", "service-003", "greeting"), []byte("changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sums("1 built, 5 unchanged, 0 failed")
	o.files = false
	sums("0 built, 6 unchanged, 0 failed")
}
