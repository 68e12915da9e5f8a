package zimage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// FileName is what a ZImagefile is called unless there are several.
const FileName = "ZImagefile"

// IsZImagefile reports whether a build file is a ZImagefile rather than a Dockerfile. The name
// decides: ZImagefile, ZImagefile.anything, and whatever ends in .yml or .yaml is one; Dockerfile,
// Containerfile and names that begin or end with these are none. For other names head does, the
// beginning of the file's text: a ZImagefile has a key of the format in its first column before
// anything else.
func IsZImagefile(name string, head []byte) bool {
	base := filepath.Base(filepath.FromSlash(name))
	lower := strings.ToLower(base)
	switch {
	case isIgnoreFile(base):
		return false
	case base == FileName || strings.HasPrefix(base, FileName+"."):
		return true
	case strings.HasSuffix(lower, ".yml") || strings.HasSuffix(lower, ".yaml"):
		return true
	}
	for _, other := range []string{"dockerfile", "containerfile"} {
		if lower == other || strings.HasPrefix(lower, other+".") || strings.HasSuffix(lower, "."+other) {
			return false
		}
	}
	return strings.HasPrefix(base, FileName) || looksLikeOne(head)
}

// isIgnoreFile reports whether a file says what a build file called like it does not see.
func isIgnoreFile(name string) bool { return strings.HasSuffix(name, ".dockerignore") }

// looksLikeOne looks for a key of the format in the first line that is no comment.
func looksLikeOne(head []byte) bool {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' || bytes.HasPrefix(line, []byte("---")) || line[0] == '%' {
			continue
		}
		var m yaml.Node
		key, _, ok := bytes.Cut(line, []byte(":"))
		if !ok || yaml.Unmarshal(key, &m) != nil || len(m.Content) != 1 || m.Content[0].Kind != yaml.ScalarNode {
			return false
		}
		return slices.Contains(fileTable().Keys(), m.Content[0].Value)
	}
	return false
}

// Find returns the path of the ZImagefile of a directory: the file of that name, else the only one
// called ZImagefile.SUFFIX. It is "" if there is none, also if there is no such directory. Several
// candidates are an error that lists them.
func Find(dir string) (string, error) {
	name, err := FindIn(os.DirFS(dir), dir)
	if name == "" || err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// FindIn is [Find] for a file system, of which it returns a name; shown is what errors call it.
func FindIn(dir fs.FS, shown string) (string, error) {
	if info, err := fs.Stat(dir, FileName); err == nil && !info.IsDir() {
		return FileName, nil
	}
	entries, err := fs.ReadDir(dir, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for a ZImagefile: %w", err)
	}
	var found []string
	for _, e := range entries {
		if suffix, ok := strings.CutPrefix(e.Name(), FileName+"."); ok && suffix != "" && !e.IsDir() && !isIgnoreFile(e.Name()) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", &SeveralError{Dir: shown, Files: found}
}

// SeveralError says that a directory has several ZImagefiles to choose from.
type SeveralError struct {
	Dir string
	// Files are their names, sorted.
	Files []string
}

// Error implements error.
func (e *SeveralError) Error() string { return e.Say("say which one with --file").Error() }

// Say is the error with another way to choose: that of the command line has a flag for it.
func (e *SeveralError) Say(how string) error {
	return fmt.Errorf("%s has several ZImagefiles (%s): %s", e.Dir, strings.Join(e.Files, ", "), how)
}
