package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/zlayer-dev/zlayer/source"
)

// localDirs are the directories a session offers to the daemon. Each is offered
// by the name that the frontend uses and by one that is its own: the daemon keeps
// a copy for each name, and takes a file of the copy for the one on disk when size
// and time agree, so two directories must never have one name
// (moby/buildkit#4817).
type localDirs struct {
	// normalize: permission bits are sent as 0644 or 0755.
	normalize bool
	// more has directories of other builds that this one may be based on; nil has none.
	more *localDirs

	mu sync.Mutex
	// paths are the directories by name.
	paths map[string]string
	// ids tell states of a directory apart that the daemon could not, by path.
	ids map[string]string
	// abort ends the build that reads the directories.
	abort context.CancelCauseFunc
}

var _ filesync.DirSource = (*localDirs)(nil)

// LookupDir implements filesync.DirSource.
func (l *localDirs) LookupDir(name string) (fsutil.FS, bool) {
	l.mu.Lock()
	dir, ok := l.paths[name]
	l.mu.Unlock()
	switch {
	case !ok && l.more != nil:
		return l.more.LookupDir(name)
	case !ok:
		return nil, false
	}
	d, err := l.open(dir)
	if err != nil {
		l.fail(err)
		return nil, false
	}
	return d, true
}

// add offers dir as name and as its own.
func (l *localDirs) add(name, dir string) { l.offer(dir, name, l.unique(name, dir)) }

// addNested offers dir under its own name alone: name is the outermost build's.
func (l *localDirs) addNested(name, dir string) { l.offer(dir, l.unique(name, dir)) }

// unique is the name of a local source that no other directory has, nor another
// state of the directory that the daemon could mistake for it.
func (l *localDirs) unique(name, dir string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uniqueName(name, dir, l.ids[dir])
}

// syncID is the state of a directory, "" before it has been looked at.
func (l *localDirs) syncID(dir string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[dir]
}

// dirOf is the directory behind a name.
func (l *localDirs) dirOf(name string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir, ok := l.paths[name]
	if !ok && l.more != nil {
		return l.more.dirOf(name)
	}
	return dir, ok
}

// all gives every directory by its names.
func (l *localDirs) all() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.paths)
}

// settle gives directories the states that their own names are made of, by path.
func (l *localDirs) settle(ids map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[string]string{}
	}
	maps.Copy(l.ids, ids)
}

func (l *localDirs) offer(dir string, names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paths == nil {
		l.paths = map[string]string{}
	}
	for _, n := range names {
		l.paths[n] = dir
	}
}

// open opens a directory for a daemon that asks for it: most are never asked for.
func (l *localDirs) open(dir string) (fsutil.FS, error) {
	root, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	// Owners on this machine mean nothing in an image.
	owned, err := fsutil.NewFilterFS(strictFS{FS: root, dir: dir, fail: l.fail}, &fsutil.FilterOpt{Map: func(_ string, st *fstypes.Stat) fsutil.MapResult {
		st.Uid, st.Gid = 0, 0
		if l.normalize {
			st.Mode = uint32(source.NormalizedMode(fs.FileMode(st.Mode)))
		}
		return fsutil.MapResultKeep
	}})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	return owned, nil
}

// watch ties the directories to a build, which ends when one cannot be read. The
// caller calls the function it returns when the build has ended.
func (l *localDirs) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abort = cancel
	return ctx, func() { cancel(nil) }
}

func (l *localDirs) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abort(err)
}

// attachable is what serves the directories to the daemon.
func (l *localDirs) attachable() session.Attachable { return filesync.NewFSSyncProvider(l) }

func uniqueName(name, dir, id string) string {
	sum := sha256.Sum256([]byte("zlayer.local.v2\x00" + dir + "\x00" + id))
	return name + "-" + hex.EncodeToString(sum[:uniqueBytes])
}

// uniqueBytes is how much of a digest makes a name unique.
const uniqueBytes = 10

// clientID tells this user's machine from others that use the same daemon: paths
// are the same on all of them, files are not. It is drawn once and kept in the
// state directory; where that cannot be written it lasts for the process.
func (e *Engine) clientID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != "" {
		return e.client
	}
	e.client = storedID(filepath.Join(e.stateDir(), "client-id"))
	return e.client
}

// storedID reads an id, or makes one. Of several processes that make it at once
// one wins.
func storedID(path string) string {
	if id, err := os.ReadFile(path); err == nil && len(id) > 0 {
		return strings.TrimSpace(string(id))
	}
	id := rand.Text()
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return id
	}
	tmp := path + "." + id
	if os.WriteFile(tmp, []byte(id+"\n"), 0o600) != nil {
		return id
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		if theirs, err := os.ReadFile(path); err == nil && len(theirs) > 0 {
			return strings.TrimSpace(string(theirs))
		}
	}
	return id
}

// localName offers a directory under its own name, and returns that.
func (j *job) localName(name, dir string) string {
	j.offer(name, dir)
	return j.locals.unique(name, dir)
}

// offer offers a directory under its own name, to this build and to those that are
// based on it.
func (j *job) offer(name, dir string) {
	j.locals.addNested(name, dir)
	j.run.sources.dirs.addNested(name, dir)
}
