// Package gitrepo asks git repositories what their references stand for, and reads single
// files of their commits without checking them out. It runs the program git, with the
// user's own configuration and credentials; it asks nobody for a password.
package gitrepo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zlayer-dev/zlayer/graph"
)

// Repos are repositories as they are looked at in one run: each reference is asked for
// once. It may be used by several goroutines.
type Repos struct {
	// Dir is where what is learnt is kept for later runs; empty is nowhere.
	Dir string
	// Patience is how long a repository may take to say what a reference stands for; 0
	// is as long as it likes.
	Patience time.Duration

	mu    sync.Mutex
	looks map[string]*look
}

// look is one question, and its answer once done is closed.
type look struct {
	done   chan struct{}
	commit string
	err    error
}

// ErrUnknown says that a reference has never been looked up on this machine.
var ErrUnknown = errors.New("not looked up before")

// IsCommit tells whether a name is the full id of a commit.
func IsCommit(name string) bool {
	return (len(name) == 40 || len(name) == 64) && strings.Trim(name, "0123456789abcdef") == ""
}

// HasPassword tells whether an address holds one. Such addresses are not for files and
// command lines, where others can read them.
func HasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return false
	}
	_, has := u.User.Password()
	return has || u.Scheme != "ssh" // a name alone is a token with http
}

// Commit asks the repository at an address for the commit of a branch, a tag or another
// reference; an empty name is its default branch. Where a name is ambiguous it takes
// what BuildKit takes.
func (r *Repos) Commit(ctx context.Context, address, name string) (string, error) {
	if IsCommit(name) {
		return name, nil
	}
	id := address + "#" + name
	r.mu.Lock()
	l := r.looks[id]
	asks := l == nil
	if asks {
		l = &look{done: make(chan struct{})}
		if r.looks == nil {
			r.looks = map[string]*look{}
		}
		r.looks[id] = l
	}
	r.mu.Unlock()
	if asks {
		l.commit, l.err = r.ask(ctx, address, name)
		if l.err == nil {
			r.remember(id, l.commit)
		}
		close(l.done)
	}
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-l.done:
		return l.commit, l.err
	}
}

// Looked is the answer that Commit has got before, in this run.
func (r *Repos) Looked(address, name string) (string, bool) {
	r.mu.Lock()
	l := r.looks[address+"#"+name]
	r.mu.Unlock()
	if l == nil {
		return "", false
	}
	select {
	case <-l.done:
		return l.commit, l.err == nil
	default:
		return "", false
	}
}

// Gave tells whether Commit has answered with a commit, in this run.
func (r *Repos) Gave(commit string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.looks {
		select {
		case <-l.done:
			if l.commit == commit {
				return true
			}
		default:
		}
	}
	return false
}

// Last is what a reference stood for when it was last looked up on this machine. The
// error is ErrUnknown if it never was.
func (r *Repos) Last(address, name string) (string, error) {
	if IsCommit(name) {
		return name, nil
	}
	if r.Dir == "" {
		return "", ErrUnknown
	}
	text, err := os.ReadFile(r.refFile(address + "#" + name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrUnknown
	}
	commit := strings.TrimSpace(string(text))
	if err == nil && !IsCommit(commit) {
		return "", ErrUnknown
	}
	return commit, err
}

func (r *Repos) refFile(id string) string {
	h := graph.NewHasher("zlayer.git.ref.v1")
	h.String(id)
	return filepath.Join(r.Dir, "refs", h.Digest().Encoded()[:40])
}

// remember keeps an answer for Last. That it cannot be written costs no more than that.
func (r *Repos) remember(id, commit string) {
	if r.Dir == "" {
		return
	}
	file := r.refFile(id)
	if old, err := os.ReadFile(file); err == nil && string(old) == commit+"\n" {
		return
	}
	if os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(commit + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		_ = os.Rename(tmp.Name(), file)
	}
}

// ask asks a repository.
func (r *Repos) ask(ctx context.Context, address, name string) (string, error) {
	if r.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Patience)
		defer cancel()
	}
	id := strings.TrimSuffix(address+"#"+name, "#")
	args := []string{"ls-remote", "--", address, cmp.Or(name, "HEAD")}
	if name != "" {
		args = append(args, name+"^{}")
	}
	out, err := run(ctx, "", args...)
	if err != nil {
		return "", fmt.Errorf("looking up %s: %w", id, err)
	}
	commit := choose(string(out), name)
	if !IsCommit(commit) {
		return "", fmt.Errorf("looking up %s: the repository has no such reference", id)
	}
	return commit, nil
}

// choose takes the commit of a name out of what ls-remote has listed, which is
// everything that ends in the name: the reference of that full name, else the branch,
// else the commit of the tag.
func choose(list, name string) string {
	refs := map[string]string{}
	for line := range strings.Lines(list) {
		if commit, ref, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			refs[ref] = commit
		}
	}
	if name == "" {
		return refs["HEAD"]
	}
	tag := "refs/tags/" + strings.TrimPrefix(name, "refs/tags/")
	for _, ref := range []string{
		"refs/" + strings.TrimPrefix(name, "refs/"), "refs/heads/" + strings.TrimPrefix(name, "refs/heads/"), tag + "^{}", tag,
	} {
		if refs[ref] != "" {
			return cmp.Or(refs[ref+"^{}"], refs[ref]) // an annotated tag is an object of its own
		}
	}
	return ""
}

// places are variables that tell git where it is, which it is told by us.
var places = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX"}

// run runs git, in a repository unless dir is empty, and gives what it prints.
func run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	what := args[0]
	if dir != "" {
		args = append([]string{"--git-dir", dir, "-c", "gc.auto=0"}, args...)
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(places, name)
	}), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if os.Getenv("GIT_SSH_COMMAND") == "" && os.Getenv("GIT_SSH") == "" {
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes")
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return nil, fmt.Errorf("git %s: %s", what, text)
		}
		return nil, fmt.Errorf("git %s: %w", what, err)
	}
	return out.Bytes(), nil
}
