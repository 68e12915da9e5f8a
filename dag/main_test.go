package dag_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
)

// The examples build on one embedded daemon, which TestExamples starts.
var (
	e          *engine.Engine
	scratchDir string
)

func TestMain(m *testing.M) {
	if engine.ReexecDaemon() {
		return
	}
	os.Exit(m.Run())
}

// TestExamples runs the examples that need a daemon: with an expected output of their
// own they could not be skipped where nothing can be built.
func TestExamples(t *testing.T) {
	needDaemon(t)
	scratchDir = t.TempDir()
	var err error
	e, err = engine.Open(context.Background(), engine.Config{NoDaemon: true, StateDir: t.TempDir(), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	printed := expectations(t)
	for name, run := range map[string]func(){
		"ExampleNew": ExampleNew, "ExampleStage": ExampleStage, "ExampleCopy": ExampleCopy, "ExampleRun": ExampleRun,
		"ExampleEnv": ExampleEnv, "ExampleShell": ExampleShell, "ExampleLocalTree": ExampleLocalTree, "ExampleBuild": ExampleBuild,
		"ExampleLLB": ExampleLLB, "ExampleHTTP": ExampleHTTP, "ExampleConfigure": ExampleConfigure, "ExampleStage_Pos": ExampleStage_Pos,
	} {
		t.Run(name, func(t *testing.T) {
			want := printed[name]
			delete(printed, name)
			if got := strings.TrimSpace(stdout(t, run)); want == "" || got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	for name := range printed {
		t.Errorf("%s is not run", name)
	}
}

// needDaemon skips where nothing can be built; CI must be able to.
func needDaemon(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("runc")
	if _, berr := os.Stat("/bin/busybox"); os.Getuid() == 0 && err == nil && berr == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, runc and busybox-static: run scripts/install-deps")
	}
	t.Skip("needs root, runc and busybox-static: run scripts/install-deps as root")
}

// expectations reads what the examples say that they print.
func expectations(t *testing.T) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join("example_test.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "Example") {
			continue
		}
		i := slices.IndexFunc(f.Comments, func(c *ast.CommentGroup) bool {
			return c.Pos() > fn.Body.Pos() && c.End() < fn.Body.End() && strings.HasPrefix(c.Text(), "Prints:")
		})
		if i >= 0 {
			out[fn.Name.Name] = strings.TrimSpace(strings.TrimPrefix(f.Comments[i].Text(), "Prints:"))
		}
	}
	return out
}

func stdout(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = was }()
	f()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
