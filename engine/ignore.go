package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source"
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

// nestedIgnore gives the text that stands for the ignore file of a build context when
// those below it count, too; nil where they do not. fileDir is where the build file is.
func (j *job) nestedIgnore(contextDir, fileDir string) func(ctx context.Context, dir, name string) ([]byte, bool, error) {
	if !j.req.NestedIgnore || contextDir == "" {
		return nil
	}
	return func(ctx context.Context, dir, name string) ([]byte, bool, error) {
		root := ""
		switch {
		case dir == contextDir && name == ".dockerignore":
		case dir == fileDir && strings.HasSuffix(name, ".dockerignore"):
			// That of one build file takes the place of the directory's.
			if !isFile(filepath.Join(dir, name)) {
				return nil, false, nil
			}
			rel, err := filepath.Rel(contextDir, filepath.Join(dir, name))
			if err != nil {
				return nil, false, err
			}
			root = filepath.ToSlash(rel)
		default:
			return nil, false, nil
		}
		patterns, _, err := source.NestedIgnore(ctx, j.trees, contextDir, root)
		if err != nil {
			return nil, false, inputErrorf("%w", err)
		}
		if len(patterns) == 0 {
			return nil, false, nil
		}
		return []byte(strings.Join(patterns, "\n") + "\n"), true, nil
	}
}
