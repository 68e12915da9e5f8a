package engine

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/zlayer-dev/zlayer/graph"
)

// checkIgnoreFiles checks the ignore file that the frontend takes: the build file's
// own, else that of the build context.
func (j *job) checkIgnoreFiles() error {
	own := filepath.Join(j.dirs["dockerfile"], cmp.Or(j.attrs["filename"], "Dockerfile")+".dockerignore")
	if isFile(own) {
		return checkIgnoreFile(own)
	}
	return checkIgnoreFile(filepath.Join(j.contextDir, ".dockerignore"))
}

// checkIgnoreFile refuses patterns that BuildKit could not read: it would say so
// without the place. The file need not be there.
func checkIgnoreFile(name string) error {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return inputErrorf("reading the ignore file: %w", err)
	}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		patterns, err := ignorefile.ReadAll(bytes.NewReader(l))
		if err == nil {
			_, err = patternmatcher.New(patterns)
		}
		if err != nil {
			return &graph.PosError{Pos: graph.Pos{File: name, Line: line}, Err: err, Source: text}
		}
	}
	return nil
}
