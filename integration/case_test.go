package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"gopkg.in/yaml.v3"
)

// caseFile is the file that says how a build of the corpus is called; everything
// else in the case's directory is material for the build.
const caseFile = "case.yaml"

// buildCase is one build of the corpus: what is asked for, in the words of the
// command line, and what must come of it. The zero value is a plain build of the
// directory with its Dockerfile.
type buildCase struct {
	name string // directory below the corpus
	dir  string // where it lies

	// About says in one sentence what the case shows.
	About string `yaml:"about"`

	// Context is the build context: a directory of the case, "-" for none, or a
	// URL with {{git}} or {{http}} in it. Empty is the case's directory.
	Context string `yaml:"context"`
	// File is the build file, relative to the case's directory. Empty is the
	// frontend's default in the context.
	File      string            `yaml:"file"`
	Target    string            `yaml:"target"`
	Platforms []string          `yaml:"platforms"`
	Args      map[string]string `yaml:"args"`
	Labels    map[string]string `yaml:"labels"`
	// Contexts are named contexts: name to a directory of the case, a URL,
	// "docker-image://ref", "oci-layout://IMAGE" (the image is fetched from the lab
	// into a layout) or "input://DIR" (the directory as a frontend input).
	Contexts      map[string]string `yaml:"contexts"`
	NoCache       bool              `yaml:"no-cache"`
	NoCacheFilter []string          `yaml:"no-cache-filter"`
	Pull          string            `yaml:"pull"`
	Network       string            `yaml:"network"`
	AddHosts      []string          `yaml:"add-hosts"`
	ShmSize       int64             `yaml:"shm-size"`
	Ulimits       []string          `yaml:"ulimits"`
	Allow         []string          `yaml:"allow"`
	Secrets       map[string]string `yaml:"secrets"`
	SSH           []string          `yaml:"ssh"`
	Attests       map[string]string `yaml:"attests"`
	// Export are attributes of the image exporter.
	Export map[string]string `yaml:"export"`
	// Attrs are frontend attributes that have no flag of their own; the engine is
	// not asked to build such a case.
	Attrs map[string]string `yaml:"attrs"`
	// ReferenceAttrs are given to the reference only.
	ReferenceAttrs map[string]string `yaml:"reference-attrs"`

	// AllCalls asks the engine all subrequests, not only for the check.
	AllCalls bool `yaml:"all-calls"`
	// ReferenceCrashes lists subrequests that make BuildKit's frontend, and the
	// daemon with it, panic: only the subject is asked, and must answer.
	ReferenceCrashes []string `yaml:"reference-crashes"`

	// Files are made in the case's directory before the build: what a checkout
	// cannot hold.
	Files []madeFile `yaml:"files"`
	// Serve is a directory of the case that {{http}} serves; Git is one that is
	// committed to the repository {{git}}, with the tag v1 and the branch side.
	Serve string `yaml:"serve"`
	Git   string `yaml:"git"`
	// Needs are images of the lab that are made on demand.
	Needs []string `yaml:"needs"`

	// Fails is a part of the error message that the reference must end with.
	Fails string `yaml:"fails"`
	// EngineOnly keeps the case from BuildKit's frontend, which has no way to be
	// asked for such a thing.
	EngineOnly bool `yaml:"engine-only"`
	// Differs are the differences from the reference that are accepted.
	Differs []difference `yaml:"differs"`
}

// difference is an accepted difference from the reference and the reason.
type difference struct {
	// Subject is "frontend" or "engine".
	Subject string `yaml:"subject"`
	// What is an aspect of a build: image, provenance, error, warnings, outline,
	// targets, lint or describe.
	What string `yaml:"what"`
	// Why justifies the difference.
	Why string `yaml:"why"`
}

// madeFile is a file to make before the build. Exactly one of Dir, Symlink,
// Hardlink, Fifo, Tar and Content (which may be empty) says what.
type madeFile struct {
	Path     string `yaml:"path"`
	Dir      bool   `yaml:"dir"`
	Symlink  string `yaml:"symlink"`
	Hardlink string `yaml:"hardlink"`
	Fifo     bool   `yaml:"fifo"`
	Content  string `yaml:"content"`
	// Repeat writes Fill after the content, that many times.
	Fill   string `yaml:"fill"`
	Repeat int    `yaml:"repeat"`
	// Mode is octal; empty is 0644, 0755 for a directory.
	Mode string `yaml:"mode"`
	// Tar makes an archive with these entries, Compress says how it is packed:
	// "" or "gzip".
	Tar      []madeFile `yaml:"tar"`
	Compress string     `yaml:"compress"`
}

// loadCases reads all cases of a corpus below testdata, in the order of their
// names. A directory without a case file is a mistake.
func loadCases(tb testing.TB, corpus string) []*buildCase {
	tb.Helper()
	root := filepath.Join("testdata", corpus)
	entries, err := os.ReadDir(root)
	if err != nil {
		tb.Fatal(err)
	}
	var cases []*buildCase
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		c, err := loadCase(filepath.Join(root, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

func loadCase(dir string) (*buildCase, error) {
	data, err := os.ReadFile(filepath.Join(dir, caseFile))
	if err != nil {
		return nil, err
	}
	c := &buildCase{name: filepath.Base(dir), dir: dir}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, caseFile), err)
	}
	if c.About == "" {
		return nil, fmt.Errorf("reading %s: say under \"about\" what the case shows", filepath.Join(dir, caseFile))
	}
	for _, d := range c.Differs {
		if d.Subject != subjectFrontend && d.Subject != subjectEngine || d.What == "" || d.Why == "" {
			return nil, fmt.Errorf("reading %s: a difference needs subject (%s, %s), what and why",
				filepath.Join(dir, caseFile), subjectFrontend, subjectEngine)
		}
	}
	return c, nil
}

// accepted reports whether a difference of the subject in that aspect is listed.
func (c *buildCase) accepted(subject, what string) bool {
	for _, d := range c.Differs {
		if d.Subject == subject && d.What == what {
			return true
		}
	}
	return false
}

// copyTree copies the case's directory without the case file and what goldens
// lie beside it. Times and permission bits are made the same on every machine, so
// that neither the umask nor the time of the checkout counts.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if rel == caseFile || rel == goldenFile {
			return nil
		}
		return copyEntry(p, filepath.Join(to, rel), e)
	})
}

func copyEntry(from, to string, e fs.DirEntry) error {
	switch {
	case e.IsDir():
		return os.MkdirAll(to, 0o755)
	case e.Type() == fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return writeFile(to, data, mode)
}

// writeFile writes a file whose permission bits do not depend on the umask.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
