package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// errNotLocked says that a build which must be locked reads something that is not.
var errNotLocked = errors.New("it is not in the lock file: add it with zlayer lock, or build without --locked")

// lockPath is where the lock file of a job is: at the outermost directory that its
// builds may read, since builds nested in others are locked with them.
func (j *job) lockPath() string {
	if j.req.LockFile != "" {
		return j.req.LockFile
	}
	if j.contextDir == "" && j.program == nil {
		return ""
	}
	return filepath.Join(j.root(), lock.FileName)
}

// setLock reads the lock file.
func (j *job) setLock() error {
	path := j.lockPath()
	if j.req.lockAnew {
		return nil
	}
	if path == "" {
		if j.req.Locked {
			return inputErrorf("a build context that is no directory has no lock file: name one with --lock-file")
		}
		return nil
	}
	f, ok, err := j.run.readLock(path)
	if err != nil {
		return asInput(err)
	}
	if !ok && (j.req.Locked || j.req.LockFile != "" && !j.req.lockLater) {
		return inputErrorf("there is no lock file %s: write one with zlayer lock", shownPath(path))
	}
	if ok {
		j.lock = f
	}
	return nil
}

// readLock reads each lock file once.
func (r *run) readLock(path string) (*lock.File, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.locks[path]; ok {
		return f, f != nil, nil
	}
	f, ok, err := lock.Read(path, shownPath(path))
	if err != nil {
		return nil, false, err
	}
	if r.locks == nil {
		r.locks = map[string]*lock.File{}
	}
	if !ok {
		f = nil
	}
	r.locks[path] = f
	return f, ok, nil
}

// pinImage gives the digest that an image is locked to.
func (j *job) pinImage(ref string, p ocispecs.Platform) (digest.Digest, error) {
	if v, ok := j.lock.Get(lock.Image, ref, platforms.FormatAll(p)); ok {
		return digest.Digest(v), nil
	}
	if j.req.Locked {
		return "", fmt.Errorf("image %s for %s: %w", ref, platforms.FormatAll(p), errNotLocked)
	}
	return "", nil
}

// pinSource gives the commit or checksum that a source is locked to.
func (j *job) pinSource(src graph.Source) (graph.Source, error) {
	kind, ref := lockable(src)
	if kind == "" {
		return src, nil
	}
	v, ok := j.lock.Get(kind, ref, "")
	if !ok {
		if j.req.Locked {
			return src, fmt.Errorf("%s %s: %w", kind, ref, errNotLocked)
		}
		return src, nil
	}
	return pinned(src, kind, v), nil
}

// lockable tells how a lock file calls a source whose content can change; kind is ""
// for those that are fixed, and for images, which are resolved when they are named.
func lockable(src graph.Source) (kind lock.Kind, ref string) {
	switch src.Scheme {
	case "git":
		if graph.Pinned(src) {
			return "", ""
		}
		repo, name := repoOf(src)
		return lock.Git, repo + "#" + name
	case "http", "https":
		if graph.Pinned(src) {
			return "", ""
		}
		return lock.HTTP, src.Scheme + "://" + src.Ref
	}
	return "", ""
}

// pinned is a source with its content fixed.
func pinned(src graph.Source, kind lock.Kind, value string) graph.Source {
	attrs := maps.Clone(src.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	switch kind {
	case lock.Git:
		repo, frag, _ := strings.Cut(src.Ref, "#")
		_, sub, ok := strings.Cut(frag, ":")
		src.Ref = repo + "#" + value
		if ok {
			src.Ref += ":" + sub
		}
	case lock.HTTP:
		attrs[pb.AttrHTTPChecksum] = value
	}
	src.Attrs = attrs
	return src
}

// sourcePolicy is the lock in the form in which the daemon holds to it, for what is
// read by git and http and for frontends that resolve images themselves. It has rules
// for what g reads, and for all images.
func (j *job) sourcePolicy(g *graph.Graph) *spb.Policy {
	if j.lock == nil {
		return nil
	}
	p := &spb.Policy{Version: 1, Rules: imageRules(j.lock)}
	if g != nil {
		for _, s := range g.Stages() {
			p.Rules = append(p.Rules, sourceRules(j.lock, s.Sources)...)
		}
	}
	if len(p.Rules) == 0 {
		return nil
	}
	return p
}

// sourceRules are the rules for those of the sources that are locked and no images.
func sourceRules(f *lock.File, list []graph.Source) []*spb.Rule {
	var rules []*spb.Rule
	for _, src := range list {
		kind, ref := lockable(src)
		v, ok := f.Get(kind, ref, "")
		if kind == "" || !ok {
			continue
		}
		to := pinned(src, kind, v)
		attrs := map[string]string{}
		if kind == lock.HTTP {
			attrs[pb.AttrHTTPChecksum] = v
		}
		rules = append(rules, convertRule(spb.MatchType_EXACT, src.Scheme+"://"+src.Ref, to.Scheme+"://"+to.Ref, attrs))
	}
	return rules
}

// oneDigest gives the images that are locked to one digest for all their platforms:
// a rule of a policy cannot tell platforms apart.
func oneDigest(f *lock.File) map[string]string {
	out := map[string]string{}
	for _, e := range f.Entries() {
		if e.Kind != lock.Image {
			continue
		}
		if d, ok := out[e.Ref]; ok && d != e.Value {
			out[e.Ref] = ""
			continue
		}
		out[e.Ref] = e.Value
	}
	maps.DeleteFunc(out, func(_, d string) bool { return d == "" })
	return out
}

// LockOptions say what Lock does with what is locked already.
type LockOptions struct {
	// Update looks up again what the names match: image references as written in build
	// files or in the lock file, git and http URLs. Empty with UpdateAll is everything.
	Update    []string
	UpdateAll bool
	// Check changes nothing: the result says what would change.
	Check bool
	// Prune drops entries that no build of the call reads.
	Prune bool
}

// LockResult says what is locked.
type LockResult struct {
	// Path is the lock file.
	Path string `json:"path"`
	// Entries are all entries now.
	Entries []LockEntry `json:"entries"`
	// Added, Changed and Removed are those that differ from the file as it was.
	// Changed ones have the new value.
	Added   []LockEntry `json:"added,omitempty"`
	Changed []LockEntry `json:"changed,omitempty"`
	Removed []LockEntry `json:"removed,omitempty"`
}

// LockEntry is one line of a lock file.
type LockEntry = lock.Entry

// Lock compiles requests without building them and locks every image tag, git
// reference and address that they read. All requests are locked by one file, that of
// the first one.
func (e *Engine) Lock(ctx context.Context, reqs []Request, o LockOptions) (*LockResult, error) {
	if len(reqs) == 0 {
		return nil, inputErrorf("there is nothing to lock")
	}
	l := &locker{options: o, fresh: &lock.File{}}
	r, err := e.newRun(reqs[0])
	if err != nil {
		return nil, err
	}
	r.git.Patience = 0
	defer r.close()
	for _, req := range reqs {
		if err := l.add(ctx, r, req); err != nil {
			return nil, err
		}
	}
	return l.finish()
}

// LockPipeline is [Engine.Lock] for the images of a pipeline, those that come along too:
// what one of them makes is not looked up for another.
func (e *Engine) LockPipeline(ctx context.Context, p *Pipeline, po PipelineOptions, o LockOptions) (_ *LockResult, err error) {
	po.Events = nil
	l := &locker{options: o, fresh: &lock.File{}}
	b, err := e.pipelineBuilds(p, po, l.prepare)
	if err != nil {
		return nil, err
	}
	b.run.git.Patience = 0
	defer func() { err = errors.Join(err, b.close(), b.run.close()) }()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	if err := e.learnPlatform(ctx); err != nil {
		return nil, err
	}
	if err := l.open(b.run, b.images[0].job); err != nil {
		return nil, err
	}
	kept := l.kept()
	for _, i := range slices.Concat(b.images, b.aside) {
		i.job.lock = kept
	}
	for _, i := range b.images {
		if err := l.lock(ctx, b.run, i.job); err != nil {
			return nil, i.locate(err)
		}
	}
	// Images of those that come along were looked up for whoever reads these.
	for _, i := range slices.Concat(b.images, b.aside) {
		if err := l.images(i.job); err != nil {
			return nil, i.locate(err)
		}
	}
	return l.finish()
}
