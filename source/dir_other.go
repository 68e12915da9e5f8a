//go:build !linux

package source

import (
	"os"
	"path/filepath"
)

// openedDir is a directory that is being listed.
type openedDir struct {
	f    *os.File
	path string
}

func openDir(path string) (openedDir, error) {
	f, err := os.Open(path)
	return openedDir{f, path}, err
}

func (d openedDir) names([]byte) ([]string, error) { return d.f.Readdirnames(-1) }

func (d openedDir) lstat(name string) (stat, error) { return lstat(filepath.Join(d.path, name)) }

func (d openedDir) xattrs() (*sum, error) { return readXattrs(d.path) }

func (d openedDir) close() { d.f.Close() }
