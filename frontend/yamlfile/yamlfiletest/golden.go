package yamlfiletest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Folders lists the folders of testdata that have a file of the name; fewer than least fail the
// test.
func Folders(t testing.TB, name string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*", name))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < least {
		t.Fatalf("found only %d cases", len(files))
	}
	for i, f := range files {
		files[i] = filepath.Dir(f)
	}
	return files
}

// Read gives the text of a case's file, and reads options.json of its folder into options if there
// is one.
func Read(t testing.TB, file string, options any) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dt, err := os.ReadFile(filepath.Join(filepath.Dir(file), "options.json"))
	if errors.Is(err, os.ErrNotExist) {
		return text
	}
	if err == nil {
		err = json.Unmarshal(dt, options)
	}
	if err != nil {
		t.Fatalf("reading the options of %s: %v", file, err)
	}
	return text
}

// Golden compares with a file, which is absent where nothing is expected; or writes it.
func Golden(t testing.TB, write bool, file, got string) {
	t.Helper()
	if write {
		var err error
		if got == "" {
			err = os.RemoveAll(file)
		} else {
			err = os.WriteFile(file, []byte(got), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(file), diff)
	}
}
