package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	list := []string{j.root()}
	for _, dir := range j.dirs {
		list = append(list, dir)
	}
	return append(list, j.readAllowed...)
}

// root is the outermost directory of the build.
func (j *job) root() string {
	if j.req.Root != "" {
		if dir, err := existingDir("root", j.req.Root); err == nil {
			return dir
		}
	}
	start := j.contextDir
	if j.program != nil {
		start = j.programRoot()
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return start
		}
	}
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
