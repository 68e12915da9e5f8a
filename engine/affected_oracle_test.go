package engine

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/zlayer-dev/zlayer/source/lock"
)

var (
	affectedSeed  = flag.Uint64("affected.seed", 1, "seed of TestAffectedAgainstAnOracle")
	affectedSteps = flag.Int("affected.steps", 60, "steps of TestAffectedAgainstAnOracle")
)

// testRepo is a git repository that is changed at random.
type testRepo struct {
	t   *testing.T
	dir string
	rnd *rand.Rand
	// image is a tag in a registry; digests are what it can be locked to.
	image   string
	digests []string
	commits []string
	n       int // names new things
}

// repoBuilds are the directories with build files.
var repoBuilds = []string{"base/one", "base/two", "svc/api", "svc/api/inner", "svc/web", "tools/a", "tools/b", "locked"}

func newTestRepo(t *testing.T) *testRepo {
	r := &testRepo{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(*affectedSeed, 4))}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	r.image = strings.TrimPrefix(srv.URL, "http://") + "/img:1"
	tag, err := name.NewTag(r.image)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: hostArch(), Author: fmt.Sprint(len(r.digests))})
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, img); err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		r.digests = append(r.digests, d.String())
	}
	writeFiles(t, r.dir, map[string]string{
		"base/one/Dockerfile":      "FROM scratch AS files\nCOPY src /src\nFROM files\nCOPY --from=files /src /copied\nCOPY [\"*.md\", \"/doc/\"]\n",
		"base/one/README.md":       "one",
		"base/one/src/a":           "a",
		"base/one/src/b":           "b",
		"base/one/notes":           "not part of it",
		"base/two/Dockerfile":      "FROM scratch\nCOPY . /two\n",
		"base/two/.dockerignore":   "*.log\nskip\n!skip/kept\n",
		"base/two/x":               "x",
		"base/two/skip/y":          "y",
		"base/two/skip/kept":       "kept",
		"base/two/build.log":       "log",
		"svc/api/ZImagefile":       "build: ../../base/one\nsteps:\n  - {copy: src, to: /api}\n",
		"svc/api/src/main":         "main",
		"svc/api/src/link":         "-> main",
		"svc/api/inner/Dockerfile": "FROM scratch\nCOPY data /data\n",
		"svc/api/inner/data":       "data",
		"svc/api/other":            "other",
		"svc/web/ZImagefile":       "build: ../../base/two\nsteps:\n  - {copy: ., to: /web}\n",
		"svc/web/.dockerignore":    "tmp\n",
		"svc/web/page":             "page",
		"svc/web/tmp/t":            "t",
		"tools/a/ZImagefile":       "stages:\n  b: {build: ../../base/one}\n  i: {build: ../../svc/api/inner}\n  out:\n    base: b\n    steps:\n      - {copy: /data, from: i, to: /data}\n      - {copy: a, to: /a}\n",
		"tools/a/a":                "tool",
		"tools/b/Dockerfile":       "FROM scratch AS unused\nCOPY unused /\nFROM scratch\nCOPY --chmod=755 b /b\n",
		"tools/b/b":                "b",
		"tools/b/unused":           "unused",
		"locked/Dockerfile":        "FROM " + r.image + "\nCOPY f /f\n",
		"locked/f":                 "f",
		"docs/readme":              "nobody builds this",
		".gitignore":               "*.tmp\n",
	})
	r.lockTo(0)
	r.git("init", "-q", "-b", "main")
	r.commit()
	return r
}

func (r *testRepo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits everything and removes what git ignores, which would count for good.
func (r *testRepo) commit() {
	if len(r.commits) > 0 {
		r.git("clean", "-fdqX")
	}
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", "step")
	r.commits = append(r.commits, r.git("rev-parse", "HEAD"))
}

func (r *testRepo) lockTo(i int) {
	f := &lock.File{}
	f.Set(lock.Entry{Kind: lock.Image, Ref: r.image, Platform: "linux/" + hostArch(), Value: r.digests[i]})
	if err := f.Write(filepath.Join(r.dir, lock.FileName)); err != nil {
		r.t.Fatal(err)
	}
}

// files lists the regular files of the work tree but those that builds cannot do
// without.
func (r *testRepo) files() []string {
	var list []string
	_ = filepath.WalkDir(r.dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" {
			return filepath.SkipDir
		}
		keep := isBuildFileName(d.Name()) || d.Name() == lock.FileName || d.Name() == ".gitignore"
		if d.Type().IsRegular() && !keep {
			list = append(list, p)
		}
		return nil
	})
	return list
}

func (r *testRepo) pick(list []string) string { return list[r.rnd.IntN(len(list))] }

// change changes something and says what.
func (r *testRepo) change() string {
	r.t.Helper()
	r.n++
	must := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	f := r.pick(r.files())
	rel, err := filepath.Rel(r.dir, f)
	must(err)
	dir := filepath.Join(r.dir, r.pick(append([]string{"docs", "base/one/src", "svc/api/src", "base/two/skip"}, repoBuilds...)))
	switch r.rnd.IntN(13) {
	case 0, 1:
		must(os.WriteFile(f, fmt.Appendf(nil, "edit %d", r.n), 0o644))
		return "edit " + rel
	case 2:
		must(os.MkdirAll(dir, 0o755))
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("new%d%s", r.n, r.pick([]string{"", ".md", ".log", ".tmp"}))), []byte("new"), 0o644))
		return "add to " + dir
	case 3:
		must(os.Remove(f))
		r.removeEmpty(filepath.Dir(f))
		return "delete " + rel
	case 4:
		must(os.MkdirAll(dir, 0o755))
		must(os.Rename(f, filepath.Join(dir, fmt.Sprintf("moved%d", r.n))))
		r.removeEmpty(filepath.Dir(f))
		return "move " + rel + " to " + dir
	case 5:
		fi, err := os.Stat(f)
		must(err)
		must(os.Chmod(f, fi.Mode()^0o111))
		return "chmod +-x " + rel
	case 6:
		must(os.Chmod(f, 0o600))
		return "chmod 600 " + rel
	case 7:
		ignore := filepath.Join(r.dir, r.pick([]string{"base/two", "svc/web", "base/one"}), ".dockerignore")
		must(appendFile(ignore, r.pick([]string{"*.md\n", "src/a\n", "page\n", "!page\n", "# comment\n", "**/moved*\n"})))
		return "edit " + ignore
	case 8:
		file := filepath.Join(r.dir, r.pick([]string{"base/one", "base/two", "svc/api/inner", "tools/b", "locked"}), "Dockerfile")
		must(appendFile(file, r.pick([]string{"# comment\n", "ENV A=b\n", fmt.Sprintf("LABEL n=%d\n", r.n), "COPY README.md* /\n"})))
		return "edit " + file
	case 9:
		r.lockTo(r.rnd.IntN(2))
		return "lock"
	case 10:
		must(os.MkdirAll(dir, 0o755))
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("ignored%d.tmp", r.n)), []byte("git does not see it"), 0o644))
		return "add an ignored file to " + dir
	case 11:
		link := filepath.Join(r.dir, "svc/api/src/link")
		must(os.RemoveAll(link))
		must(os.MkdirAll(filepath.Dir(link), 0o755))
		must(os.Symlink(r.pick([]string{"main", "nowhere", "../other"}), link))
		return "link"
	default:
		zf := filepath.Join(r.dir, "base/two/ZImagefile")
		if err := os.Remove(zf); err != nil {
			must(os.WriteFile(zf, []byte("stages:\n  x:\n    base: scratch\n    steps:\n      - {copy: ., to: /two}\n"), 0o644))
		}
		return "another build file in base/two"
	}
}

// removeEmpty removes directories without files: git does not know them, so no list of
// files tells of them.
func (r *testRepo) removeEmpty(dir string) {
	for dir != r.dir && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

func appendFile(name, text string) error {
	old, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(name, append(old, text...), 0o644)
}

// requestsIn are the builds of a work tree.
func (r *testRepo) requestsIn(dir string) []NamedRequest {
	var list []NamedRequest
	for _, b := range repoBuilds {
		list = append(list, NamedRequest{Name: b, Request: Request{Context: filepath.Join(dir, b)}})
	}
	return list
}

// outputKeys computes the keys of the builds of a work tree, by an engine that has
// never seen it.
func (r *testRepo) outputKeys(dir string) map[string]string {
	r.t.Helper()
	e := openBare(r.t)
	run, err := e.newRun(Request{NormalizeModes: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer run.close()
	keys := map[string]string{}
	for _, req := range r.requestsIn(dir) {
		j, err := run.prepareCall(req.Request)
		if err != nil {
			r.t.Fatal(err)
		}
		k, err := j.compileKeys(r.t.Context())
		if err != nil {
			r.t.Fatalf("%s: %v", req.Name, err)
		}
		keys[req.Name] = cmp.Or(k.base.String(), "none")
		_ = j.close()
	}
	return keys
}

// changedFiles are the paths that differ from a commit, untracked ones included.
func (r *testRepo) changedFiles(since string) []string {
	set := map[string]bool{}
	for _, list := range []string{
		r.git("diff", "--name-only", "--no-renames", since),
		r.git("ls-files", "--others"), // ignored ones, too
	} {
		for f := range strings.SplitSeq(list, "\n") {
			if f != "" {
				set[filepath.Join(r.dir, f)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// TestAffectedAgainstAnOracle changes a repository at random. What Affected says since
// some commit is what the keys say that are computed by themselves: those of a clone at
// the commit, and those of the work tree.
func TestAffectedAgainstAnOracle(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	r := newTestRepo(t)
	e := openBare(t)
	affected, precise, total := 0, 0, 0
	steps := *affectedSteps
	if testing.Short() {
		steps = min(steps, 10)
	}
	for step := range steps {
		what := r.change()
		if r.rnd.IntN(3) == 0 {
			what += ", " + r.change()
		}
		if r.rnd.IntN(2) == 0 {
			r.commit()
			what += ", commit"
		}
		since := r.commits[max(0, len(r.commits)-1-r.rnd.IntN(2))]
		clone := filepath.Join(t.TempDir(), "clone")
		r.git("clone", "-q", "--shared", "--no-checkout", r.dir, clone)
		r.git("--git-dir="+clone+"/.git", "--work-tree="+clone, "checkout", "-q", "--force", since)
		before, now := r.outputKeys(clone), r.outputKeys(r.dir)
		var want []string
		for _, b := range repoBuilds {
			if before[b] != now[b] {
				want = append(want, b)
			}
		}
		got := r.affectedNames(t.Context(), e, AffectedOptions{Since: since})
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, step %d, %s: got %v, want %v", *affectedSeed, step, what, got, want)
		}
		affected += len(got)
		if files := r.changedFiles(since); len(files) > 0 {
			byFiles := r.affectedNames(t.Context(), e, AffectedOptions{Files: files})
			for _, b := range want {
				if !slices.Contains(byFiles, b) {
					t.Fatalf("seed %d, step %d, %s: by files %v: got %v, want at least %v", *affectedSeed, step, what, files, byFiles, want)
				}
			}
			total += len(byFiles)
			precise += len(want)
		}
	}
	t.Logf("%d steps, %d times a build was affected; by files alone %d, of them %d in truth", steps, affected, total, precise)
	if affected == 0 || affected == steps*len(repoBuilds) {
		t.Errorf("%d affected builds in %d steps tell nothing", affected, steps)
	}
}

func (r *testRepo) affectedNames(ctx context.Context, e *Engine, o AffectedOptions) []string {
	r.t.Helper()
	res, err := e.Affected(ctx, r.requestsIn(r.dir), o)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []string
	inLevels := 0
	for _, l := range res.Levels {
		inLevels += len(l)
	}
	for _, img := range res.Images {
		if img.Affected {
			list = append(list, img.Name)
		}
	}
	if inLevels != len(list) {
		r.t.Errorf("%d builds in levels, %d affected", inLevels, len(list))
	}
	return list
}
