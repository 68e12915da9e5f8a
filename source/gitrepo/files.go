package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

const (
	fetchTimeout = 2 * time.Minute
	// unused is how long a repository is kept that nobody asks for.
	unused = 30 * 24 * time.Hour
)

// Files are the files of one commit. Their contents are fetched when they are read,
// from servers that can do that.
type Files struct {
	dir, commit string
	// offline: nothing is fetched.
	offline bool
}

// Open fetches the names of the files of a commit; name is a reference that leads to
// it, for servers that give no commits by their ids. Without Dir nothing can be
// opened. offline fetches nothing.
func (r *Repos) Open(ctx context.Context, address, name, commit string, offline bool) (*Files, error) {
	if r.Dir == "" {
		return nil, errors.New("there is no place for repositories")
	}
	h := graph.NewHasher("zlayer.git.repo.v1")
	h.String(address)
	f := &Files{dir: filepath.Join(r.Dir, "repos", h.Digest().Encoded()[:40]), commit: commit, offline: offline}
	if _, err := os.Stat(f.fetched()); err == nil {
		now := time.Now()
		_ = os.Chtimes(f.dir, now, now) // should it fail, the repository is fetched again some day
		return f, nil
	}
	if offline {
		return nil, fmt.Errorf("commit %s: %w", commit, ErrUnknown)
	}
	if err := os.MkdirAll(filepath.Dir(f.dir), 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(r.Dir, "lock"))
	if err := lock.Lock(); err != nil {
		return nil, err
	}
	defer lock.Close()
	r.trim()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := f.fetch(ctx, address, name); err != nil {
		return nil, fmt.Errorf("reading %s: %w", address, err)
	}
	return f, os.WriteFile(f.fetched(), nil, 0o600)
}

// fetched is a file that is there once the commit is.
func (f *Files) fetched() string { return filepath.Join(f.dir, "fetched-"+f.commit) }

func (f *Files) fetch(ctx context.Context, address, name string) error {
	if _, err := run(ctx, f.dir, "init", "-q", "--bare"); err != nil {
		return err
	}
	for _, c := range [][2]string{
		{"remote.origin.url", address}, {"remote.origin.promisor", "true"}, {"remote.origin.partialclonefilter", "blob:none"},
	} {
		if _, err := run(ctx, f.dir, "config", c[0], c[1]); err != nil {
			return err
		}
	}
	fetch := []string{"fetch", "-q", "--depth=1", "--no-tags", "--no-recurse-submodules", "--filter=blob:none", "--", "origin"}
	_, err := run(ctx, f.dir, append(fetch, f.commit)...)
	if err == nil || name == "" || IsCommit(name) {
		return err
	}
	if _, err := run(ctx, f.dir, append(fetch, name)...); err != nil {
		return err
	}
	got, err := run(ctx, f.dir, "rev-parse", "FETCH_HEAD^{commit}")
	if err == nil && strings.TrimSpace(string(got)) != f.commit {
		return fmt.Errorf("%s is no longer %s", name, f.commit)
	}
	return err
}

// trim removes repositories that nobody has asked for in a while. The lock is held.
func (r *Repos) trim() {
	all, _ := filepath.Glob(filepath.Join(r.Dir, "repos", "*"))
	for _, dir := range all {
		if fi, err := os.Stat(dir); err == nil && time.Since(fi.ModTime()) > unused {
			_ = os.RemoveAll(dir)
		}
	}
}

// converted matches attributes by which git writes a file otherwise than it is kept.
var converted = lazyregexp.New(`crlf|ident|working-tree-encoding`)

// ErrOther says that a file is not simply what the commit has for its path: it is a
// link or a directory, or is converted when it is checked out.
var ErrOther = errors.New("not a plain file")

// Size is that of a file, as Read gives it.
func (f *Files) Size(ctx context.Context, name string) (int64, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	out, err := f.run(ctx, "ls-tree", "-z", "--long", f.commit, "--", name)
	if err != nil {
		return 0, err
	}
	// mode SP type SP id SP size TAB name NUL
	head, _, _ := strings.Cut(string(out), "\t")
	fields := strings.Fields(head)
	switch {
	case len(fields) == 0:
		return 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	case len(fields) != 4 || fields[0] != "100644" && fields[0] != "100755":
		return 0, fmt.Errorf("%s: %w", name, ErrOther)
	}
	return strconv.ParseInt(fields[3], 10, 64)
}

// Read reads a file; the error is fs.ErrNotExist or ErrOther where there is none.
// Files beyond limit are not read.
func (f *Files) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	size, err := f.Size(ctx, name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", name, limit, ErrOther)
	}
	if path.Base(name) != attributes {
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			text, err := f.Read(ctx, path.Join(dir, attributes), limit)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if converted().Match(text) {
				return nil, fmt.Errorf("%s may be converted: %w", name, ErrOther)
			}
			if dir == "." {
				break
			}
		}
	}
	return f.run(ctx, "cat-file", "blob", f.commit+":"+name)
}

const attributes = ".gitattributes"

func (f *Files) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if f.offline {
		args = append([]string{"-c", "protocol.allow=never"}, args...)
	}
	return run(ctx, f.dir, args...)
}
