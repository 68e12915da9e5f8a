//go:build linux

package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// noLeaks fails the test if anything of the daemons of a state directory is
// left: processes, mounts, containers, temporary slots.
func noLeaks(t *testing.T, state string) {
	t.Helper()
	found := leaks(t, state)
	// A daemon gives up its lock a moment before its process has ended.
	for deadline := time.Now().Add(5 * time.Second); len(found) > 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		found = leaks(t, state)
	}
	for _, l := range found {
		t.Errorf("left behind: %s", l)
	}
}

func leaks(t *testing.T, state string) []string {
	t.Helper()
	state += "/"
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, state) {
			found = append(found, "mount "+line)
		}
	}
	for _, pattern := range []string{"/run/runc/*/state.json", "/run/user/*/runc/*/state.json", state + "*/run/runc/*/state.json"} {
		for _, path := range glob(t, pattern) {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(state)) {
				found = append(found, "runc state "+path)
			}
		}
	}
	for _, path := range glob(t, state+"*/buildkit/runc-*/executor/*/config.json") {
		found = append(found, "bundle "+path)
	}
	for _, path := range glob(t, state+"*/tmp/*") {
		found = append(found, "temporary file "+path)
	}
	for _, path := range glob(t, state+besidePrefix+"*") {
		found = append(found, "slot "+path)
	}
	for _, path := range glob(t, state+privatePrefix+"*") {
		found = append(found, "slot "+path)
	}
	return append(found, processes(t, state)...)
}

// processes returns those whose environment, command line or open files
// mention the state directory, other than the test's own.
func processes(t *testing.T, state string) []string {
	t.Helper()
	state = strings.TrimSuffix(state, "/") + "/"
	var found []string
	for _, dir := range glob(t, "/proc/[0-9]*") {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() {
			continue
		}
		text, _ := os.ReadFile(dir + "/environ")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		root, _ := os.Readlink(dir + "/root")
		mounts, _ := os.ReadFile(dir + "/mountinfo")
		// The mounts of a container tell where its root is from, but those of a
		// process in the same namespace as ours do not make it a leak.
		own, _ := os.Readlink("/proc/self/ns/mnt")
		ns, _ := os.Readlink(dir + "/ns/mnt")
		if bytes.Contains(text, []byte(state)) || strings.Contains(root, state) || (ns != own && bytes.Contains(mounts, []byte(state))) {
			found = append(found, "process "+strconv.Itoa(pid)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
