package engine

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// That a branch moves between our look and the daemon's is said as such; a commit that a build file
// names and that is another is a mistake of the build file.
func TestMovedHint(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Skipf("git: %v: %s", err, out)
		}
	}
	j := &job{run: &run{}}
	commit, err := j.run.git.Commit(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("a", 40)
	for want, has := range map[string]bool{commit: true, other: false} {
		hint := j.movedHint(errors.New("expected checksum to match " + want + ", got " + strings.Repeat("b", 40)))
		if (hint == "\nthe reference has moved while it was built: build again") != has {
			t.Errorf("%s: got %q", want, hint)
		}
	}
}
