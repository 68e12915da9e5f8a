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
	// job is the request that the build is the outermost one of; nil for one that a
	// build file nests.
	job *job
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
	if u.job != nil {
		h.String(u.job.name)
	} else {
		h.String("")
	}
	for _, s := range []string{u.dir, u.file, u.target, u.platform} {
		h.String(s)
	}
	h.Map(u.args)
	return string(h.Digest())
}

// composer compiles a build and the builds nested in it into one graph. Each
// nested directory is compiled once for the same arguments and platform.
type composer struct {
	job *job
	// gateway is what a job is compiled against.
	gateway func(*job) gwclient.Client
	gw      gwclient.Client
	// warn is told what is odd about build files; nil tells nobody.
	warn func(solver.WarningInfo)
	// short finds images by short names; nil leaves them to Docker Hub.
	short *shortNames
	// asked is told the files that builds read or look for; nil tells nobody.
	asked func(path string)
	// inputs notes what compilations depend on; nil notes nothing.
	inputs *inputs
	units  *unitTable
	// self is the unit that is being compiled; nil outside of all.
	self *composed
}

// newComposer compiles a job against a gateway.
func newComposer(j *job, gw gwclient.Client, warn func(solver.WarningInfo)) *composer {
	c := &composer{job: j, gw: gw, warn: warn, units: newUnitTable()}
	c.gateway = func(*job) gwclient.Client { return gw }
	if j.req.DefaultRegistry != "" {
		c.short = newShortNames(j, gw)
	}
	return c
}

// forJob compiles for another job of the call, whose result this one is based on.
func (c *composer) forJob(j *job) *composer {
	if j == c.job {
		return c
	}
	n := *c
	n.job, n.gw, n.short = j, c.gateway(j), nil
	if j.req.DefaultRegistry != "" {
		n.short = newShortNames(j, n.gw)
	}
	return &n
}

// outermost is the build that a request asks for.
func (j *job) outermost() unit {
	return unit{
		job:      j,
		dir:      j.contextDir,
		file:     filepath.Join(j.dirs["dockerfile"], j.attrs["filename"]),
		target:   j.req.Target,
		args:     j.req.BuildArgs,
		platform: j.attrs["platform"],
	}
}

// options is how the outermost build file is compiled.
func (c *composer) options() dockerfile.Options {
	o := c.optionsFor(c.job.outermost(), c.job.dirs, c.job.shownFile, nil).Options
	// Answers and metadata name the outermost file as BuildKit's own frontend does;
	// errors and events get the user's name for it on their way out.
	o.Name = ""
	return o
}

// unitOptions are the options of a unit, and what its compilation finds out.
type unitOptions struct {
	dockerfile.Options
	conv *conversion
}

// optionsFor is how a unit is compiled; chain is the way to it.
func (c *composer) optionsFor(u unit, dirs map[string]string, shown string, chain []link) unitOptions {
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
			if u.job != nil {
				ref.Pos = c.job.shown(ref.Pos)
			}
			if s, ok, err := c.programState(ctx, u, ref); ok {
				if err == nil {
					conv.note(s)
					err = conv.checkBase(ref, new(windowsRules).ground(s))
				}
				return s, err
			}
			n, ok, err := c.nestedUnit(u, conv, ref)
			if !ok || err != nil {
				return nil, nesting(err)
			}
			next := append(slices.Clone(chain), link{key: u.key(), shown: shown, pos: ref.Pos})
			if err := checkChain(next, n.key()); err != nil {
				return nil, c.at(ref.Pos, conv, err)
			}
			done, err := c.once(ctx, n, next)
			switch {
			case errors.Is(err, errCircle):
				return nil, c.at(ref.Pos, conv, err)
			case err != nil:
				return nil, nestedBy(err, ref.Pos)
			}
			conv.note(done.stage)
			return done.stage, conv.checkBase(ref, done.ground)
		},
	}
	if c.short != nil {
		o.Resolve = c.resolveShort
	}
	return unitOptions{o, conv}
}

// nestedUnit says which build a name stands for; ok is false when it is an image.
func (c *composer) nestedUnit(u unit, conv *conversion, ref dockerfile.Reference) (n unit, ok bool, err error) {
	n = unit{args: c.inheritedArgs()}
	if ref.Platform != nil {
		n.platform = platforms.FormatAll(*ref.Platform)
	}
	var file string
	named := false
	if b, ok := conv.builds[normalName(ref.Name)]; ok {
		maps.Copy(n.args, b.Args)
		n.target, file = b.Target, b.File
		if n.dir, err = c.directive(u, b); err == nil {
			c.inputs.note(question{askContext, "", u.dir, b.Dir}, found(n.dir, "", nil))
		}
	} else if p, ok := c.programUnit(u, ref); ok {
		maps.Copy(n.args, p.args)
		n.dir, n.file, n.target = p.dir, p.file, p.target
		return n, true, nil
	} else if dir, ok := c.namedDir(ref, u.job != nil); ok {
		n.dir, named = dir, true
	} else if p := c.product(ref.Name); p != nil && u.job != nil {
		platform := n.platform
		n = p.outermost()
		n.platform = platform
		return n, true, c.at(ref.Pos, conv, p.broken)
	} else {
		return unit{}, false, nil
	}
	if err == nil {
		err = c.job.mayRead(n.dir)
	}
	if err == nil {
		n.file, err = nestedFile(n.dir, file)
		if named {
			err = whichNamed(ref.Name, err)
		} else {
			err = whichFile(err)
		}
	}
	if err == nil {
		c.inputs.note(question{askRead, c.job.name, n.dir, ""}, found("allowed", "", nil))
		c.inputs.note(question{askBuildFile, "", n.dir, file}, found(n.file, "", nil))
	}
	return n, true, c.at(ref.Pos, conv, err)
}

// product is the build of the call that a name stands for, nil where it is none.
func (c *composer) product(name string) *job {
	p := c.job.product(name)
	if c.inputs != nil {
		c.inputs.note(question{askProduct, c.job.name, name, ""}, c.job.productAnswer(name))
	}
	return p
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
	return directiveDir(u.dir, b.Dir)
}

// directiveDir finds the directory that a build in dir nests by a path.
func directiveDir(dir, path string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, filepath.FromSlash(path)))
	if err != nil {
		return "", fmt.Errorf("build context %s does not exist: it is relative to the build context, %s", path, shownPath(dir))
	}
	if fi, err := os.Stat(real); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("build context %s is not a directory", path)
	}
	return real, nil
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

// whichFile has a build: entry that cannot choose between files say how.
func whichFile(err error) error {
	var several *zimage.SeveralError
	if errors.As(err, &several) {
		return several.Say("say which one with file: in the long form of build")
	}
	return err
}

// whichNamed is the same of a named context, which has no way to say it.
func whichNamed(name string, err error) error {
	var several *zimage.SeveralError
	if errors.As(err, &several) {
		return fmt.Errorf("build context %s: %w", name, several.Say("call the one that is meant "+zimage.FileName+", which goes before the others; a named context cannot say which"))
	}
	return err
}

// at gives an error a position, unless it has one, and the text for its excerpt.
func (c *composer) at(pos graph.Pos, conv *conversion, err error) error {
	var pe *graph.PosError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &graph.PosError{Pos: pos, Err: err, Source: conv.text}
}

// once compiles a unit, or waits for whoever is compiling it.
func (c *composer) once(ctx context.Context, u unit, chain []link) (*composed, error) {
	done, err := c.units.once(ctx, u.key()+c.attrsKey(u), c.self, chain, func(ctx context.Context, done *composed) (*graph.Stage, error) {
		return c.compile(ctx, u, chain, done)
	})
	if done == nil {
		return nil, err
	}
	if c.asked != nil {
		for f := range done.files {
			c.asked(f)
		}
	}
	c.inputs.merge(&done.inputs)
	return done, err
}

// attrsKey tells apart compilations of one unit for requests that say differently how
// to build.
func (c *composer) attrsKey(u unit) string {
	h := graph.NewHasher("zlayer.unit.attrs.v1")
	h.Map(c.attrs(u))
	h.Map(c.job.req.Vars)
	return string(h.Digest())
}

// compile compiles a unit; what it reads goes into done.
func (c *composer) compile(ctx context.Context, u unit, chain []link, done *composed) (*graph.Stage, error) {
	dirs, shown := map[string]string{"context": u.dir, "dockerfile": filepath.Dir(u.file)}, shownPath(u.file)
	var texts map[string]map[string][]byte
	if u.job != nil {
		c, dirs, shown, texts = c.forJob(u.job), u.job.dirs, u.job.shownFile, u.job.texts
	} else {
		c.job.offer("context", u.dir)
	}
	var mu sync.Mutex
	inner := *c
	inner.self = done
	if c.inputs != nil {
		inner.inputs = &done.inputs
		inner.gw = &notingGateway{c.gw, c.job, inner.inputs}
	}
	inner.asked = func(path string) {
		mu.Lock()
		defer mu.Unlock()
		done.files[path] = true
	}
	gw := &frontend.Files{
		Client: &nestedClient{Client: inner.gw, opts: c.attrs(u)}, Dirs: dirs, Texts: texts, Asked: inner.asked,
		Saw: inner.inputs.sawFile(c.job, dirs["context"], dirs["dockerfile"]), Replace: c.job.nestedIgnore(dirs["context"], dirs["dockerfile"]),
	}
	o := inner.optionsFor(u, dirs, shown, chain)
	if u.job != nil && !u.job.run.batch {
		o.Name = "" // as BuildKit's own frontend has it
	}
	g, err := dockerfile.Compile(ctx, gw, o.Options)
	if err != nil {
		return nil, err
	}
	switch {
	case g == nil && u.job != nil:
		return nil, fmt.Errorf("the syntax line of %s names an external frontend: %w", shown, errNeedsDaemon)
	case g == nil:
		return nil, fmt.Errorf("%s asks for an external frontend by its syntax line, which a nested build cannot use: drop the line", shown)
	}
	if g, err = c.job.addCacheMounts(g, o.conv.nested); err != nil {
		return nil, err
	}
	done.ground = o.conv.rules.ground(g.Outputs()[0])
	return g.Outputs()[0], nil
}

// inheritedArgs are the build arguments that hold for nested builds as well: not
// the user's own, which are one build file's, but those that say how to build.
func (c *composer) inheritedArgs() map[string]string {
	args := map[string]string{}
	for k, v := range c.job.req.BuildArgs {
		if howToBuild(k) {
			args[k] = v
		}
	}
	return args
}

// howToBuild reports whether a build argument is about builds rather than one file's.
// Proxies are those of the network that all are built in.
func howToBuild(arg string) bool {
	return arg == "SOURCE_DATE_EPOCH" || strings.HasPrefix(arg, "BUILDKIT_") || slices.Contains(proxyArgs, strings.ToUpper(arg))
}

var proxyArgs = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

// attrs are the frontend attributes of a nested build.
func (c *composer) attrs(u unit) map[string]string {
	if u.job == nil {
		return nestedAttrs(u, c.job.attrs)
	}
	attrs := maps.Clone(u.job.attrs)
	maps.DeleteFunc(attrs, func(k, _ string) bool { return strings.HasPrefix(k, "attest:") })
	if delete(attrs, "platform"); u.platform != "" {
		attrs["platform"] = u.platform
	}
	return attrs
}

// nestedAttrs are the frontend attributes of a nested build: what the outermost
// build was told about how to build, and nothing about what.
func nestedAttrs(u unit, outer map[string]string) map[string]string {
	attrs := map[string]string{"filename": filepath.Base(u.file)}
	for _, k := range []string{"image-resolve-mode", "force-network-mode", "add-hosts", "shm-size", "ulimit", "cgroup-parent"} {
		if v, ok := outer[k]; ok {
			attrs[k] = v
		}
	}
	if v, ok := outer["no-cache"]; ok && v == "" {
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
	var several *zimage.SeveralError
	if errors.As(err, &several) {
		err = &zimage.SeveralError{Dir: shownPath(dir), Files: several.Files}
	}
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
