package frontend

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	cfs "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// Files is a gateway client that answers requests for single files of local
// directories (a build file, an ignore file) from the disk, where the daemon
// would first have the directory sent. Everything else goes to Client.
type Files struct {
	gwclient.Client
	// Dirs maps the names of local sources to absolute directories.
	Dirs map[string]string
	// Texts are files, by local source and name, that stand in place of those on disk. A
	// source that Dirs does not have consists of them.
	Texts map[string]map[string][]byte
	// Asked, if not nil, is told the path of every file that is read or looked for.
	Asked func(path string)
	// Saw, if not nil, is told of every question about a directory on disk. sum is that of
	// a file that was read as a whole, as Sum gives it; "" is of what cannot be summed up.
	// Of the attributes of a file only the size may be used, and only of one that is read
	// as well.
	Saw func(dir, name, sum string)
	// Replace, if not nil, gives the text of a file of a directory where another one is
	// to stand for what is on disk.
	Replace func(ctx context.Context, dir, name string) (text []byte, ok bool, err error)
}

// Solve implements gwclient.Client.
func (f *Files) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	name, ok := fileSource(req.Definition)
	if !ok {
		return f.Client.Solve(ctx, req)
	}
	dir, onDisk := f.Dirs[name]
	texts, inMemory := f.Texts[name]
	if !onDisk && !inMemory {
		return f.Client.Solve(ctx, req)
	}
	res := gwclient.NewResult()
	res.SetRef(dirRef{dir, texts, f.Asked, f.Saw, f.Replace})
	return res, nil
}

// Sum looks at one file of a directory in the way that a frontend is shown it, and gives
// what tells its text, or the reason why there is none, from others.
func (f *Files) Sum(ctx context.Context, dir, name string) string {
	text, err := dirRef{dir: dir, replace: f.Replace}.read(ctx, gwclient.ReadRequest{Filename: name})
	return sumOf(text, err)
}

func sumOf(text []byte, err error) string {
	switch {
	case err == nil:
		return digest.FromBytes(text).String()
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	}
	return "unreadable: " + err.Error()
}

// fileSource returns the name of the local source that a definition consists of.
// BuildKit's frontends ask for files they want to read themselves by a local
// source of its own, with the paths named and without a differ; the same source
// as part of a build has neither.
func fileSource(def *pb.Definition) (string, bool) {
	if def == nil || len(def.Def) != 2 {
		return "", false
	}
	var op pb.Op
	if err := op.UnmarshalVT(def.Def[0]); err != nil {
		return "", false
	}
	src := op.GetSource()
	if src == nil || src.Attrs[pb.AttrFollowPaths] == "" || src.Attrs[pb.AttrLocalDiffer] != pb.AttrLocalDifferNone {
		return "", false
	}
	return strings.CutPrefix(src.Identifier, "local://")
}

// dirRef is a directory on disk as a build result. Links are followed as they
// would be in an image: never out of the directory.
type dirRef struct {
	dir     string // "" where there are only texts
	texts   map[string][]byte
	asked   func(path string)
	saw     func(dir, name, sum string)
	replace func(ctx context.Context, dir, name string) ([]byte, bool, error)
}

var _ gwclient.Reference = dirRef{}

// errNoState says that a directory on disk is not a result of the daemon.
var errNoState = errors.New("a local directory cannot be used as a build result")

// ToState implements gwclient.Reference; it always fails.
func (d dirRef) ToState() (llb.State, error) { return llb.State{}, errNoState }

// Evaluate implements gwclient.Reference.
func (d dirRef) Evaluate(context.Context) error { return nil }

// ReadFile implements gwclient.Reference.
func (d dirRef) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	if text, ok := d.text(req.Filename); ok {
		return Cut(text, req.Range), nil
	}
	text, err := d.read(ctx, req)
	if req.Range != nil && err == nil && (req.Range.Offset != 0 || len(text) >= req.Range.Length) {
		d.noteOther(req.Filename) // there may be more of it
	} else if d.saw != nil && d.dir != "" {
		d.saw(d.dir, req.Filename, sumOf(text, err))
	}
	return text, err
}

// noteOther tells of a question whose answer has no sum.
func (d dirRef) noteOther(name string) {
	if d.saw != nil && d.dir != "" {
		d.saw(d.dir, name, "")
	}
}

// read reads a file that is on disk, or what stands for it.
func (d dirRef) read(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	p, err := d.resolve(req.Filename)
	if err != nil {
		return nil, err
	}
	if d.replace != nil {
		if text, ok, err := d.replace(ctx, d.dir, req.Filename); ok || err != nil {
			return Cut(text, req.Range), err
		}
	}
	file, err := os.Open(p)
	if err != nil {
		return nil, renamed(err, req.Filename)
	}
	defer file.Close()
	var r io.Reader = file
	if req.Range != nil {
		r = io.NewSectionReader(file, int64(req.Range.Offset), int64(req.Range.Length))
	}
	dt, err := io.ReadAll(r)
	return dt, renamed(err, req.Filename)
}

// Cut is the part of a text that was asked for; a nil range is all of it.
func Cut(text []byte, r *gwclient.FileRange) []byte {
	if r == nil {
		return text
	}
	from := min(max(r.Offset, 0), len(text))
	return text[from : from+min(max(r.Length, 0), len(text)-from)]
}

// StatFile implements gwclient.Reference.
func (d dirRef) StatFile(_ context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	if text, ok := d.text(req.Path); ok {
		return &fstypes.Stat{Path: req.Path, Mode: 0o644, Size: int64(len(text))}, nil
	}
	p, err := d.resolve(req.Path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(p)
	if err != nil {
		return nil, renamed(err, req.Path)
	}
	return stat(req.Path, info), nil
}

// ReadDir implements gwclient.Reference.
func (d dirRef) ReadDir(_ context.Context, req gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	d.noteOther(req.Path)
	p, err := d.resolve(req.Path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		return nil, renamed(err, req.Path)
	}
	var out []*fstypes.Stat
	for _, e := range entries {
		if req.IncludePattern != "" {
			ok, err := path.Match(req.IncludePattern, e.Name())
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, renamed(err, e.Name())
		}
		out = append(out, stat(e.Name(), info))
	}
	return out, nil
}

// text is a file that is not read from disk.
func (d dirRef) text(name string) ([]byte, bool) {
	text, ok := d.texts[strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")]
	return text, ok
}

func (d dirRef) resolve(name string) (string, error) {
	if d.dir == "" {
		return "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	p, err := cfs.RootPath(d.dir, filepath.FromSlash(name))
	if d.asked != nil && err == nil {
		d.asked(p)
	}
	return p, renamed(err, name)
}

// renamed replaces the absolute path in a file error by the name asked for: what
// the daemon would say, and what the user wrote.
func renamed(err error, name string) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: name, Err: pe.Err}
	}
	return err
}

func stat(name string, info fs.FileInfo) *fstypes.Stat {
	return &fstypes.Stat{
		Path:    name,
		Mode:    uint32(info.Mode()),
		Size:    info.Size(),
		ModTime: info.ModTime().UnixNano(),
	}
}
