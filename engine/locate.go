package engine

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/buildkit/util/archiveutil"

	"github.com/zlayer-dev/zlayer/graph"
)

// buildFiles are the names a build file is looked for by, in order. The
// lower-case one is for old projects (moby/moby#10858).
var buildFiles = []string{"Dockerfile", "dockerfile", "Containerfile"}

// locate finds the build context and the build file, and tells the frontend
// where they are.
func (j *job) locate() error {
	local := j.req.Context != "" && j.req.Context != "-" && !isRemote(j.req.Context)
	switch {
	case j.req.Stage != nil:
		return j.stageProgram()
	case j.req.Context == "":
		return inputErrorf("no build context given: name a directory, a URL or - for standard input")
	case !local && (j.req.Runtime != "" || j.req.RuntimeAuto):
		return inputErrorf("a runtime needs a build context that is a directory: its template depends on what is there")
	case j.req.Context == "-":
		return j.stdinContext()
	case isRemote(j.req.Context):
		return j.remoteContext()
	}
	return j.localContext()
}

// isRemote reports whether a context or build context is something the daemon
// fetches. What exists as a directory is one, whatever it looks like.
func isRemote(ref string) bool {
	if fi, err := os.Stat(ref); err == nil && fi.IsDir() {
		return false
	}
	if strings.HasPrefix(ref, "http://") || strings.HasPrefix(ref, "https://") {
		return true
	}
	_, ok, err := dfgitutil.ParseGitRef(ref)
	return ok && err == nil
}

func (j *job) localContext() error {
	dir, err := j.run.paths.existingDir("build context", j.req.Context)
	if err != nil {
		return err
	}
	j.mount("context", dir)
	j.contextDir = dir
	if err := j.localFile(dir); err != nil {
		return err
	}
	return j.checkIgnoreFiles()
}

// localFile finds the build file of the build context in dir.
func (j *job) localFile(dir string) error {
	if j.req.Runtime != "" || j.req.RuntimeAuto {
		return j.runtimeFile(dir)
	}
	switch j.req.File {
	case "-":
		return j.stdinFile()
	case "":
		if j.req.Wasm != nil {
			return j.wasmFile(dir)
		}
		file, err := findBuildFile(dir)
		if err != nil {
			return inputErrorf("%w: name the build file with -f", err)
		}
		return j.buildFile(filepath.Join(j.req.Context, filepath.Base(file)))
	}
	if isFile(j.req.File) {
		return j.buildFile(j.req.File)
	}
	if fi, err := os.Stat(j.req.File); err == nil && fi.IsDir() {
		return inputErrorf("build file %s is a directory: name the file in it", j.req.File)
	}
	if inside := filepath.Join(j.req.Context, j.req.File); !filepath.IsAbs(j.req.File) && isFile(inside) {
		return inputErrorf("build file %s does not exist: -f is relative to the working directory, so use -f %s", j.req.File, inside)
	}
	return inputErrorf("build file %s does not exist", j.req.File)
}

// buildFile makes a file on disk the build file. Its directory is what the
// daemon may read it from; a link that leads out of there is followed here.
func (j *job) buildFile(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return inputErrorf("opening the build file: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return j.pipedFile(path)
	}
	if fi.Size() == 0 {
		return emptyFile(path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if real, err := j.run.paths.of(abs); err == nil && filepath.Dir(real) != filepath.Dir(abs) {
		if fi, err := os.Lstat(abs); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			abs = real
		}
	}
	j.attrs["filename"] = filepath.Base(abs)
	j.shownFile = path
	j.mount("dockerfile", filepath.Dir(abs))
	return nil
}

// pipedFile makes what a pipe or a device gives the build file, as in a shell's
// -f <(command).
func (j *job) pipedFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return inputErrorf("opening the build file: %w", err)
	}
	defer f.Close()
	text, err := readLimited(f, maxBuildFile)
	if err != nil {
		return err
	}
	return j.fileText(text, path)
}

// emptyFile is the mistake of a build file that says nothing.
func emptyFile(shown string) error {
	return &graph.PosError{Pos: graph.Pos{File: shown, Line: 1}, Err: errors.New("the build file is empty")}
}

// stdinFile makes standard input the build file.
func (j *job) stdinFile() error {
	if j.req.Stdin == nil {
		return inputErrorf("the build file is to be read from standard input, which is not there")
	}
	text, err := readLimited(j.req.Stdin, maxBuildFile)
	if err != nil {
		return err
	}
	return j.fileText(text, "-")
}

// maxBuildFile bounds what is read as a build file (BuildKit's limit for one
// message).
const maxBuildFile = 16 << 20

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, inputErrorf("reading the build file: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, inputErrorf("the build file is larger than %d bytes", limit)
	}
	return text, nil
}

// fileText makes text the build file, in a directory of its own; shown is its
// name for the user.
func (j *job) fileText(text []byte, shown string) error {
	if len(text) == 0 {
		return emptyFile(shown)
	}
	dir, err := j.tempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o600); err != nil {
		return err
	}
	j.attrs["filename"] = "Dockerfile"
	j.shownFile, j.inMemory = shown, true
	j.mount("dockerfile", dir)
	return nil
}

// stdinContext reads an archive or a build file from standard input.
func (j *job) stdinContext() error {
	if j.req.Stdin == nil {
		return inputErrorf("the build context is to be read from standard input, which is not there")
	}
	if j.req.File == "-" {
		return inputErrorf("build context and build file cannot both come from standard input")
	}
	in := bufio.NewReaderSize(j.req.Stdin, 1024)
	head, err := in.Peek(1024)
	if err != nil && !errors.Is(err, io.EOF) {
		return inputErrorf("reading standard input: %w", err)
	}
	if len(head) == 0 {
		return inputErrorf("standard input is empty: it should be a tar archive or a build file")
	}
	if archiveutil.IsArchive(head) {
		up := uploadprovider.New()
		j.session = append(j.session, up)
		j.attrs["context"] = up.Add(io.NopCloser(in))
		if j.req.File != "" {
			j.attrs["filename"] = filepath.ToSlash(j.req.File)
		}
		j.shownFile = j.attrs["filename"]
		j.once = true
		return nil
	}
	if j.req.File != "" {
		return inputErrorf("standard input is a build file, so -f %s has no meaning: drop it, or send a tar archive", j.req.File)
	}
	text, err := readLimited(in, maxBuildFile)
	if err != nil {
		return err
	}
	dir, err := j.tempDir()
	if err != nil {
		return err
	}
	j.mount("context", dir)
	return j.fileText(text, "-")
}

// remoteContext leaves fetching to the daemon.
func (j *job) remoteContext() error {
	j.attrs["context"] = j.req.Context
	switch j.req.File {
	case "":
		if _, git, _ := dfgitutil.ParseGitRef(j.req.Context); !git {
			// Should the address be that of a build file, the frontend calls it so.
			j.shownFile, j.readFile = j.req.Context, "context"
		}
	case "-":
		if err := j.stdinFile(); err != nil {
			return err
		}
		j.attrs["dockerfilekey"] = "dockerfile"
	default:
		j.attrs["filename"] = filepath.ToSlash(j.req.File)
	}
	if j.shownFile == "" {
		j.shownFile = j.attrs["filename"]
	}
	return nil
}

// existingDir returns the absolute path of a directory with links resolved, so
// that one directory has one name. what says in errors what it is for.
func existingDir(what, path string) (string, error) { return new(realPaths).existingDir(what, path) }

// existingDir is the same with the paths that are known.
func (p *realPaths) existingDir(what, path string) (string, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", inputErrorf("%s %s does not exist", what, path)
	case err != nil:
		return "", inputErrorf("opening %s: %w", what, err)
	case !fi.IsDir():
		return "", inputErrorf("%s %s is a file: send an archive on standard input (zlayer build - < %s), or name a directory", what, path, path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if abs, err = p.of(abs); err != nil {
		return "", inputErrorf("opening %s: %w", what, err)
	}
	if err := listable(abs); err != nil {
		return "", inputErrorf("reading %s: %w", what, err)
	}
	return abs, nil
}

// listable reports whether a directory can be listed, without listing it.
func listable(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && !fi.IsDir()
}
