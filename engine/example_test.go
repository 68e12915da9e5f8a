package engine_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// A program builds an image on the embedded BuildKit, in its own process, and
// finds it in the store.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	files := map[string]string{
		"Dockerfile": "FROM scratch\nCOPY hello.txt /\nLABEL greeting=hello\n",
		"hello.txt":  "hello\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			panic(err)
		}
	}

	e, err := engine.Open(ctx, engine.Config{
		NoDaemon: true,
		StateDir: filepath.Join(dir, "state"),
		StoreDir: filepath.Join(dir, "store"),
	})
	if err != nil {
		panic(err)
	}
	defer e.Close()
	res, err := e.Build(ctx, engine.Request{
		Context: dir,
		Tags:    []string{"example/hello:1"},
		Events: func(ev solver.Event) {
			if ev.Kind == solver.StageDone {
				fmt.Println("built stage", ev.Stage.Name)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(res.Tags[0])
	images, err := e.Store()
	if err != nil {
		panic(err)
	}
	desc, err := images.Resolve(ctx, "example/hello:1")
	if err != nil {
		panic(err)
	}
	fmt.Println("stored as", desc.Digest)
}

// An example with an expected output could not be skipped where nothing can be
// built, so it is run from here.
func TestExample(t *testing.T) {
	engine.NeedDaemon(t)
	out := captureStdout(t, Example)
	want := "built stage stage-0\ndocker.io/example/hello:1\nstored as sha256:"
	if !strings.HasPrefix(out, want) {
		t.Errorf("got %q, want %q...", out, want)
	}
}

func captureStdout(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	f()
	os.Stdout = stdout
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
