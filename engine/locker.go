package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/source/lock"
)

// locker is one call of Lock.
type locker struct {
	options LockOptions
	path    string
	old     *lock.File
	fresh   *lock.File
}

// add locks what one request reads.
func (l *locker) add(ctx context.Context, r *run, req Request) error {
	l.prepare(&req)
	j, err := r.prepareCall(req)
	if err != nil {
		return err
	}
	defer j.close()
	if err := l.open(r, j); err != nil {
		return err
	}
	j.lock = l.kept()
	if err := l.lock(ctx, r, j); err != nil {
		return err
	}
	return l.images(j)
}

// prepare makes a request one to lock.
func (l *locker) prepare(req *Request) {
	req.lockLater, req.Locked, req.Offline, req.lockAnew = true, false, false, l.options.UpdateAll
}

// open reads the lock file of the first build.
func (l *locker) open(r *run, j *job) (err error) {
	if l.path == "" {
		if l.path = j.lockPath(); l.path == "" {
			return inputErrorf("a build context that is no directory has no place for a lock file: name one with --lock-file")
		}
		if l.old, _, err = r.readLock(l.path); err != nil && !l.options.UpdateAll {
			return asInput(err)
		}
	}
	return nil
}

// images locks the images that were looked up for a build.
func (l *locker) images(j *job) error {
	res, err := j.resolver()
	if err != nil {
		return err
	}
	for _, look := range res.Looks() {
		if !look.Fixed {
			l.fresh.Set(lock.Entry{Kind: lock.Image, Ref: look.Ref, Platform: look.Platform, Value: look.Digest.String()})
		}
	}
	return nil
}

// lock compiles a build and locks what it reads besides images.
func (l *locker) lock(ctx context.Context, r *run, j *job) error {
	k, err := j.compileKeys(ctx)
	if err != nil {
		return j.explain(ctx, err)
	}
	for _, s := range k.graph.Stages() {
		for _, src := range s.Sources {
			kind, ref := lockable(src)
			if kind == "" {
				continue
			}
			if _, done := l.fresh.Get(kind, ref, ""); done {
				continue
			}
			v, ok := j.lock.Get(kind, ref, "")
			if !ok {
				if v, err = r.lookUp(ctx, kind, ref); err != nil {
					return err
				}
			}
			l.fresh.Set(lock.Entry{Kind: kind, Ref: ref, Value: v})
		}
	}
	return nil
}

// kept are the entries that are not to be looked up again.
func (l *locker) kept() *lock.File {
	f := &lock.File{}
	for _, e := range l.old.Entries() {
		if !l.updates(e) {
			f.Set(e)
		}
	}
	return f
}

// updates reports whether an entry is to be looked up again.
func (l *locker) updates(e lock.Entry) bool {
	return l.options.Check || l.options.UpdateAll || slices.ContainsFunc(l.options.Update, func(name string) bool { return names(name, e) })
}

// names reports whether a name that a user gives means an entry: the reference in
// full or as people write it, with or without its tag, or a pattern of path.Match.
func names(name string, e lock.Entry) bool {
	forms := []string{e.Ref}
	if e.Kind == lock.Image {
		if n, err := reference.ParseNormalizedNamed(e.Ref); err == nil {
			forms = append(forms, reference.FamiliarString(n), reference.FamiliarName(n), n.Name())
		}
	}
	if e.Kind == lock.Git {
		repo, _, _ := strings.Cut(e.Ref, "#")
		forms = append(forms, repo)
	}
	for _, f := range forms {
		if ok, err := path.Match(name, f); f == name || ok && err == nil {
			return true
		}
	}
	return false
}

// finish compares with the file as it was, and writes it.
func (l *locker) finish() (*LockResult, error) {
	for _, name := range l.options.Update {
		if !slices.ContainsFunc(append(l.old.Entries(), l.fresh.Entries()...), func(e lock.Entry) bool { return names(name, e) }) {
			return nil, inputErrorf("nothing that is called %s is locked or read by these builds", name)
		}
	}
	res := &LockResult{Path: shownPath(l.path)}
	if !l.options.Prune {
		for _, e := range l.old.Entries() {
			if _, ok := l.fresh.Get(e.Kind, e.Ref, e.Platform); !ok {
				l.fresh.Set(e)
			}
		}
	}
	res.Entries = l.fresh.Entries()
	for _, e := range res.Entries {
		switch v, ok := l.old.Get(e.Kind, e.Ref, e.Platform); {
		case !ok:
			res.Added = append(res.Added, e)
		case v != e.Value:
			res.Changed = append(res.Changed, e)
		}
	}
	for _, e := range l.old.Entries() {
		if _, ok := l.fresh.Get(e.Kind, e.Ref, e.Platform); !ok {
			res.Removed = append(res.Removed, e)
		}
	}
	if l.options.Check {
		return res, nil
	}
	return res, l.fresh.Write(l.path)
}

// lookUp says what a git reference or an address stands for now.
func (r *run) lookUp(ctx context.Context, kind lock.Kind, ref string) (string, error) {
	if kind == lock.Git {
		address, name, _ := strings.Cut(ref, "#")
		return r.git.Commit(ctx, address, name)
	}
	return httpDigest(ctx, ref)
}

// httpTimeout bounds the download of something that is to be locked.
const httpTimeout = 10 * time.Minute

// httpDigest downloads an address and computes the digest of what it gives.
func httpDigest(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("looking up %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("looking up an address: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("looking up %s: the server answers %s", url, resp.Status)
	}
	h := digest.SHA256.Hash()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return "", fmt.Errorf("looking up %s: %w", url, err)
	}
	return digest.NewDigest(digest.SHA256, h).String(), nil
}

// descriptorOf makes the short descriptor that records keep.
func descriptorOf(d ocispecs.Descriptor) *ocispecs.Descriptor {
	return &ocispecs.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
