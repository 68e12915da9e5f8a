package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// fileAge is a time that all files of a test have.
var fileAge = time.Unix(1_700_000_000, 0)

// setFile gives a file a text without changing its time. It is never empty, for somebody may read it
// meanwhile.
func setFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Truncate(int64(len(text))), f.Close(), os.Chtimes(path, fileAge, fileAge)); err != nil {
		t.Fatal(err)
	}
}

// onBothDaemons runs a test on the engine's own daemon and on one that it knows by an address only
// and that other clients use, too.
func onBothDaemons(t *testing.T, f func(t *testing.T, open func(t *testing.T) *engine.Engine)) {
	t.Run("own", func(t *testing.T) {
		f(t, func(t *testing.T) *engine.Engine { return openEngine(t) })
	})
	t.Run("foreign", func(t *testing.T) {
		buildkit(t)
		state := t.TempDir()
		f(t, func(t *testing.T) *engine.Engine {
			return openConfig(t, engine.Config{StateDir: state, Addr: fixture.conn.Info.Address})
		})
	})
}

// wantFile builds a directory whose build file copies the file f, and looks at what came.
func wantFile(t *testing.T, e *engine.Engine, req engine.Request, want string) {
	t.Helper()
	if got := buildFiles(t, e, req)["f"]; got != want {
		t.Errorf("the image has %q, want %q", got, want)
	}
}

func copyingDir(t *testing.T, text string) string {
	t.Helper()
	dir := files{"Dockerfile": "FROM scratch\nCOPY f /\n"}.dir(t)
	setFile(t, filepath.Join(dir, "f"), text)
	return dir
}

// TestSiblingDirectories: two directories of one name hold files of equal size and time. Clients that
// name a directory by its last element, as others do, get the wrong file on the same daemon.
func TestSiblingDirectories(t *testing.T) {
	c := buildkit(t)
	var dirs []string
	for _, text := range []string{"left", "righ"} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "service")
		files{"service/Dockerfile": "FROM scratch\nCOPY f /\n"}.write(t, parent)
		setFile(t, filepath.Join(dir, "f"), text)
		dirs = append(dirs, dir)
	}
	onBothDaemons(t, func(t *testing.T, open func(*testing.T) *engine.Engine) {
		e := open(t)
		wantFile(t, e, engine.Request{Context: dirs[0]}, "left")
		wantFile(t, e, engine.Request{Context: dirs[1]}, "righ")
		wantFile(t, e, engine.Request{Context: dirs[0], NoCache: true}, "left")
	})
	t.Run("others", func(t *testing.T) {
		var got []string
		for _, dir := range dirs {
			local, err := fsutil.NewFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			// docker buildx makes the key of the directory's base name and an id of its node.
			_, err = c.Solve(t.Context(), nil, client.SolveOpt{
				Frontend: "dockerfile.v0", SharedKey: "node:service",
				LocalMounts: map[string]fsutil.FS{"context": local, "dockerfile": local},
				Exports:     []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(out, "f"))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(text))
		}
		if slices.Equal(got, []string{"left", "righ"}) {
			t.Skip("a client that names directories by their last element gets this right now: the README need not say otherwise")
		}
		t.Logf("such a client gets %q", got)
	})
}

// TestEditsThatTimesDoNotShow edits files so that size and time stay, in the ways in which that
// happens.
func TestEditsThatTimesDoNotShow(t *testing.T) {
	onBothDaemons(t, func(t *testing.T, open func(*testing.T) *engine.Engine) {
		for name, req := range map[string]engine.Request{
			"memo": {}, "no cache": {NoCache: true}, "sum unknown": {BuildArgs: map[string]string{"X": "1"}},
		} {
			t.Run(name, func(t *testing.T) {
				e := open(t)
				req.Context = copyingDir(t, "one")
				wantFile(t, e, req, "one")
				setFile(t, filepath.Join(req.Context, "f"), "two")
				wantFile(t, e, req, "two")
				setFile(t, filepath.Join(req.Context, "f"), "one")
				wantFile(t, e, req, "one")
			})
		}
		t.Run("replaced file", func(t *testing.T) {
			e, req := open(t), engine.Request{Context: copyingDir(t, "one")}
			wantFile(t, e, req, "one")
			f := filepath.Join(req.Context, "f")
			setFile(t, f+".new", "two")
			if err := os.Rename(f+".new", f); err != nil {
				t.Fatal(err)
			}
			wantFile(t, e, req, "two")
		})
		t.Run("git", func(t *testing.T) {
			e, dir := open(t), copyingDir(t, "one")
			git := func(args ...string) {
				cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
				cmd.Env = gitEnv(t)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}
			git("init", "-q", "-b", "main")
			git("add", ".")
			git("commit", "-q", "-m", "one")
			git("checkout", "-q", "-b", "other")
			// With the old time git would not see that the file is another one.
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte("two"), 0o644); err != nil {
				t.Fatal(err)
			}
			git("commit", "-q", "-a", "-m", "two")
			for _, branch := range []string{"main", "other", "main"} {
				git("checkout", "-q", branch)
				// As tools do that make archives reproducible, and CI that restores times.
				if err := os.Chtimes(filepath.Join(dir, "f"), fileAge, fileAge); err != nil {
					t.Fatal(err)
				}
				wantFile(t, e, engine.Request{Context: dir}, map[string]string{"main": "one", "other": "two"}[branch])
			}
		})
		t.Run("nested and named", func(t *testing.T) {
			e := open(t)
			root := files{
				"ZImagefile":        "stages:\n  lib: {build: ./lib}\n  out:\n    base: scratch\n    steps:\n    - copy: f\n      from: lib\n      to: /\n    - copy: f\n      from: named\n      to: /named\n",
				"lib/Dockerfile":    "FROM scratch\nCOPY f /\n",
				"named/placeholder": "",
			}.dir(t)
			req := engine.Request{Context: root, Root: root, BuildContexts: map[string]string{"named": filepath.Join(root, "named")}}
			for _, text := range []string{"one", "two", "six"} {
				setFile(t, filepath.Join(root, "lib", "f"), text)
				setFile(t, filepath.Join(root, "named", "f"), "n"+text)
				got := buildFiles(t, e, req)
				if got["f"] != text || got["named"] != "n"+text {
					t.Errorf("the image has %q and %q, want %q and %q", got["f"], got["named"], text, "n"+text)
				}
			}
		})
	})
}

// TestLostIndex: what is known about directories is deleted while the daemon lives on with its copies.
func TestLostIndex(t *testing.T) {
	buildkit(t)
	state := t.TempDir()
	open := func() *engine.Engine {
		return openConfig(t, engine.Config{StateDir: state, Addr: fixture.conn.Info.Address})
	}
	req := engine.Request{Context: copyingDir(t, "one")}
	wantFile(t, open(), req, "one")
	if err := os.RemoveAll(filepath.Join(state, "trees")); err != nil {
		t.Fatal(err)
	}
	setFile(t, filepath.Join(req.Context, "f"), "two")
	wantFile(t, open(), req, "two")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	setFile(t, filepath.Join(req.Context, "f"), "six")
	wantFile(t, open(), req, "six")
}

// TestEditsDuringTheBuild: a file that changes while it is read may come in either form, but the next
// build must have what is there then, and nothing wrong may be remembered.
func TestEditsDuringTheBuild(t *testing.T) {
	e := openEngine(t)
	dir := copyingDir(t, "one")
	f := filepath.Join(dir, "f")
	for i := range 5 {
		var once sync.Once
		req := engine.Request{Context: dir, Events: func(ev solver.Event) {
			if ev.Kind == solver.StepStarted {
				once.Do(func() { setFile(t, f, []string{"two", "six"}[i%2]) })
			}
		}}
		if got := buildFiles(t, e, req)["f"]; got != "one" && got != "two" && got != "six" {
			t.Fatalf("the image has %q", got)
		}
		wantFile(t, e, engine.Request{Context: dir}, []string{"two", "six"}[i%2])
		setFile(t, f, "one")
		wantFile(t, e, engine.Request{Context: dir}, "one")
	}
}

// TestStaleWithForeignFrontend: of what a frontend in an image reads nothing is known beforehand.
func TestStaleWithForeignFrontend(t *testing.T) {
	e := openEngine(t)
	dir := files{"Dockerfile": "# syntax=" + foreignFrontend(t, e) + "\nFROM scratch\nCOPY f /\n"}.dir(t)
	for _, text := range []string{"one", "two", "one"} {
		setFile(t, filepath.Join(dir, "f"), text)
		wantFile(t, e, engine.Request{Context: dir}, text)
	}
}
