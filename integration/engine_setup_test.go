package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// openEngine gives an engine on the daemon that the package shares, with an image store of its own.
func openEngine(t testing.TB) *engine.Engine {
	t.Helper()
	buildkit(t)
	return openConfig(t, engine.Config{StateDir: fixture.config.StateDir, DaemonConfig: fixture.config.ConfigFile})
}

// openFreshEngine gives an engine with a BuildKit of its own that has never built anything.
func openFreshEngine(t testing.TB) *engine.Engine {
	t.Helper()
	l := labtest.Start(t)
	buildkit(t) // so that what the machine lacks is found out in one place
	config := filepath.Join(t.TempDir(), "buildkitd.toml")
	if err := os.WriteFile(config, []byte(l.BuildkitdTOML()), 0o600); err != nil {
		t.Fatal(err)
	}
	return openConfig(t, engine.Config{StateDir: t.TempDir(), DaemonConfig: config, NoDaemon: true})
}

func openConfig(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.StoreDir = t.TempDir()
	e, err := engine.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	})
	return e
}

// files is a directory or the files of an image: path to content. A path that ends in a slash is a
// directory; of a link the content is "-> target".
type files map[string]string

// dir writes the files into a directory of their own.
func (f files) dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	f.write(t, dir)
	return dir
}

func (f files) write(t testing.TB, dir string) {
	t.Helper()
	for name, text := range f {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch target, link := strings.CutPrefix(text, "-> "); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case link:
			err = os.Symlink(target, p)
		default:
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tar packs the files in the order of their names.
func (f files) tar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: fileTime, Typeflag: tar.TypeReg, Size: int64(len(f[name]))}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// readFiles reads a tar archive of a file system.
func readFiles(t testing.TB, r io.Reader) files {
	t.Helper()
	f := files{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return f
		}
		if err != nil {
			t.Fatalf("reading the archive: %v", err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("reading %s of the archive: %v", h.Name, err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			f[strings.TrimSuffix(h.Name, "/")+"/"] = ""
		case tar.TypeSymlink:
			f[h.Name] = "-> " + h.Linkname
		default:
			f[h.Name] = string(data)
		}
	}
}

// buffer is a writer of an output.
type buffer struct {
	bytes.Buffer
	closed bool
}

// Close implements io.Closer.
func (b *buffer) Close() error { b.closed = true; return nil }

// buildFiles builds the request and gives the files of the result.
func buildFiles(t testing.TB, e *engine.Engine, req engine.Request) files {
	t.Helper()
	var out buffer
	req.Outputs = []engine.Output{{Type: engine.OutputTar, Writer: &out}}
	build(t, e, req)
	return readFiles(t, &out)
}

// build builds the request, which must go well.
func build(t testing.TB, e *engine.Engine, req engine.Request) *engine.Result {
	t.Helper()
	res, err := e.Build(t.Context(), req)
	if err != nil {
		t.Fatalf("building: %v", err)
	}
	return res
}

// cacheOnly is the output of builds that are made for their course.
var cacheOnly = []engine.Output{{Type: engine.OutputCacheOnly}}

// buildFails builds the request, which must fail, and gives the error, whose text must be fit for
// a user.
func buildFails(t testing.TB, e *engine.Engine, req engine.Request) error {
	t.Helper()
	if req.Outputs == nil && !req.Push && !req.Load {
		req.Outputs = cacheOnly
	}
	_, err := e.Build(t.Context(), req)
	if err == nil {
		t.Fatal("built, want a failure")
	}
	checkText(t, err)
	return err
}

// transport are words about how an error came here, which are of no use to anybody.
var transport = regexp.MustCompile(`rpc error|failed to solve|failed to run Build function|failed to compute|failed to load cache|of ref |code = |desc = |graph\.|solver\.`)

// checkText fails the test if the error is not written for users: what is wrong in lower case,
// without the way it came, and first of all the place if it is in a build file.
func checkText(t testing.TB, err error) {
	t.Helper()
	for _, c := range solver.Causes(err) {
		checkPlace(t, c, c.Pos)
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		checkPlace(t, err, pe.Pos)
	}
	if m := transport.FindString(err.Error()); m != "" {
		t.Errorf("the error tells of %q: %v", m, err)
	}
	message := err.Error()
	if pe != nil {
		message = pe.Err.Error()
	}
	if c := solver.Causes(err); len(c) > 0 {
		message = c[0].Err.Error()
	}
	if unicode.IsUpper([]rune(message)[0]) {
		t.Errorf("the error begins in upper case: %v", err)
	}
}

func checkPlace(t testing.TB, err error, pos graph.Pos) {
	t.Helper()
	if pos.File == "" || pos.Line == 0 || !strings.HasPrefix(err.Error(), pos.String()+": ") {
		t.Errorf("the error does not begin with its place %q: %v", pos, err)
	}
}

// mustSay fails the test if the error does not hold the text.
func mustSay(t testing.TB, err error, text string) {
	t.Helper()
	if !strings.Contains(err.Error(), text) {
		t.Errorf("got error %q, want one with %q", err, text)
	}
}

// mustBeInput is mustSay for mistakes in the request.
func mustBeInput(t testing.TB, err error, text string) {
	t.Helper()
	mustSay(t, err, text)
	var in *engine.InputError
	if !errors.As(err, &in) {
		t.Errorf("got %T %q, want an InputError", err, err)
	}
}

// same compares files, or other maps.
func same[M ~map[K]V, K, V comparable](t testing.TB, what string, got, want M) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// recorder keeps the course of a build.
type recorder struct {
	mu     sync.Mutex
	events []solver.Event
}

// sink is what a request takes.
func (r *recorder) sink(ev solver.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
}

// output is what the steps printed.
func (r *recorder) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, ev := range r.events {
		if ev.Kind == solver.Output {
			b.Write(ev.Log.Data)
		}
	}
	return b.String()
}

// ends is how each stage ended.
func (r *recorder) ends() map[string]solver.EventKind {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := map[string]solver.EventKind{}
	for _, ev := range r.events {
		switch ev.Kind {
		case solver.StageDone, solver.StageCached, solver.StageFailed, solver.StageSkipped:
			ends[ev.Stage.Name] = ev.Kind
		}
	}
	return ends
}

// inside is the program of testdata/programs/inside, compiled once.
var inside struct {
	once sync.Once
	data []byte
	err  error
}

// insideProgram puts the program into a directory as the file inside.
func insideProgram(t testing.TB, dir string) {
	t.Helper()
	inside.once.Do(func() {
		out := filepath.Join(t.TempDir(), "inside")
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./testdata/programs/inside")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if text, err := cmd.CombinedOutput(); err != nil {
			inside.err = fmt.Errorf("compiling: %w\n%s", err, text)
			return
		}
		inside.data, inside.err = os.ReadFile(out)
	})
	if inside.err != nil {
		unavailable(t, "%v", inside.err)
	}
	if err := os.WriteFile(filepath.Join(dir, "inside"), inside.data, 0o755); err != nil {
		t.Fatal(err)
	}
}
