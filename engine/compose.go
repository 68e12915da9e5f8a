package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/graph"
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

	mu   sync.Mutex
	done map[string]*composed
}

// composed is a unit being compiled, or compiled.
type composed struct {
	ready chan struct{}
	stage *graph.Stage
	err   error
}

func newComposer(j *job, gw gwclient.Client) *composer {
	return &composer{job: j, gw: gw, done: map[string]*composed{}}
}

// options is how the outermost build file is compiled.
func (c *composer) options() dockerfile.Options {
	j := c.job
	u := unit{dir: j.contextDir, file: filepath.Join(j.dirs["dockerfile"], j.attrs["filename"]), target: j.req.Target, args: j.req.BuildArgs}
	return c.optionsFor(u, j.dirs, j.shownFile, nil)
}

// optionsFor is how a unit is compiled; chain is the way to it.
func (c *composer) optionsFor(u unit, dirs map[string]string, shown string, chain []link) dockerfile.Options {
	return dockerfile.Options{
		Name: shown,
		Local: func(name string) string {
			if dir, ok := dirs[name]; ok {
				return uniqueName(name, dir)
			}
			return name
		},
		Nested: func(ctx context.Context, ref dockerfile.Reference) (*graph.Stage, error) {
			dir, ok := c.nestedDir(ref, len(chain) == 0)
			if !ok {
				return nil, nil
			}
			next := append(slices.Clone(chain), link{key: u.key(), shown: shown, pos: ref.Pos})
			return c.nested(ctx, dir, ref, next)
		},
	}
}

// nestedDir says which directory a name stands for. A named context that is a
// directory with a build file is a build where an image is needed, in FROM, and
// then wherever the file has the name; a name that only COPY and RUN use stands for
// the directory's files, as it does for other builders.
func (c *composer) nestedDir(ref dockerfile.Reference, outermost bool) (string, bool) {
	if !outermost {
		// Named contexts are the command line's, and that speaks of one build file.
		return "", false
	}
	dir, ok := c.job.buildDirs[normalName(ref.Name)]
	if !ok || !ref.InFrom {
		return "", false
	}
	return dir, true
}

// nested compiles the build of dir for the platform that ref needs.
func (c *composer) nested(ctx context.Context, dir string, ref dockerfile.Reference, chain []link) (*graph.Stage, error) {
	u := unit{dir: dir, args: c.inheritedArgs()}
	if ref.Platform != nil {
		u.platform = platforms.FormatAll(*ref.Platform)
	}
	var err error
	if u.file, err = findBuildFile(dir); err != nil {
		return nil, at(ref.Pos, err)
	}
	if err := c.job.mayRead(dir); err != nil {
		return nil, at(ref.Pos, err)
	}
	if err := checkChain(chain, u.key()); err != nil {
		return nil, at(ref.Pos, err)
	}
	return c.once(ctx, u, ref.Platform, chain)
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
func (c *composer) once(ctx context.Context, u unit, platform *ocispecs.Platform, chain []link) (*graph.Stage, error) {
	key := u.key()
	c.mu.Lock()
	done := c.done[key]
	if done == nil {
		done = &composed{ready: make(chan struct{})}
		c.done[key] = done
		c.mu.Unlock()
		done.stage, done.err = c.compile(ctx, u, platform, chain)
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

func (c *composer) compile(ctx context.Context, u unit, platform *ocispecs.Platform, chain []link) (*graph.Stage, error) {
	dirs := map[string]string{"context": u.dir, "dockerfile": filepath.Dir(u.file)}
	if err := c.job.locals.addNested("context", u.dir); err != nil {
		return nil, err
	}
	gw := &frontend.Files{Client: &nestedClient{Client: c.gw, opts: c.attrs(u)}, Dirs: dirs}
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

// findBuildFile looks for the build file of a directory.
func findBuildFile(dir string) (string, error) {
	for _, name := range buildFiles {
		if p := filepath.Join(dir, name); isFile(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no Dockerfile or Containerfile in %s", shownPath(dir))
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

// at gives an error a position unless it has one.
func at(pos graph.Pos, err error) error {
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return err
	}
	return &graph.PosError{Pos: pos, Err: err}
}
