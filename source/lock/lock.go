// Package lock reads and writes lock files: what image tags, git references and
// addresses stood for when somebody last looked, so that builds use just that until
// somebody looks again.
//
// A lock file is text, one line an entry, sorted, with fields that are separated by
// one space, so that diffs and merges of it are readable:
//
//	zlayer-lock 1
//	git https://github.com/org/repo.git#main 4f1c…
//	http https://example.com/tool.tar.gz sha256:9d0a…
//	image docker.io/library/alpine:3.22 linux/amd64 sha256:77ed…
//
// Empty lines and lines that begin with # are comments; writing drops them.
package lock

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// FileName is the name of lock files.
const FileName = "zlayer.lock"

// header is the first line, with the version of the format.
const header = "zlayer-lock 1"

// maxFile bounds what is read as a lock file.
const maxFile = 16 << 20

// Kind says what an entry locks.
type Kind string

// The kinds of entries.
const (
	Image Kind = "image" // an image tag, for a platform
	Git   Kind = "git"   // a git reference
	HTTP  Kind = "http"  // an address
)

// Entry locks one source.
type Entry struct {
	Kind Kind `json:"kind"`
	// Ref is an image reference in full, a git URL with #reference, or an address.
	Ref string `json:"ref"`
	// Platform is that of an image, normalised; "" for other kinds.
	Platform string `json:"platform,omitempty"`
	// Value is a digest, or the commit of a git reference.
	Value string `json:"value"`
}

// File is the content of a lock file. The zero value locks nothing.
type File struct {
	entries map[key]string
}

type key struct {
	kind          Kind
	ref, platform string
}

// Get gives what a source is locked to.
func (f *File) Get(kind Kind, ref, platform string) (string, bool) {
	if f == nil {
		return "", false
	}
	v, ok := f.entries[key{kind, ref, platform}]
	return v, ok
}

// Set locks a source. The entry must be valid, see [Entry.Check].
func (f *File) Set(e Entry) {
	if f.entries == nil {
		f.entries = map[key]string{}
	}
	f.entries[key{e.Kind, e.Ref, e.Platform}] = e.Value
}

// Entries lists all entries in the order of the file.
func (f *File) Entries() []Entry {
	if f == nil {
		return nil
	}
	list := make([]Entry, 0, len(f.entries))
	for k, v := range f.entries {
		list = append(list, Entry{Kind: k.kind, Ref: k.ref, Platform: k.platform, Value: v})
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Platform, b.Platform))
	})
	return list
}

// Format is the text of the file.
func (f *File) Format() []byte {
	var b bytes.Buffer
	b.WriteString(header + "\n")
	for _, e := range f.Entries() {
		b.WriteString(e.String() + "\n")
	}
	return b.Bytes()
}

// String is the line of the entry.
func (e Entry) String() string {
	if e.Kind == Image {
		return strings.Join([]string{string(e.Kind), e.Ref, e.Platform, e.Value}, " ")
	}
	return strings.Join([]string{string(e.Kind), e.Ref, e.Value}, " ")
}

// Check says what is wrong with an entry.
func (e Entry) Check() error {
	if e.Ref == "" || strings.ContainsFunc(e.Ref, unicode.IsSpace) {
		return fmt.Errorf("%q is no reference", e.Ref)
	}
	switch e.Kind {
	case Image:
		p, err := platforms.Parse(e.Platform)
		if err != nil {
			return fmt.Errorf("platform %q: %w", e.Platform, err)
		}
		if s := platforms.FormatAll(platforms.Normalize(p)); s != e.Platform {
			return fmt.Errorf("platform %s is written %s", e.Platform, s)
		}
		return checkDigest(e.Value)
	case Git:
		if len(e.Value) != 40 && len(e.Value) != 64 || strings.Trim(e.Value, "0123456789abcdef") != "" {
			return fmt.Errorf("%q is no commit", e.Value)
		}
		return nil
	case HTTP:
		return checkDigest(e.Value)
	}
	return fmt.Errorf("%q is none of image, git and http", e.Kind)
}

func checkDigest(s string) error {
	if err := digest.Digest(s).Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", s, err)
	}
	return nil
}

// Parse reads the text of a lock file that is called name. All its mistakes are
// reported, each a [graph.PosError].
func Parse(name string, text []byte) (*File, error) {
	f := &File{}
	var errs []error
	first := true
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		err := f.parseLine(line, first)
		if first = false; err != nil {
			errs = append(errs, &graph.PosError{Pos: graph.Pos{File: name, Line: i + 1}, Err: err, Source: text})
		}
		if errors.Is(err, errVersion) {
			break
		}
	}
	if first {
		errs = append(errs, &graph.PosError{Pos: graph.Pos{File: name, Line: 1}, Err: errVersion, Source: text})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return f, nil
}

var errVersion = fmt.Errorf("a lock file begins with the line %q: write it anew with zlayer lock --update", header)

func (f *File) parseLine(line string, first bool) error {
	if first {
		if line != header {
			return errVersion
		}
		return nil
	}
	fields := strings.Split(line, " ")
	var e Entry
	switch {
	case fields[0] == string(Image) && len(fields) == 4:
		e = Entry{Kind: Image, Ref: fields[1], Platform: fields[2], Value: fields[3]}
	case fields[0] != string(Image) && len(fields) == 3:
		e = Entry{Kind: Kind(fields[0]), Ref: fields[1], Value: fields[2]}
	case strings.HasPrefix(line, "<<<<<<<") || strings.HasPrefix(line, "=======") || strings.HasPrefix(line, ">>>>>>>"):
		return errors.New("a merge has left a conflict: settle it, or write the file anew with zlayer lock --update")
	default:
		return errors.New("a line is one of: image REF PLATFORM DIGEST, git URL#REF COMMIT, http URL DIGEST")
	}
	if err := e.Check(); err != nil {
		return err
	}
	if old, ok := f.Get(e.Kind, e.Ref, e.Platform); ok && old != e.Value {
		return fmt.Errorf("%s is locked twice, to different values", e.Ref)
	}
	f.Set(e)
	return nil
}

// Read reads a lock file; one that does not exist locks nothing, and ok is false.
// Mistakes call the file shown.
func Read(path, shown string) (f *File, ok bool, err error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &File{}, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("reading the lock file: %w", err)
	case fi.Size() > maxFile:
		return nil, false, fmt.Errorf("reading the lock file: %s has more than %d bytes", shown, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("reading the lock file: %w", err)
	}
	f, err = Parse(shown, text)
	return f, err == nil, err
}

// writing is how long a lock file may take to be written; older unfinished files are
// what killed processes left.
const writing = time.Hour

// Write replaces a lock file as a whole; one that has the same text already is left
// alone. Unfinished files beside it that killed processes left are removed: they would
// be part of build contexts.
func (f *File) Write(path string) error {
	text := f.Format()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	beside, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range beside {
		fi, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "."+FileName+"-") && time.Since(fi.ModTime()) > writing {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+FileName+"-*")
	if err != nil {
		return fmt.Errorf("writing the lock file: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("writing the lock file: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("writing the lock file: %w", err)
	}
	return nil
}
