package engine

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// realPaths finds the paths without links of files and directories, those of the
// directories above them once in a call: builds of one call are mostly neighbours. The
// zero value knows none.
type realPaths struct {
	mu   sync.Mutex
	dirs map[string]string
}

// of is what [filepath.EvalSymlinks] gives for an absolute path.
func (p *realPaths) of(abs string) (string, error) {
	dir, name := filepath.Split(abs)
	if name == "" || filepath.Clean(abs) != abs {
		return filepath.EvalSymlinks(abs)
	}
	dir, err := p.dir(filepath.Clean(dir))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return filepath.EvalSymlinks(path)
	}
	return path, nil
}

// dir is the same for a directory, and remembered.
func (p *realPaths) dir(dir string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if real, ok := p.dirs[dir]; ok {
		return real, nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	if p.dirs == nil {
		p.dirs = map[string]string{}
	}
	p.dirs[dir] = real
	return real, nil
}
