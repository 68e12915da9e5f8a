package integration

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/store"
)

// crashRounds is how often TestKilledBuilds kills in CI; ZLAYER_CRASH_ROUNDS says otherwise.
const crashRounds = 25

// crashEnv is set for a process that builds until it is killed: the directory and the daemon's address.
const crashEnv = "ZLAYER_CRASH_CHILD"

// crashing is a repository that processes build and are killed at, with all that they keep.
type crashing struct {
	dir, addr string
	rnd       *rand.Rand
}

// crashImages are the builds: two on the first one, and one that has nothing to do with it.
var crashImages = []string{"base", "left", "right", "alone"}

// crashClasses tell what a file is that a killed process has left unfinished, by its place.
var crashClasses = []struct{ class, pattern string }{
	{"memo", "state/memo/v1/*/.new-*"},
	{"trace", "state/traces/v1/*/.new-*"},
	{"index", "state/trees/tmp-*"},
	{"last", "state/last/.new-*"},
	{"images", "state/images/.new-*"},
	{"store", "store/.zlayer/sessions/*/*"},
	{"store", "store/.zlayer/sizes/*.tmp"},
	{"lock", "repo/.zlayer.lock-*"},
	{"archive", "out/.left.tar.*"},
}

func (c *crashing) at(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *crashing) open(ctx context.Context) (*engine.Engine, error) {
	return engine.Open(ctx, engine.Config{Addr: c.addr, StateDir: c.at("state"), StoreDir: c.at("store")})
}

func (c *crashing) request(name string) engine.Request {
	r := engine.Request{Context: c.at("repo", name), Tags: []string{"example.com/" + name}}
	if name == "left" {
		r.Outputs = []engine.Output{{Type: engine.OutputStore}, {Type: engine.OutputOCI, Dest: c.at("out", "left.tar")}}
	}
	return r
}

func (c *crashing) batch() engine.BatchRequest {
	req := engine.BatchRequest{Root: c.at("repo")}
	for _, n := range crashImages {
		req.Builds = append(req.Builds, engine.BatchBuild{NamedRequest: engine.NamedRequest{Name: n, Request: c.request(n)}})
	}
	return req
}

// lock writes the lock file with one or with two images in it.
func (c *crashing) lock(ctx context.Context, e *engine.Engine, both bool) error {
	reqs := []engine.Request{c.request("base")}
	if both {
		reqs = append(reqs, c.request("alone"))
	}
	for i := range reqs {
		reqs[i].Root = c.at("repo")
	}
	_, err := e.Lock(ctx, reqs, engine.LockOptions{Prune: true})
	return err
}

// edit gives a random file another text, of equal size and at an equal time.
func (c *crashing) edit() error {
	p := c.at("repo", crashImages[c.rnd.IntN(len(crashImages))], fmt.Sprintf("f%d", c.rnd.IntN(8)))
	text := []byte(fmt.Sprintf("%04x", c.rnd.IntN(4)))
	return errors.Join(os.WriteFile(p, text, 0o644), os.Chtimes(p, fileAge, fileAge))
}

// TestCrashChild is no test: it is what TestKilledBuilds runs and kills.
func TestCrashChild(t *testing.T) {
	dir, addr, ok := strings.Cut(os.Getenv(crashEnv), " ")
	if !ok {
		t.Skip("runs as the child of TestKilledBuilds")
	}
	ctx := t.Context()
	c := &crashing{dir: dir, addr: addr, rnd: rand.New(rand.NewPCG(uint64(os.Getpid()), 1))}
	e, err := c.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		for range 1 + c.rnd.IntN(3) {
			if err := c.edit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.lock(ctx, e, i%2 == 0); err != nil {
			t.Fatal(err)
		}
		if _, err := e.BuildAll(ctx, c.batch()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledBuilds kills processes that build, at random moments and at random ones of their writes:
// to the memo, the stat index, the image store, the lock file, archives. After each kill a build has
// to give what the files say, whatever state all that was left in, and the one after it has to find
// nothing to do.
func TestKilledBuilds(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	first, second := m.base("first:1", "first"), m.base("second:1", "second")
	c := &crashing{dir: t.TempDir(), addr: fixture.conn.Info.Address, rnd: rand.New(rand.NewPCG(1, 2))}
	repo := files{
		"base/Dockerfile":  "FROM " + first + "\nCOPY . /base/\n",
		"left/Dockerfile":  "FROM example.com/base\nCOPY . /left/\n",
		"right/Dockerfile": "FROM example.com/base\nCOPY . /right/\n",
		"alone/Dockerfile": "FROM " + second + "\nCOPY . /alone/\n",
	}
	for _, n := range crashImages {
		for i := range 8 {
			repo[fmt.Sprintf("%s/f%d", n, i)] = "0000"
		}
	}
	repo.write(t, c.at("repo"))
	if err := os.Mkdir(c.at("out"), 0o755); err != nil {
		t.Fatal(err)
	}
	rounds := setting(t, "ZLAYER_CRASH_ROUNDS", crashRounds)
	known, left, torn, states := map[string]bool{}, map[string]int{}, 0, map[engine.BatchState]int{}
	for round := range rounds {
		c.kill(t, round)
		hit := false
		for _, cl := range crashClasses {
			found, err := filepath.Glob(c.at(cl.pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if !known[f] {
					known[f], hit = true, true
					left[cl.class]++
				}
			}
		}
		if hit {
			torn++
		}
		for s, n := range c.check(t, round) {
			states[s] += n
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d of %d kills left something unfinished: %v; of the images after them %v", torn, rounds, left, states)
	if torn == 0 {
		t.Error("no kill hit a write: the test shows nothing")
	}
}

// kill runs a process that builds and kills it.
func (c *crashing) kill(t *testing.T, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashEnv+"="+c.dir+" "+c.addr, "TMPDIR="+c.dir)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ended := bufio.NewScanner(out), make(chan struct{})
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("round %d: the child says %q %s", round, lines.Text(), said.String())
	}
	go func() {
		defer close(ended)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
	}()
	moment := time.After(c.some(500 * time.Millisecond))
	if round%4 != 0 {
		// Few moments are in the middle of a write, so most kills wait for one.
		w := watchWrites(t, c.dir)
		defer w.Close()
		go func() { <-ended; w.Close() }()
		w.await(1 + c.rnd.IntN(25))
		moment = time.After(0)
	}
	select {
	case <-ended:
		t.Fatalf("round %d: the child has ended by itself: %s", round, said.String())
	case <-moment:
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	_ = cmd.Wait()
}

func (c *crashing) some(d time.Duration) time.Duration { return time.Duration(c.rnd.Int64N(int64(d))) }

// check builds everything and holds it against the files.
func (c *crashing) check(t *testing.T, round int) map[engine.BatchState]int {
	t.Helper()
	if round%2 == 0 {
		if err := c.edit(); err != nil {
			t.Fatal(err)
		}
	}
	states := map[engine.BatchState]int{}
	for again := range 2 {
		e, err := c.open(t.Context())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		defer e.Close()
		res, err := e.BuildAll(t.Context(), c.batch())
		if err != nil {
			t.Fatalf("round %d: building after the kill: %v", round, err)
		}
		for _, i := range res.Images {
			if again == 0 {
				states[i.State]++
			} else if i.State != engine.BatchUnchanged {
				t.Errorf("round %d: %s is %s when nothing has changed", round, i.Name, i.State)
			}
			for _, w := range i.Result.Warnings {
				t.Errorf("round %d: building %s warns: %s", round, i.Name, w.Short)
			}
		}
		if again == 0 {
			continue
		}
		if _, err := e.Memo(t.Context()); err != nil {
			t.Errorf("round %d: the memo cannot be listed: %v", round, err)
		}
		c.checkImages(t, round, e)
	}
	return states
}

// checkImages holds all images against the files that they should have.
func (c *crashing) checkImages(t *testing.T, round int, e *engine.Engine) {
	t.Helper()
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]files{}
	for _, n := range crashImages {
		has[n] = files{}
		for i := range 8 {
			has[n][fmt.Sprintf("%s/f%d", n, i)] = readText(t, c.at("repo", n, fmt.Sprintf("f%d", i)))
		}
		has[n][n+"/Dockerfile"] = readText(t, c.at("repo", n, "Dockerfile"))
		has[n][n+"/"] = ""
	}
	for _, n := range crashImages {
		ref := "example.com/" + n
		if err := s.Verify(t.Context(), ref); err != nil {
			t.Errorf("round %d: the store is not whole: %v", round, err)
			continue
		}
		img, err := s.Image(t.Context(), ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := files{"x": "first"}
		for _, from := range map[string][]string{"base": {"base"}, "left": {"base", "left"}, "right": {"base", "right"}, "alone": {"alone"}}[n] {
			for p, text := range has[from] {
				want[p] = text
			}
		}
		if n == "alone" {
			want["x"] = "second"
		}
		rc := mutate.Extract(img)
		same(t, fmt.Sprintf("round %d: image %s", round, n), readFiles(t, rc), want)
		rc.Close()
	}
	all, err := s.Images(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Err != nil {
			t.Errorf("round %d: the store lists an image that cannot be read: %v", round, i.Err)
		}
	}
}

// writeWatch sees files being made.
type writeWatch struct{ f *os.File }

// watchWrites watches all directories that are there.
func watchWrites(t *testing.T, dir string) *writeWatch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	w := &writeWatch{os.NewFile(uintptr(fd), "inotify")}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE|unix.IN_ONLYDIR); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Close implements io.Closer; it ends await.
func (w *writeWatch) Close() error { return w.f.Close() }

// await waits until n files have been made.
func (w *writeWatch) await(n int) {
	buf := make([]byte, 16<<10)
	for n > 0 {
		got, err := w.f.Read(buf)
		if err != nil {
			return
		}
		for at := 0; at < got; n-- {
			const nameLen = 12 // struct inotify_event: wd, mask, cookie, len
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+nameLen:]))
		}
	}
}
