package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// mutationSteps is how many random changes TestMutations makes in CI; ZLAYER_MUTATION_STEPS says otherwise,
// and ZLAYER_MUTATION_SEED where they begin.
const mutationSteps = 300

// TestMutations changes a small monorepo at random, in ways that builders have been seen to miss, and
// after each change holds every image against one that BuildKit's own frontend builds from a copy of
// the files, without any cache. No image may be wrong, and what has not changed must not be built.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	steps, seed := setting(t, "ZLAYER_MUTATION_STEPS", mutationSteps), setting(t, "ZLAYER_MUTATION_SEED", 1)
	m := newMonorepo(t, uint64(seed))
	start := time.Now()
	for step := range steps {
		what := "the first build"
		if step > 0 {
			what = m.change()
		}
		got := m.build()
		want := m.reference(step)
		for _, image := range m.images {
			if d := wrongFiles(want[image], got[image].files); d != "" {
				t.Fatalf("seed %d, step %d, %s: image %s is wrong:\n%s", seed, step, what, image, d)
			}
		}
		m.needless(step, what, got)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d steps in %s, %d images built, %d taken from the memo", steps, time.Since(start).Round(time.Second), m.built, m.kept)
}

// setting is a number from the environment.
func setting(t *testing.T, env string, otherwise int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%s: %v", env, v, err)
	}
	return n
}

// monorepo is three builds: base, app on it, and tool, which copies from both and has no base of its
// own. They share names of files and, as often as not, sizes and times.
type monorepo struct {
	t      *testing.T
	dir    string
	rnd    *rand.Rand
	engine *engine.Engine
	client *client.Client
	images []string
	// upstream is the image tag that base begins with, in the lab's registry; text is
	// what the image has now.
	upstream, text string
	arg            string
	// gone are files that were deleted, with what they were.
	gone []deleted
	// built and kept count the images; known are the inputs that were built before.
	built, kept int
	known       map[string]bool
}

type deleted struct {
	path string
	data []byte
	mode os.FileMode
	time time.Time
}

func newMonorepo(t *testing.T, seed uint64) *monorepo {
	l := labtest.Start(t)
	m := &monorepo{
		t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(seed, 1)), client: buildkit(t), engine: openEngine(t),
		images: []string{"base", "app", "tool"}, arg: "0", known: map[string]bool{},
		upstream: l.Addr() + fmt.Sprintf("/mutation-%d/upstream:1", seed),
	}
	m.pushUpstream()
	repo := files{
		"base/Dockerfile":    "FROM " + m.upstream + "\nCOPY src /src\nCOPY --chmod=700 one.txt /one\nENV A=base\n",
		"base/.dockerignore": "**/*.md\n",
		"app/Dockerfile":     "ARG V\nFROM example.com/base\nARG V\nENV V=$V\nCOPY . /app\nCOPY --exclude=*.b src /picked\n",
		"app/.dockerignore":  "ignored\n!ignored/kept\n",
		"tool/Dockerfile":    "FROM scratch\nCOPY --from=example.com/base /src /base\nCOPY --from=example.com/app /app/one.txt /\nCOPY s*/*.a one.txt /t/\n",
	}
	for _, d := range m.images {
		for _, f := range []string{"one.txt", "src/1.a", "src/2.b", "src/deep/3.a", "src/deep/4.md", "ignored/5", "ignored/kept"} {
			repo[d+"/"+f] = d[:1] + f[:1]
		}
		repo[d+"/src/link"] = "-> 1.a"
	}
	repo.write(t, m.dir)
	for _, d := range m.images {
		// Every file has one of few times, so that equal sizes and times come about.
		m.walk(d, func(p string, _ os.FileInfo) { m.touch(p) })
	}
	return m
}

// pushUpstream moves the tag that base begins with.
func (m *monorepo) pushUpstream() {
	m.t.Helper()
	var buf strings.Builder
	tw := tar.NewWriter(&buf)
	text := fmt.Sprint(m.rnd.IntN(3))
	m.text = text
	h := &tar.Header{Name: "upstream", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
	if err := errors.Join(tw.WriteHeader(h), second(io.WriteString(tw, text)), tw.Close()); err != nil {
		m.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(buf.String()), types.OCIUncompressedLayer))
	if err != nil {
		m.t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		m.t.Fatal(err)
	}
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		m.t.Fatal(err)
	}
	tag, err := name.NewTag(m.upstream)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		m.t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }

func (m *monorepo) walk(d string, f func(path string, fi os.FileInfo)) {
	m.t.Helper()
	err := filepath.Walk(filepath.Join(m.dir, d), func(p string, fi os.FileInfo, err error) error {
		if err == nil && !fi.IsDir() {
			f(p, fi)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// touch gives a file one of a few times.
func (m *monorepo) touch(p string) {
	at := time.Unix(1_700_000_000+int64(m.rnd.IntN(2)), 0)
	if fi, err := os.Lstat(p); err == nil && fi.Mode()&os.ModeSymlink == 0 {
		if err := os.Chtimes(p, at, at); err != nil {
			m.t.Fatal(err)
		}
	}
}

// pick gives a random file that is no build file; a link only where links are asked for.
func (m *monorepo) pick(link bool) string {
	var all []string
	for _, d := range m.images {
		m.walk(d, func(p string, fi os.FileInfo) {
			isLink := fi.Mode()&os.ModeSymlink != 0
			if isLink == link && filepath.Base(p) != "Dockerfile" && filepath.Base(p) != ".dockerignore" {
				all = append(all, p)
			}
		})
	}
	if len(all) == 0 {
		return ""
	}
	return all[m.rnd.IntN(len(all))]
}

// change makes one random change and says which.
func (m *monorepo) change() string {
	must := func(err error) {
		if err != nil {
			m.t.Fatal(err)
		}
	}
	p := m.pick(false)
	rel, _ := filepath.Rel(m.dir, p)
	switch m.rnd.IntN(12) {
	case 0, 1, 2: // the same size, and the same time
		fi, err := os.Stat(p)
		must(err)
		data := make([]byte, fi.Size())
		for i := range data {
			data[i] = "xyz"[m.rnd.IntN(3)]
		}
		must(os.WriteFile(p, data, fi.Mode()))
		must(os.Chtimes(p, fi.ModTime(), fi.ModTime()))
		return "edited " + rel + ", keeping size and time"
	case 3:
		must(os.WriteFile(p, []byte(strings.Repeat("w", m.rnd.IntN(4))), 0o644))
		m.touch(p)
		return "edited " + rel
	case 4:
		fi, err := os.Stat(p)
		must(err)
		must(os.Chmod(p, fi.Mode()^0o111))
		return "changed the mode of " + rel
	case 5: // two files change places, with their times
		q := m.pick(false)
		must(os.Rename(p, p+".tmp"))
		if p != q {
			must(os.Rename(q, p))
		}
		must(os.Rename(p+".tmp", q))
		other, _ := filepath.Rel(m.dir, q)
		return "swapped " + rel + " and " + other
	case 6:
		fi, err := os.Stat(p)
		must(err)
		data, err := os.ReadFile(p)
		must(err)
		if filepath.Base(p) == "one.txt" || strings.HasSuffix(p, "1.a") {
			return "nothing" // what the build files name has to stay
		}
		m.gone = append(m.gone, deleted{p, data, fi.Mode(), fi.ModTime()})
		must(os.Remove(p))
		return "deleted " + rel
	case 7:
		if len(m.gone) == 0 {
			return "nothing"
		}
		d := m.gone[len(m.gone)-1]
		m.gone = m.gone[:len(m.gone)-1]
		must(os.WriteFile(d.path, d.data, d.mode))
		must(os.Chtimes(d.path, d.time, d.time))
		return "restored " + filepath.Base(d.path)
	case 8:
		l := m.pick(true)
		must(os.Remove(l))
		must(os.Symlink([]string{"1.a", "2.b", "deep", "nowhere"}[m.rnd.IntN(4)], l))
		return "moved a link"
	case 9:
		f := filepath.Join(m.dir, m.images[m.rnd.IntN(2)], ".dockerignore")
		must(os.WriteFile(f, []byte([]string{"ignored\n!ignored/kept\n", "**/*.md\n", "src/deep\n", ""}[m.rnd.IntN(4)]), 0o644))
		return "edited " + f
	case 10:
		m.arg = strconv.Itoa(m.rnd.IntN(3))
		return "changed the argument"
	}
	m.pushUpstream()
	return "moved the upstream tag"
}

// made is an image that was built.
type made struct {
	state engine.BatchState
	files map[string]string
}

// build builds all three with the engine.
func (m *monorepo) build() map[string]made {
	m.t.Helper()
	res, err := m.engine.BuildAll(m.t.Context(), m.request())
	if err != nil {
		m.t.Fatalf("building: %v", err)
	}
	s, err := m.engine.Store()
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[string]made{}
	for _, i := range res.Images {
		img, err := s.Image(m.t.Context(), "example.com/"+i.Name, nil)
		if err != nil {
			m.t.Fatal(err)
		}
		out[i.Name] = made{i.State, contents(m.t, img)}
	}
	return out
}

func (m *monorepo) request() engine.BatchRequest {
	req := engine.BatchRequest{Root: m.dir}
	for _, n := range m.images {
		r := engine.Request{Context: filepath.Join(m.dir, n), Tags: []string{"example.com/" + n}}
		if n == "app" {
			r.BuildArgs = map[string]string{"V": m.arg}
		}
		req.Builds = append(req.Builds, engine.BatchBuild{NamedRequest: engine.NamedRequest{Name: n, Request: r}})
	}
	return req
}

// needless complains of images that were built although their inputs were built before,
// and has everything built once more: nothing may be left to do.
func (m *monorepo) needless(step int, what string, got map[string]made) {
	for image, g := range got {
		inputs := image + m.inputs(image)
		had := m.known[inputs]
		m.known[inputs] = true
		if g.state != engine.BatchBuilt {
			m.kept++
			if !had {
				m.t.Errorf("step %d, %s: %s is %s with inputs that were never built", step, what, image, g.state)
			}
			continue
		}
		m.built++
		if had {
			m.t.Errorf("step %d, %s: %s was built although its inputs were built before", step, what, image)
		}
	}
	res, err := m.engine.BuildAll(m.t.Context(), m.request())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, i := range res.Images {
		if i.State != engine.BatchUnchanged {
			m.t.Errorf("step %d, %s: %s is %s when nothing has changed", step, what, i.Name, i.State)
		}
	}
}

// inputs is all that an image depends on, by a reckoning of the test's own.
func (m *monorepo) inputs(image string) string {
	m.t.Helper()
	var all []string
	ignore, err := os.ReadFile(filepath.Join(m.dir, image, ".dockerignore"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(ignore))
	if err != nil {
		m.t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		m.t.Fatal(err)
	}
	dir := filepath.Join(m.dir, image)
	err = filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || rel == "." {
			return err
		}
		if skip, err := ignored.MatchesOrParentMatches(rel); skip || err != nil {
			return err
		}
		switch image {
		case "base":
			if !strings.HasPrefix(rel, "src") && rel != "one.txt" {
				return nil
			}
		case "tool":
			if ok, _ := filepath.Match("s*/*.a", rel); !ok && rel != "one.txt" {
				return nil
			}
		}
		text := ""
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(data)
		case fi.Mode()&os.ModeSymlink != 0:
			if text, err = os.Readlink(p); err != nil {
				return err
			}
		}
		all = append(all, fmt.Sprintf("%q %v %q", rel, fi.Mode(), text))
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	switch image {
	case "base":
		all = append(all, "upstream "+m.text)
	case "app":
		all = append(all, "argument "+m.arg, m.inputs("base"))
	case "tool":
		// It takes files from app, on which the argument has no effect.
		all = append(all, m.inputs("base"), strings.Replace(m.inputs("app"), "argument "+m.arg, "", 1))
	}
	return strings.Join(all, "\n")
}

// reference builds all three with BuildKit's own frontend from a copy of the files, without cache.
func (m *monorepo) reference(step int) map[string]map[string]string {
	m.t.Helper()
	dir := m.t.TempDir()
	if out, err := exec.Command("cp", "-a", m.dir+"/.", dir).CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	defer os.RemoveAll(dir)
	out := map[string]map[string]string{}
	prefix := strings.TrimSuffix(m.upstream, "upstream:1")
	contexts := map[string]string{}
	for _, image := range m.images {
		attrs := map[string]string{"no-cache": "", "build-arg:V": m.arg, "image-resolve-mode": "pull"}
		maps.Copy(attrs, contexts)
		local, err := fsutil.NewFS(filepath.Join(dir, image))
		if err != nil {
			m.t.Fatal(err)
		}
		to := m.t.TempDir()
		ref := fmt.Sprintf("%sref-%s:%d", prefix, image, step)
		if err := m.solveReference(client.SolveOpt{
			Frontend: "dockerfile.v0", FrontendAttrs: attrs, SharedKey: dir + image,
			LocalMounts: map[string]fsutil.FS{"context": local, "dockerfile": local},
			Exports: []client.ExportEntry{
				{Type: client.ExporterOCI, OutputDir: to, Attrs: map[string]string{"tar": "false"}},
				{Type: client.ExporterImage, Attrs: map[string]string{"name": ref, "push": "true"}},
			},
		}); err != nil {
			m.t.Fatalf("step %d: building the reference of %s: %v", step, image, err)
		}
		contexts["context:example.com/"+image] = "docker-image://" + ref
		out[image] = contents(m.t, onlyImage(m.t, to))
		if err := os.RemoveAll(to); err != nil {
			m.t.Fatal(err)
		}
	}
	return out
}

// solveReference builds a reference. BuildKit may drop a manifest between the push of an image and its
// pull by the next build, which has then seen that it need not be fetched; that is tried again.
func (m *monorepo) solveReference(opt client.SolveOpt) error {
	for try := 0; ; try++ {
		_, err := m.client.Solve(m.t.Context(), nil, opt, nil)
		if err == nil || try == 3 || !strings.Contains(err.Error(), "blob not found") {
			return err
		}
		m.t.Logf("building a reference again: %v", err)
	}
}

func onlyImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	mf, err := idx.IndexManifest()
	if err != nil || len(mf.Manifests) != 1 {
		t.Fatalf("want one image in %s: %v", dir, err)
	}
	img, err := idx.Image(mf.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// contents lists the files of an image with all that counts, and what its config says.
func contents(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	out := map[string]string{}
	rc := mutate.Extract(img)
	defer rc.Close()
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, tr); err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(h.Name, "/")] = fmt.Sprintf("%c %o %d:%d %s %x", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, sum.Sum(nil)[:8])
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	out["config"] = fmt.Sprintf("%v %v %v", cfg.Config.Env, cfg.Config.Cmd, cfg.Config.Labels)
	return out
}

// wrongFiles lists what an image should hold and does not, and what it should not.
func wrongFiles(want, got map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if want[k] != got[k] {
			fmt.Fprintf(&b, "%s: want %q, got %q\n", k, want[k], got[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			fmt.Fprintf(&b, "%s: got %q, want nothing\n", k, got[k])
		}
	}
	return b.String()
}
