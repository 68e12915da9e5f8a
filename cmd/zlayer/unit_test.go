package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/store"
)

func TestExitCode(t *testing.T) {
	stage := fakeStageError(1, "x")
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"success", nil, 0},
		{"stage", stage, 1},
		{"other", errors.New("x"), 1},
		{"usage", usage(errors.New("x")), 2},
		{"build file", fmt.Errorf("w: %w", &graph.PosError{Err: errors.New("x")}), 2},
		{"request", &engine.InputError{Err: errors.New("x")}, 2},
		{"check", errCheckFailed, 2},
		{"told", &toldError{usage(errors.New("x"))}, 2},
		{"interrupted", &interruptedError{stage}, 130},
		{"interrupted with a mistake", &interruptedError{usage(errors.New("x"))}, 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestBrokenPipe(t *testing.T) {
	pipe := fmt.Errorf("w: %w", &stdoutError{syscall.EPIPE})
	if !brokenPipe(pipe) || brokenPipe(&stdoutError{syscall.ENOSPC}) || brokenPipe(syscall.EPIPE) {
		t.Error("only a closed pipe behind standard output is one")
	}
}

// Who stops reading is told nothing, neither about a table nor about an archive.
func TestReaderGone(t *testing.T) {
	t.Setenv("ZLAYER_STORE_DIR", filepath.Join(t.TempDir(), "store"))
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for _, args := range [][]string{{"images"}, {"build", "--progress=rawjson", "-o", "-"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		var errs bytes.Buffer
		a := fakeApp()
		a.stdout, a.stderr = w, &errs
		if code := a.run(args); code != exitFailed {
			t.Errorf("%v: exit code %d", args, code)
		}
		if strings.Contains(errs.String(), "pipe") {
			t.Errorf("%v: says %q", args, errs.String())
		}
		w.Close()
	}
}

func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("through a link: got %q", got)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	failing := errors.New("disk full")
	if err := replaceFile(path, func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return failing
	}); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("after a failure: got %q", got)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, ".*")); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
	if err := writeFile("/dev/null", []byte("x")); err != nil {
		t.Errorf("a device: %v", err)
	}
}

func TestMetadataValue(t *testing.T) {
	for in, want := range map[string]string{
		"text":         `"text"`,
		"":             `""`,
		"eyJhIjoxfQ==": `{"a":1}`,
		"W3siYSI6MX1d": `[{"a":1}]`,
		"YWJj":         `"YWJj"`, // base64 of "abc", no JSON
		"MTIz":         `"MTIz"`, // base64 of 123: JSON, but no object
		"e25vfQ==":     `"e25vfQ=="`,
	} {
		var b bytes.Buffer
		a := &app{stdout: &b}
		if err := a.printJSON(metadataValue(in)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(b.String()), ""); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	res := &engine.Result{Changed: true, Digest: "sha256:1", Tags: []string{"docker.io/library/app:latest", "r.example/x:1"}}
	for _, c := range []struct {
		res  *engine.Result
		want string
	}{
		{res, "built app:latest r.example/x:1 sha256:1 in 1.5s"},
		{&engine.Result{Changed: true}, "built in 1.5s"},
		{&engine.Result{}, "unchanged in 1.5s"},
		{&engine.Result{Digest: "sha256:1"}, "unchanged sha256:1 in 1.5s"},
		{&engine.Result{Restored: true}, "restored in 1.5s"},
	} {
		if got := summary(c.res, progress.Counts{}, 1500*time.Millisecond); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got, want := summary(&engine.Result{Changed: true}, progress.Counts{Done: 1, Cached: 2}, time.Second), "built in 1.0s (3 stages, 2 cached)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// A build that has done nothing has no stages to tell about.
	if got, want := summary(&engine.Result{}, progress.Counts{Cached: 2}, 12*time.Millisecond), "unchanged in 12ms"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Time{}, "-"},
		{time.Unix(0, 0), "1970"},
		{now.Add(-3 * time.Hour), "3 hours ago"},
	} {
		if got := age(c.t, now); got != c.want {
			t.Errorf("%v: got %q, want %q", c.t, got, c.want)
		}
	}
}

func TestImageTable(t *testing.T) {
	list := []store.Summary{
		{Digest: "sha256:0123456789abcdef", Platforms: []string{"linux/amd64", "linux/arm64"}, Size: 1 << 20, Unpacked: 2 << 20},
		{Name: "docker.io/library/app:1", Digest: "sha256:0123456789abcdef", Err: errors.New("blob is missing"), Unpacked: -1},
	}
	var b bytes.Buffer
	a := &app{stdout: &b}
	if err := a.printTable(imageTable(list, false, true, time.Now())); err != nil {
		t.Fatal(err)
	}
	want := `NAME    DIGEST         PLATFORMS                 CREATED   SIZE     UNPACKED
-       0123456789ab   linux/amd64,linux/arm64   -         1.05MB   2.1MB
app:1   0123456789ab   broken: blob is missing
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestDescribeVersion(t *testing.T) {
	info := &debug.BuildInfo{
		Main: debug.Module{Version: "(devel)"},
		Deps: []*debug.Module{{Path: "github.com/moby/buildkit", Version: "v0.34.2"}},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
		},
	}
	got := describe("", info).String()
	if !strings.HasPrefix(got, "zlayer (devel) (commit 0123456789ab, modified, BuildKit v0.34.2, go") {
		t.Errorf("got %q", got)
	}
	if got := describe("v1.2.3", info); got.Version != "v1.2.3" {
		t.Errorf("the stamp does not count: %+v", got)
	}
	if got := describe("", nil); got.Version != "-" {
		t.Errorf("without anything: %+v", got)
	}
}

// A log is followed over its end into the file that takes its place.
func TestFollowLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	add := func(text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("one\ntwo\n")
	var b bytes.Buffer
	l := &logReader{path: path, out: &b}
	if err := l.start(1); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	ctx, cancel := context.WithCancelCause(context.Background())
	tick, ended := make(chan time.Time), make(chan error)
	go func() { ended <- l.follow(ctx, tick) }()
	add("three\n")
	tick <- time.Time{}
	tick <- time.Time{} // taken once the first has been dealt with
	add("last of the old\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	tick <- time.Time{} // no file at the moment
	tick <- time.Time{}
	add("first of the new\n")
	tick <- time.Time{}
	tick <- time.Time{}
	cancel(errSignal)
	if err := <-ended; !errors.Is(err, errSignal) {
		t.Errorf("ended with %v", err)
	}
	if got, want := b.String(), "two\nthree\nlast of the old\nfirst of the new\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSeekLines(t *testing.T) {
	long := strings.Repeat("x", 40<<10) + "\n"
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc", 2, "b\nc"},
		{"a\nb\n", 9, "a\nb\n"},
		{"a\nb\n", 0, ""},
		{"\n\n\n", 2, "\n\n"},
		{"a\n" + long + long, 2, long + long},
		{"a\n" + long + "b", 1, "b"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		l := &logReader{path: path, out: &b}
		if err := l.start(c.n); err != nil {
			t.Fatal(err)
		}
		l.close()
		if b.String() != c.want {
			t.Errorf("last %d lines of %.20q: got %.40q", c.n, c.text, b.String())
		}
	}
}

// BenchmarkVersion is what this package adds to the start of the process.
func BenchmarkVersion(b *testing.B) {
	for b.Loop() {
		var out bytes.Buffer
		a := newApp()
		a.stdout = &out
		if a.run([]string{"version"}) != 0 {
			b.Fatal("version fails")
		}
	}
}

// TestLastPicture tells when something was built, and when everything was remembered.
func TestLastPicture(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	since := &engine.Recalled{Ended: at.Add(time.Hour), Took: 40 * time.Millisecond}
	restored := *since
	restored.Restored = true
	for _, c := range []struct {
		last engine.LastBuild
		want string
	}{
		{engine.LastBuild{Ended: at, Took: time.Second, Graph: &graph.Picture{}}, "built 2026-01-02 03:04:05, in 1.0s\n\n"},
		{engine.LastBuild{Ended: at, Took: time.Second, Graph: &graph.Picture{}, Failed: true}, "failed 2026-01-02 03:04:05, in 1.0s\n\n"},
		{engine.LastBuild{Ended: at, Took: time.Second, Graph: &graph.Picture{}, Recalled: since}, "unchanged 2026-01-02 04:04:05, in 40ms\nbuilt 2026-01-02 03:04:05, in 1.0s\n\n"},
		{engine.LastBuild{Recalled: &restored}, "restored 2026-01-02 04:04:05, in 40ms\n\n"},
	} {
		p, head, err := lastPicture(&c.last, nil)
		if err != nil || head != c.want || p != c.last.Graph {
			t.Errorf("got %q, %v, want %q", head, err, c.want)
		}
	}
}
