package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
	"github.com/zlayer-dev/zlayer/source"
)

// outOfReach are the words of those who could not ask a server, or got no answer.
var outOfReach = lazyregexp.New(`connection refused|connection reset|no such host|i/o timeout|network is unreachable|no route to host|server misbehaving|TLS handshake timeout|deadline exceeded|: 5\d\d [A-Z]|status code 5\d\d`)

// reachHint says what would spare a build the registry that is out of reach; "" where
// the error is about something else.
func (j *job) reachHint(err error) string {
	if !outOfReach().MatchString(err.Error()) {
		return ""
	}
	r, rerr := j.resolver()
	if rerr != nil {
		return ""
	}
	for _, f := range r.Failures() {
		if !outOfReach().MatchString(f.Err.Error()) {
			continue
		}
		if f.Last != "" {
			return fmt.Sprintf("\n%s stood for %s when it was last looked up: --offline or --pull=never builds with that; a lock file (zlayer lock) or the digest in the build file keeps it from being looked up at all", f.Ref, f.Last)
		}
		return fmt.Sprintf("\nnothing is known of %s here, so its registry has to be reached once; after that a lock file (zlayer lock), its digest in the build file, --pull=never or --offline do without", f.Ref)
	}
	return ""
}

var wrongCommit = lazyregexp.New(`expected checksum to match ([0-9a-f]{40,64}), got`)

// movedHint says that a git reference has moved between our look at it and the
// daemon's; "" where the error is about something else.
func (j *job) movedHint(err error) string {
	m := wrongCommit().FindStringSubmatch(err.Error())
	if m == nil || !j.run.git.Gave(m[1]) {
		return ""
	}
	return "\nthe reference has moved while it was built: build again"
}

var missingSource = lazyregexp.New(`^"(/[^"*?\[]+)": not found$`)

// ignoredHint names the rule of an ignore file that keeps a file from being sent which
// a step of the stage did not find; "" if there is none.
func (j *job) ignoredHint(ctx context.Context, s *graph.Stage, pos graph.Pos, err error) string {
	m := missingSource().FindStringSubmatch((&trimmedError{err: err}).text())
	if m == nil || s == nil {
		return ""
	}
	name := strings.TrimPrefix(m[1], "/")
	for _, src := range s.Sources {
		dir, ok := j.locals.dirOf(src.Ref)
		if src.Scheme != "local" || !ok {
			continue
		}
		f, err := source.FilterOf(src.Attrs)
		if err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			continue
		}
		if i, ok := source.WhyExcluded(f.Exclude, name); ok {
			return "\nit is there, but excluded by " + j.ignoreRule(ctx, ignoredFile{dir: dir, name: name, pattern: f.Exclude[i]}, pos)
		}
	}
	return ""
}

// ignoredFile is a file of a directory that a pattern keeps out.
type ignoredFile struct{ dir, name, pattern string }

// ignoreRule finds the line of an ignore file that has a pattern. pos is where the
// build file asks for the file.
func (j *job) ignoreRule(ctx context.Context, f ignoredFile, pos graph.Pos) string {
	own := filepath.Clean(pos.File) + ".dockerignore"
	files := []string{own, filepath.Join(f.dir, ".dockerignore")}
	if j.req.NestedIgnore {
		root := ""
		if abs, err := filepath.Abs(own); err == nil && isFile(abs) {
			if rel, err := filepath.Rel(f.dir, abs); err == nil {
				root = filepath.ToSlash(rel)
			}
		}
		if _, origin, err := source.NestedIgnore(ctx, j.trees, f.dir, root); err == nil {
			if file, line, ok := origin(f.name); ok {
				return fmt.Sprintf("%s:%d: %s", shownPath(filepath.Join(f.dir, filepath.FromSlash(file))), line, f.pattern)
			}
		}
	}
	for _, file := range files {
		if line := patternLine(file, f.pattern); line > 0 {
			if abs, err := filepath.Abs(file); err == nil {
				file = shownPath(abs)
			}
			return fmt.Sprintf("%s:%d: %s", file, line, f.pattern)
		}
	}
	return fmt.Sprintf("the pattern %q of an ignore file", f.pattern)
}

// patternLine is the last line of an ignore file that has a pattern, 0 if none has.
func patternLine(file, pattern string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	found, line := 0, 0
	for l := range bytes.Lines(text) {
		line++
		if patterns, err := ignorefile.ReadAll(bytes.NewReader(l)); err == nil && slices.Contains(patterns, pattern) {
			found = line
		}
	}
	return found
}
