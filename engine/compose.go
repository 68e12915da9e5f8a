package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// maxNesting bounds how deep builds nest; what is deeper is taken for a chain
// that never ends because its arguments change on the way.
const maxNesting = 64

// unit is one build of a directory: what is compiled once, however many places
// nest it.
type unit struct {
	// dir is the build context, file the build file; both absolute, without links.
	dir, file string
	target    string
	args      map[string]string
	// platform is "" for the default one.
	platform string
}

// key is equal for equal units.
func (u unit) key() string {
	h := graph.NewHasher("zlayer.unit.v1")
	for _, s := range []string{u.dir, u.file, u.target, u.platform} {
		h.String(s)
	}
	h.Map(u.args)
	return string(h.Digest())
}

// link is a step of the way from the outermost build to a nested one.
type link struct {
	key   string
	shown string
	// pos is where the next build is asked for.
	pos graph.Pos
}

// composer compiles a build and the builds nested in it into one graph. Each
// nested directory is compiled once for the same arguments and platform.
type composer struct {
	job *job
	gw  gwclient.Client
	// warn is told what is odd about build files; nil tells nobody.
	warn func(solver.WarningInfo)
	// short finds images by short names; nil leaves them to Docker Hub.
	short *shortNames
	// asked is told the files that nested builds read or look for; nil tells nobody.
	asked func(path string)

	mu   sync.Mutex
	done map[string]*composed
}

// composed is a unit being compiled, or compiled.
type composed struct {
	ready chan struct{}
	stage *graph.Stage
	err   error
}

func newComposer(j *job, gw gwclient.Client, warn func(solver.WarningInfo)) *composer {
	c := &composer{job: j, gw: gw, warn: warn, done: map[string]*composed{}}
	if j.req.DefaultRegistry != "" {
		c.short = newShortNames(j, gw)
	}
	return c
}

// options is how the outermost build file is compiled.
func (c *composer) options() dockerfile.Options {
	j := c.job
	u := unit{
		dir:      j.contextDir,
		file:     filepath.Join(j.dirs["dockerfile"], j.attrs["filename"]),
		target:   j.req.Target,
		args:     j.req.BuildArgs,
		platform: j.attrs["platform"],
	}
	o := c.optionsFor(u, j.dirs, j.shownFile, nil)
	// Answers and metadata name the outermost file as BuildKit's own frontend does;
	// errors and events get the user's name for it on their way out.
	o.Name = ""
	return o
}

// optionsFor is how a unit is compiled; chain is the way to it.
func (c *composer) optionsFor(u unit, dirs map[string]string, shown string, chain []link) dockerfile.Options {
	conv := &conversion{composer: c, unit: u, shown: shown}
	o := dockerfile.Options{
		Name:    shown,
		Convert: conv.convert,
		Local: func(name string) string {
			if dir, ok := dirs[name]; ok {
				return c.job.localName(name, dir)
			}
			return name
		},
		Nested: func(ctx context.Context, ref dockerfile.Reference) (*graph.Stage, error) {
			if len(chain) == 0 {
				ref.Pos = c.job.shown(ref.Pos)
			}
			n, ok, err := c.nestedUnit(u, conv, ref, len(chain) == 0)
			if !ok || err != nil {
				return nil, err
			}
			next := append(slices.Clone(chain), link{key: u.key(), shown: shown, pos: ref.Pos})
			if err := checkChain(next, n.key()); err != nil {
				return nil, c.at(ref.Pos, conv, err)
			}
			return c.once(ctx, n, next)
		},
	}
	if c.short != nil {
		o.Resolve = c.short.resolve
	}
	return o
}

// nestedUnit says which build a name stands for; ok is false when it is an image.
func (c *composer) nestedUnit(u unit, conv *conversion, ref dockerfile.Reference, outermost bool) (n unit, ok bool, err error) {
	n = unit{args: c.inheritedArgs()}
	if ref.Platform != nil {
		n.platform = platforms.FormatAll(*ref.Platform)
	}
	var file string
	if b, ok := conv.builds[normalName(ref.Name)]; ok {
		maps.Copy(n.args, b.Args)
		n.target, file = b.Target, b.File
		n.dir, err = c.directive(u, b)
	} else if dir, ok := c.namedDir(ref, outermost); ok {
		n.dir = dir
	} else {
		return unit{}, false, nil
	}
	if err == nil {
		err = c.job.mayRead(n.dir)
	}
	if err == nil {
		n.file, err = nestedFile(n.dir, file)
	}
	return n, true, c.at(ref.Pos, conv, err)
}

// namedDir is the directory of a named context that is a build. A context that is
// a directory with a build file is a build where an image is needed, in FROM, and
// then wherever the file has the name; a name that only COPY and RUN use stands for
// the directory's files, as it does for other builders. Named contexts are the
// command line's, and that speaks of the outermost build file.
func (c *composer) namedDir(ref dockerfile.Reference, outermost bool) (string, bool) {
	dir, ok := c.job.buildDirs[normalName(ref.Name)]
	return dir, ok && outermost && ref.InFrom
}

// directive finds the directory of a build: entry.
func (c *composer) directive(u unit, b zimage.Nested) (string, error) {
	if u.dir == "" {
		return "", errors.New("builds can be nested only where the build context is a directory")
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(u.dir, filepath.FromSlash(b.Dir)))
	if err != nil {
		return "", fmt.Errorf("build context %s does not exist: it is relative to the build context, %s", b.Dir, shownPath(u.dir))
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("build context %s is not a directory", b.Dir)
	}
	return dir, nil
}

// nestedFile finds the build file of a nested build; name is relative to dir, ""
// looks for it.
func nestedFile(dir, name string) (string, error) {
	if name == "" {
		return findBuildFile(dir)
	}
	file := filepath.Join(dir, filepath.FromSlash(name))
	if !isFile(file) {
		return "", fmt.Errorf("build file %s does not exist: it is relative to %s", name, shownPath(dir))
	}
	return file, nil
}

// at gives an error a position, unless it has one, and the text for its excerpt.
func (c *composer) at(pos graph.Pos, conv *conversion, err error) error {
	var pe *graph.PosError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &graph.PosError{Pos: pos, Err: err, Source: conv.text}
}

// checkChain refuses builds that nest each other.
func checkChain(chain []link, key string) error {
	if len(chain) > maxNesting {
		return fmt.Errorf("builds are nested more than %d deep", maxNesting)
	}
	for i, l := range chain {
		if l.key != key {
			continue
		}
		var way []string
		for _, l := range chain[i:] {
			way = append(way, l.pos.String())
		}
		return fmt.Errorf("builds nest each other in a circle: %s, and back to %s", strings.Join(way, " -> "), l.shown)
	}
	return nil
}

// once compiles a unit, or waits for whoever is compiling it. Nobody waits in a
// circle: a unit is waited for only by those that nest it, and circles are refused
// before.
func (c *composer) once(ctx context.Context, u unit, chain []link) (*graph.Stage, error) {
	key := u.key()
	c.mu.Lock()
	done := c.done[key]
	if done == nil {
		done = &composed{ready: make(chan struct{})}
		c.done[key] = done
		c.mu.Unlock()
		done.stage, done.err = c.compile(ctx, u, chain)
		close(done.ready)
		return done.stage, done.err
	}
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-done.ready:
		return done.stage, done.err
	}
}

func (c *composer) compile(ctx context.Context, u unit, chain []link) (*graph.Stage, error) {
	dirs := map[string]string{"context": u.dir, "dockerfile": filepath.Dir(u.file)}
	if err := c.job.locals.addNested("context", u.dir); err != nil {
		return nil, err
	}
	gw := &frontend.Files{Client: &nestedClient{Client: c.gw, opts: c.attrs(u)}, Dirs: dirs, Asked: c.asked}
	shown := shownPath(u.file)
	g, err := dockerfile.Compile(ctx, gw, c.optionsFor(u, dirs, shown, chain))
	if err != nil {
		return nil, err
	}
	if g == nil {
		return nil, fmt.Errorf("%s asks for an external frontend by its syntax line, which a nested build cannot use: drop the line", shown)
	}
	return g.Outputs()[0], nil
}

// inheritedArgs are the build arguments that hold for nested builds as well: not
// the user's own, which are one build file's, but those that say how to build.
func (c *composer) inheritedArgs() map[string]string {
	args := map[string]string{}
	for k, v := range c.job.req.BuildArgs {
		if k == "SOURCE_DATE_EPOCH" || strings.HasPrefix(k, "BUILDKIT_") {
			args[k] = v
		}
	}
	return args
}

// attrs are the frontend attributes of a nested build: what the outermost build
// was told about how to build, and nothing about what.
func (c *composer) attrs(u unit) map[string]string {
	attrs := map[string]string{"filename": filepath.Base(u.file)}
	for _, k := range []string{"image-resolve-mode", "force-network-mode", "add-hosts", "shm-size", "ulimit", "cgroup-parent"} {
		if v, ok := c.job.attrs[k]; ok {
			attrs[k] = v
		}
	}
	if v, ok := c.job.attrs["no-cache"]; ok && v == "" {
		attrs["no-cache"] = ""
	}
	if u.target != "" {
		attrs["target"] = u.target
	}
	if u.platform != "" {
		attrs["platform"] = u.platform
	}
	for k, v := range u.args {
		attrs["build-arg:"+k] = v
	}
	return attrs
}

// nestedClient is the gateway as a nested build sees it.
type nestedClient struct {
	gwclient.Client
	opts map[string]string
}

// BuildOpts implements gwclient.Client.
func (c *nestedClient) BuildOpts() gwclient.BuildOpts {
	bo := c.Client.BuildOpts()
	bo.Opts = maps.Clone(c.opts)
	return bo
}

// findBuildFile looks for the build file of a directory: a ZImagefile, else a
// Dockerfile or Containerfile.
func findBuildFile(dir string) (string, error) {
	file, err := zimage.Find(dir)
	if file != "" || err != nil {
		return file, err
	}
	for _, name := range buildFiles {
		if p := filepath.Join(dir, name); isFile(p) {
			return p, nil
		}
	}
	return "", noBuildFile(dir)
}

// noBuildFile says why a directory has no build file: none, or one that is no file.
func noBuildFile(dir string) error {
	for _, name := range append([]string{zimage.FileName}, buildFiles...) {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if fi, err := os.Stat(path); err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return fmt.Errorf("build file %s is a link that cannot be followed: %w", shownPath(path), err)
		} else if fi.IsDir() {
			return fmt.Errorf("build file %s is a directory", shownPath(path))
		}
	}
	return fmt.Errorf("no ZImagefile, Dockerfile or Containerfile in %s", shownPath(dir))
}

// shownPath is a path as a user in the working directory would write it.
func shownPath(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(wd); err == nil {
		wd = real
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, ".."+string(filepath.Separator)+"..") {
		return path
	}
	return rel
}
