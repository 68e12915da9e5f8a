package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// mayRead refuses directories that a nested build has no business with: a build
// file that comes from elsewhere must not send the rest of the disk to a daemon.
func (j *job) mayRead(dir string) error {
	for _, d := range j.readable() {
		if within(d, dir) {
			return nil
		}
	}
	return fmt.Errorf("%s is outside of %s: name a directory that holds both with --root, or allow it with --allow fs.read=%s",
		shownPath(dir), shownPath(j.root()), shownPath(dir))
}

// readable lists the directories that nested builds may read: the root, those
// the user named as contexts, and those allowed.
func (j *job) readable() []string {
	j.outermostOnce.Do(func() { j.outermostDir = j.root() })
	list := []string{j.outermostDir}
	for _, dir := range j.dirs {
		list = append(list, dir)
	}
	return append(list, j.readAllowed...)
}

// root is the outermost directory of the build.
func (j *job) root() string {
	if j.req.Root != "" {
		if dir, err := j.run.roots.given(j.req.Root); err == nil {
			return dir
		}
	}
	start := j.contextDir
	if j.program != nil {
		start = j.programRoot()
	}
	if dir := j.run.roots.workTree(start); dir != "" {
		return dir
	}
	return start
}

// roots finds outermost directories, each once in a call.
type roots struct {
	mu    sync.Mutex
	dirs  map[string]givenRoot
	trees map[string]string
}

type givenRoot struct {
	dir string
	err error
}

// given is the directory that a request calls its root.
func (r *roots) given(path string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.dirs[path]
	if !ok {
		g.dir, g.err = existingDir("root", path)
		if r.dirs == nil {
			r.dirs = map[string]givenRoot{}
		}
		r.dirs[path] = g
	}
	return g.dir, g.err
}

// workTree is the git work tree that a directory is in, "" outside of any.
func (r *roots) workTree(dir string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.above(dir)
}

func (r *roots) above(dir string) string {
	if root, ok := r.trees[dir]; ok {
		return root
	}
	root := ""
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		root = dir
	} else if up := filepath.Dir(dir); up != dir {
		root = r.above(up)
	}
	if r.trees == nil {
		r.trees = map[string]string{}
	}
	r.trees[dir] = root
	return root
}

// within reports whether dir is root or below it; both are without links.
func within(root, dir string) bool {
	rel, err := filepath.Rel(root, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// allowRead grants the reading of a directory, "*" of all.
func (j *job) allowRead(dir string) error {
	if dir == "*" {
		dir = string(filepath.Separator)
	}
	abs, err := existingDir("directory", dir)
	if err != nil {
		return err
	}
	j.readAllowed = append(j.readAllowed, abs)
	return nil
}
