package engine

import (
	"context"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

// FindBuilds lists the directories at and below dir that have a build file, sorted.
// In a git work tree they are those that git tracks or would track: what its ignore
// files exclude is not looked at. The paths begin with dir as it was given.
func FindBuilds(ctx context.Context, dir string) ([]string, error) {
	if _, err := existingDir("directory", dir); err != nil {
		return nil, err
	}
	paths, err := listFiles(ctx, dir)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, p := range paths {
		d := filepath.Join(dir, filepath.Dir(filepath.FromSlash(p)))
		if found[d] || !isBuildFileName(filepath.Base(p)) {
			continue
		}
		if hasBuildFile(d) { // git lists deleted files, too
			found[d] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// hasBuildFile reports whether a directory is meant to be built. That it has several
// ZImagefiles is a mistake which the build itself is to report.
func hasBuildFile(dir string) bool {
	file, err := zimage.Find(dir)
	return file != "" || err != nil || slices.ContainsFunc(buildFiles, func(name string) bool { return isFile(filepath.Join(dir, name)) })
}

// isBuildFileName reports whether a build file is looked for by a name.
func isBuildFileName(name string) bool {
	return slices.Contains(buildFiles, name) || name == zimage.FileName || strings.HasPrefix(name, zimage.FileName+".")
}

// listFiles lists files below dir with paths relative to it.
func listFiles(ctx context.Context, dir string) ([]string, error) {
	if inside, err := git(ctx, dir, nil, "rev-parse", "--is-inside-work-tree"); err == nil && inside == "true" {
		out, err := git(ctx, dir, nil, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
		if err != nil {
			return nil, err
		}
		return strings.Split(out, "\x00"), nil
	}
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		list = append(list, filepath.ToSlash(rel))
		return err
	})
	return list, err
}
