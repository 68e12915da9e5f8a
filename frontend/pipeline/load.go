package pipeline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// Options say which pipeline to load, and what the caller wants otherwise. Only File is needed.
type Options struct {
	// File is the path of the pipeline file, relative to the working directory. Positions call the file
	// so, and included files relative to it.
	File string
	// Text, if not nil, is the text of File, which is then not read. Paths are relative to the directory
	// of File all the same.
	Text []byte
	// Set are assignments: NAME=VALUE for variables, IMAGE.FIELD=VALUE for fields of images, where
	// IMAGE may have wildcards and += adds to lists. Later ones go before earlier ones.
	Set []string
	// Platforms, if not empty, are the platforms of all images.
	Platforms []string
	// Push, if not nil, says for all images whether their tags are pushed. Those that say "push: false"
	// themselves are not pushed in any case.
	Push *bool
	// LookupEnv finds the environment variables that variables ask for; nil is none.
	LookupEnv func(name string) (string, bool)
	// Selection says which images to build.
	Selection
}

// Names are what a pipeline file is called, in the order in which it is looked for.
func Names() []string {
	return []string{"ZPipeline.yaml", "ZPipeline.yml", "zlayer-pipeline.yaml", "zlayer-pipeline.yml"}
}

// Find returns the path of the pipeline file of a directory, the first of [Names] that is there. It
// is "" if there is none.
func Find(dir string) (string, error) {
	for _, name := range Names() {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("looking for a pipeline file: %w", err)
		}
		return path, nil
	}
	return "", nil
}

// maxFiles is how many files a pipeline may consist of.
const maxFiles = 10_000

// loader reads the files of a pipeline.
type loader struct {
	problems
	files []*file          // the first is the one asked for; each stands before what it includes
	byPos map[string]*file // by the names that positions use
	// broken says that there is a file of which nothing is known.
	broken bool
	// reading is the chain of files that include each other.
	reading []*file
	// workDir is the working directory.
	workDir string
	read    func(path string) ([]byte, error)
	glob    func(pattern string) ([]string, error)
}

func newLoader() *loader {
	return &loader{problems: problems{texts: map[string][]byte{}, rank: map[string]int{}}, byPos: map[string]*file{}, read: readFile, glob: filepath.Glob}
}

// maxFile is how long a file may be; yamlfile takes no longer ones either.
const maxFile = 16 << 20

// readFile reads a regular file: a device that never ends must not hang us.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is a directory")}
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// load reads the file asked for and what it includes. An error is none of the files' mistakes.
func (l *loader) load(opt Options) error {
	var err error
	if l.workDir, err = filepath.Abs("."); err != nil {
		return fmt.Errorf("finding the working directory: %w", err)
	}
	abs, err := filepath.Abs(opt.File)
	if err != nil {
		return fmt.Errorf("locating the pipeline file: %w", err)
	}
	text := opt.Text
	if text == nil {
		if text, err = l.read(abs); err != nil {
			return fmt.Errorf("reading the pipeline file: %w", err)
		}
	}
	l.add(opt.File, abs, text)
	return nil
}

// add parses a file, and follows what it includes.
func (l *loader) add(name, path string, text []byte) {
	l.texts[name], l.rank[name] = text, len(l.files)
	f, mistakes, ok := parse(name, text)
	f.path, f.dir = path, filepath.Dir(path)
	l.list = append(l.list, mistakes...)
	l.broken = l.broken || !ok
	l.files = append(l.files, f)
	l.byPos[name] = f
	l.reading = append(l.reading, f)
	for _, inc := range f.include {
		l.include(f, inc)
	}
	l.reading = l.reading[:len(l.reading)-1]
}

// include follows one entry of include.
func (l *loader) include(from *file, inc text) {
	if strings.Contains(inc.Value, "${") {
		l.errorf(inc.Pos, "variables cannot be used in include: they are known only when all files are read")
		return
	}
	pattern := inc.Value
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(from.dir, pattern)
	}
	paths := []string{pattern}
	if strings.ContainsAny(inc.Value, "*?[") {
		var err error
		if paths, err = l.glob(pattern); err != nil {
			l.errorf(inc.Pos, "include %q: %w", inc.Value, err)
			return
		}
		// a pattern may find the file that it stands in
		paths = slices.DeleteFunc(paths, func(p string) bool { return p == from.path })
		if len(paths) == 0 {
			l.errorf(inc.Pos, "include %q finds no file", inc.Value)
			l.broken = true
		}
	}
	for _, path := range paths {
		l.includeFile(from, inc, filepath.Clean(path))
	}
}

func (l *loader) includeFile(from *file, inc text, path string) {
	if i := slices.IndexFunc(l.reading, func(f *file) bool { return f.path == path }); i >= 0 {
		var chain []string
		for _, f := range l.reading[i:] {
			chain = append(chain, f.name)
		}
		l.errorf(inc.Pos, "the file includes itself: %s", strings.Join(append(chain, l.reading[i].name), " -> "))
		return
	}
	if slices.ContainsFunc(l.files, func(f *file) bool { return f.path == path }) {
		return // there already, by another way
	}
	if len(l.files) >= maxFiles {
		l.errorf(inc.Pos, "the pipeline has more than %d files", maxFiles)
		return
	}
	name := path
	if rel, err := filepath.Rel(from.dir, path); err == nil && !filepath.IsAbs(inc.Value) {
		name = filepath.Join(filepath.Dir(from.name), rel)
	}
	content, err := l.read(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		l.errorf(inc.Pos, "including %s: %w", name, err)
		l.broken = true
		return
	}
	l.add(name, path, content)
}

// Load reads a pipeline and resolves it. The mistakes of its files come all at once, in an error
// that [yamlfile.Errors] takes apart; each has its place, those of Options.Set and Options.Platforms
// the option.
func Load(opt Options) (*Plan, error) { return newLoader().plan(opt) }

func (l *loader) plan(opt Options) (*Plan, error) {
	if err := l.load(opt); err != nil {
		return nil, err
	}
	if l.broken {
		return nil, l.err() // what follows would complain of names that are there
	}
	r := &resolver{loader: l, opt: opt}
	p := r.resolve()
	if err := l.err(); err != nil {
		return nil, err
	}
	return p.Select(opt.Selection)
}

// at is the directory that paths in a text are relative to.
func (l *loader) at(pos graph.Pos) string {
	if f := l.byPos[pos.File]; f != nil {
		return f.dir
	}
	return l.workDir // a text of the command line
}
