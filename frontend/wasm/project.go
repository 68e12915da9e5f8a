package wasm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxManifest bounds what is read of one file of a project.
const maxManifest = 16 << 20

// project is the directory that is built.
type project struct {
	fs fs.FS
}

// has tells whether the file is there.
func (p project) has(name string) bool {
	info, err := fs.Stat(p.fs, name)
	return err == nil && info.Mode().IsRegular()
}

// exists tells whether the file or directory is there.
func (p project) exists(name string) bool {
	_, err := fs.Stat(p.fs, name)
	return err == nil
}

// first gives the first of the files that is there, or "".
func (p project) first(names ...string) string {
	for _, n := range names {
		if p.has(n) {
			return n
		}
	}
	return ""
}

// read gives the content of a file; a file that is not there is nil.
func (p project) read(name string) ([]byte, error) {
	f, err := p.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the project: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("reading the project: %w", err)
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("reading the project: %s is larger than %d MiB", name, maxManifest>>20)
	}
	return data, nil
}

// files lists the files of a directory that end so, sorted; none if it is not there.
func (p project) files(dir string, exts ...string) []string {
	entries, err := fs.ReadDir(p.fs, dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(exts, path.Ext(e.Name())) {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names
}

// local checks a path that has to lie in the build context and cleans it.
func local(what, name string) (string, error) {
	clean := path.Clean(strings.TrimPrefix(strings.ReplaceAll(name, `\`, "/"), "./"))
	if !fs.ValidPath(clean) {
		return "", fmt.Errorf("%s %s is outside of the build context: paths are relative to it", what, name)
	}
	return clean, nil
}
