//go:build linux

package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/util/db/boltutil"
	bolt "go.etcd.io/bbolt"
)

// TestUnsynced follows the mark and the databases while clients come and go.
func TestUnsynced(t *testing.T) {
	s := slot{state: t.TempDir(), name: mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	d, err := boltutil.Open(filepath.Join(s.root(), "a.db"), 0o600, &bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	u := newUnsynced(s, d, "not a database")
	u.delay = time.Hour // expire is called by hand
	check := func(when string, off bool) {
		t.Helper()
		noSync := false
		if err := d.Update(func(tx *bolt.Tx) error { noSync = tx.DB().NoSync; return nil }); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(s.unsynced())
		if marked := err == nil; noSync != off || marked != off {
			t.Errorf("%s: not syncing is %v and marked %v, want both %v", when, noSync, marked, off)
		}
	}
	check("before anybody came", false)
	u.begin()
	check("with a client", true)
	u.begin()
	u.end()
	u.expire()
	check("with a client left", true)
	u.end()
	check("as the last has gone", true)
	u.expire()
	check("after a while", false)
	u.begin()
	check("with a client again", true)
	u.close()
	check("closed", false)
	u.begin()
	check("a client of a closed one", false)
}

// TestUnsyncedCannotMark keeps syncing where the mark cannot be written.
func TestUnsyncedCannotMark(t *testing.T) {
	s := slot{state: t.TempDir(), name: mainSlot}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.unsynced(), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := boltutil.Open(filepath.Join(s.root(), "a.db"), 0o600, &bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	u := newUnsynced(s, d)
	u.begin()
	if err := d.View(func(tx *bolt.Tx) error {
		if tx.DB().NoSync {
			return errors.New("the database does not sync, and there is no mark")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestDiscardUnsynced(t *testing.T) {
	for _, c := range []struct {
		name, mark string
		kept       bool
	}{{"no mark", "", true}, {"this run of the machine", bootID(), true}, {"an earlier run", "0-0", false}} {
		t.Run(c.name, func(t *testing.T) {
			s := slot{state: t.TempDir(), name: mainSlot}
			if err := s.create(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(s.root(), "runc-overlayfs")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.mark != "" {
				if err := writeSynced(s.unsynced(), c.mark); err != nil {
					t.Fatal(err)
				}
			}
			warning, err := discardUnsynced(s)
			if err != nil {
				t.Fatal(err)
			}
			_, err = os.Stat(file)
			if kept := err == nil; kept != c.kept || (warning == "") != c.kept {
				t.Errorf("kept is %v and the warning %q, want kept %v", kept, warning, c.kept)
			}
			if fi, err := os.Stat(s.root()); err != nil || !fi.IsDir() {
				t.Errorf("the directory of the state: %v", err)
			}
		})
	}
}

// TestMachineStopped has a daemon find the mark of a machine that stopped: it begins
// from nothing, says so, and builds.
func TestMachineStopped(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	if err := build(t.Context(), c, runState("echo first")); err != nil {
		t.Fatal(err)
	}
	mark := slot{state: cfg.StateDir, name: mainSlot}.unsynced()
	if text, err := os.ReadFile(mark); err != nil || string(text) != bootID() {
		t.Fatalf("the mark of a daemon in use is %q, %v, want the id of the machine's run", text, err)
	}
	if err := syscall.Kill(c.Info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := writeSynced(mark, "another run"); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Info.Warnings) != 1 || !strings.Contains(c.Info.Warnings[0], "the machine stopped") {
		t.Errorf("warnings are %q, want one that the machine stopped", c.Info.Warnings)
	}
	if err := build(t.Context(), c, runState("echo second")); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := Stop(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a daemon that was stopped left its mark: %v", err)
	}
}

// TestUnsyncedListener counts connections, each once however often it is closed.
func TestUnsyncedListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	u := &unsynced{}
	counted := u.listener(l)
	defer counted.Close()
	there, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := counted.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if u.users != 1 {
		t.Errorf("with a connection there are %d users", u.users)
	}
	here.Close()
	here.Close()
	if u.users != 0 {
		t.Errorf("without connections there are %d users", u.users)
	}
}
