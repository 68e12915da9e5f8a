package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func TestOpenMakesALayout(t *testing.T) {
	s := openStore(t)
	p, err := layout.FromPath(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	idx, err := p.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := idx.IndexManifest(); err != nil || len(m.Manifests) != 0 {
		t.Errorf("got %v, %v, want an empty index", m, err)
	}
	b, err := os.ReadFile(filepath.Join(s.Dir(), "oci-layout"))
	if want := `{"imageLayoutVersion":"1.0.0"}`; err != nil || string(b) != want {
		t.Errorf("oci-layout is %s, %v, want %s", b, err, want)
	}
	again, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestOpenRefuses(t *testing.T) {
	write := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		setup func(t *testing.T, dir string)
		want  string
	}{
		{"a directory with something else", write("notes.txt", "mine"), "holds notes.txt and is no OCI layout"},
		{"a layout without an index", write("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), "index.json is missing"},
		{"a layout of the future", write("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), `version "2.0.0"`},
		{"a layout file that is none", write("oci-layout", `{"imag`), "reading oci-layout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.setup(t, dir)
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Open(""); err == nil {
		t.Error("an empty directory name is accepted")
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	errs := make(chan error)
	for range 16 {
		go func() {
			s, err := Open(dir)
			if err == nil {
				s.Close()
			}
			errs <- err
		}()
	}
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	want := "/data/zlayer/store"
	if os.Geteuid() == 0 {
		want = "/var/lib/zlayer/store"
	}
	if got, err := DefaultDir(); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
