package engine

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
)

// TestFetchWhatOthersBuilt: a machine that has only the registry gets the image that
// another one has built and pushed, and starts no daemon.
func TestFetchWhatOthersBuilt(t *testing.T) {
	srv := httptest.NewServer(registry.New())
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	memo := "registry=" + host + "/memo"
	req := Request{Context: dir, Tags: []string{host + "/app:1"}, Outputs: []Output{{Type: OutputStore}}, Push: true}
	colleague := engineWith(t, memo, t.TempDir())
	first, err := colleague.Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}

	e := engineWith(t, memo, t.TempDir())
	req.Outputs = []Output{{Type: OutputStore}}
	res, err := e.Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if res.Changed || !res.Restored || res.Digest != first.Digest {
		t.Errorf("changed %v, restored %v, digest %s, want %s", res.Changed, res.Restored, res.Digest, first.Digest)
	}
	if _, err := os.Stat(filepath.Join(e.cfg.StateDir, "main")); err == nil {
		t.Error("a daemon was started")
	}
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), req.Tags[0]); err != nil {
		t.Error(err)
	}

	// An archive is made of the image that is there, and then left alone.
	archive := filepath.Join(t.TempDir(), "app.tar")
	req.Outputs, req.Push = []Output{{Type: OutputOCI, Dest: archive}}, false
	for _, restored := range []bool{true, false} {
		res, err := e.Build(t.Context(), req)
		if err != nil || res.Changed || res.Restored != restored || res.Digest != first.Digest {
			t.Fatalf("archive: changed %v, restored %v, digest %s, %v", res.Changed, res.Restored, res.Digest, err)
		}
	}
	if err := os.WriteFile(archive, []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res, err := e.Build(t.Context(), req); err != nil || res.Changed || !res.Restored {
		t.Errorf("an archive that was edited: changed %v, restored %v, %v", res.Changed, res.Restored, err)
	}
	// Files are made of an image that only the registry has.
	theirs, ours := filepath.Join(t.TempDir(), "theirs.tar"), filepath.Join(t.TempDir(), "ours.tar")
	files := Request{Context: dir, Tags: []string{host + "/files:1"}, Labels: map[string]string{"files": "1"}, Push: true, Outputs: []Output{{Type: OutputTar, Dest: theirs}}}
	if _, err := colleague.Build(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	files.Tags, files.Push, files.Outputs[0].Dest = nil, false, ours
	if res, err := e.Build(t.Context(), files); err != nil || res.Changed || !res.Restored {
		t.Fatalf("files: %+v, %v", res, err)
	}
	if d := cmp.Diff(outputText(t, theirs, false), outputText(t, ours, false)); d != "" {
		t.Errorf("files (-theirs +ours):\n%s", d)
	}
	if _, err := os.Stat(filepath.Join(e.cfg.StateDir, "main")); err == nil {
		t.Error("a daemon was started")
	}
}
