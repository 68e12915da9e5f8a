package engine

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source"
)

// made is what the keys of a build were made of, kept with its record so that a later
// build can say what is different. Values of arguments are there as digests only.
type made struct {
	Version int                      `json:"version"`
	Args    map[string]digest.Digest `json:"args,omitempty"`
	Stages  []madeStage              `json:"stages"`
}

// madeVersion is counted up when older records no longer compare.
const madeVersion = 1

type madeStage struct {
	Name     string     `json:"name"`
	Platform string     `json:"platform"`
	Pos      graph.Pos  `json:"pos"`
	Key      graph.Key  `json:"key"`
	Parts    []madePart `json:"parts"`
}

type madePart struct {
	Kind  graph.PartKind `json:"kind"`
	Name  string         `json:"name"`
	Value digest.Digest  `json:"value"`
	Pos   graph.Pos      `json:"pos"`
	// Files are those of a PartFiles, unless there are too many to keep.
	Files []madeFile `json:"files,omitempty"`
}

// madeFile is one file; Sum is the beginning of its digest, enough to see a change.
type madeFile struct {
	Path string `json:"p"`
	Mode uint32 `json:"m"`
	Sum  string `json:"s,omitempty"`
}

// maxMadeFiles bounds the files that a record lists.
const maxMadeFiles = 200_000

// madeOf lists what the keys are made of.
func (j *job) madeOf(ctx context.Context, k *keys) (*made, error) {
	m := &made{Version: madeVersion, Args: map[string]digest.Digest{}}
	for name, v := range j.req.BuildArgs {
		h := graph.NewHasher("zlayer.arg.v1")
		h.String(name)
		h.String(v)
		m.Args[name] = h.Digest()
	}
	files, hide := 0, j.argHider()
	for _, s := range k.graph.Stages() {
		sk := k.stages[s.ID]
		ms := madeStage{Name: s.Name, Platform: platforms.FormatAll(s.Platform), Pos: j.shown(s.Pos), Key: sk.key}
		for _, p := range sk.parts {
			mp := madePart{Kind: p.Kind, Name: hide(p), Value: p.Value, Pos: j.shown(p.Pos)}
			if p.Kind == graph.PartFiles && files < maxMadeFiles {
				list, err := j.filesOf(ctx, p)
				if err != nil {
					return nil, err
				}
				files += len(list)
				mp.Files = list
			}
			ms.Parts = append(ms.Parts, mp)
		}
		m.Stages = append(m.Stages, ms)
	}
	return m, nil
}

// shortValue is the length from which values of arguments are hidden: shorter ones
// would be found where they are not meant.
const shortValue = 4

// argHider gives what names parts without the values of build arguments: BuildKit puts
// them into the texts of steps, and people put tokens into them.
func (j *job) argHider() func(graph.Part) string {
	type arg struct{ name, value string }
	var args []arg
	for name, v := range j.req.BuildArgs {
		if len(v) >= shortValue {
			args = append(args, arg{name, v})
		}
	}
	// The longest first, since one may be part of another.
	slices.SortFunc(args, func(a, b arg) int {
		return cmp.Or(len(b.value)-len(a.value), strings.Compare(a.name, b.name))
	})
	var pairs []string
	for _, a := range args {
		pairs = append(pairs, a.value, "$"+a.name)
	}
	r := strings.NewReplacer(pairs...)
	return func(p graph.Part) string {
		if p.Kind != graph.PartInstruction && p.Kind != graph.PartFiles {
			return p.Name
		}
		prefix := stepPrefix().FindString(p.Name)
		return prefix + r.Replace(p.Name[len(prefix):])
	}
}

// filesOf lists the files of a part.
func (j *job) filesOf(ctx context.Context, p graph.Part) ([]madeFile, error) {
	view, err := j.view(p.Source)
	if err != nil {
		return nil, err
	}
	entries, err := view.Entries(ctx, selection(p.Take))
	if err != nil {
		return nil, err
	}
	list := make([]madeFile, 0, len(entries))
	for _, e := range entries {
		list = append(list, madeFile{Path: e.Path, Mode: uint32(e.Mode), Sum: entrySum(e)})
	}
	return list, nil
}

// entrySum is equal for entries of equal content.
func entrySum(e source.Entry) string {
	if e.Link != "" {
		return "-> " + e.Link
	}
	if e.Digest == "" {
		return ""
	}
	return e.Digest.Encoded()[:16]
}

// partsOf is made in the form in which records keep it; nil when that cannot be had.
func (j *job) partsOf(ctx context.Context, k *keys) []byte {
	m, err := j.madeOf(ctx, k)
	if err != nil {
		return nil
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil
	}
	if json.NewEncoder(z).Encode(m) != nil || z.Close() != nil || b.Len() > memo.MaxParts {
		return nil
	}
	return b.Bytes()
}

// readParts is the inverse of partsOf.
func readParts(b []byte) (*made, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("reading what a build was made of: %w", err)
	}
	const limit = 256 << 20
	var m made
	if err := json.NewDecoder(io.LimitReader(z, limit)).Decode(&m); err != nil {
		return nil, fmt.Errorf("reading what a build was made of: %w", err)
	}
	if m.Version != madeVersion {
		return nil, fmt.Errorf("the last build was recorded by another version of zlayer")
	}
	return &m, nil
}

// last says which record the last build of a target has.
type last struct {
	Record digest.Digest `json:"record"`
}

// lastFile remembers the last build of what the request asks for: the same file,
// target and platforms, whatever else has changed.
func (j *job) lastFile() string {
	dir, where := j.engine.stateDir(), cmp.Or(j.contextDir, j.attrs["context"])
	if dir == "" || where == "" {
		return ""
	}
	h := graph.NewHasher("zlayer.target.v1")
	h.String(where)
	switch file := filepath.Join(j.dirs["dockerfile"], j.attrs["filename"]); {
	case !j.inMemory:
		h.String(file)
	case j.wasm != nil:
		h.String("wasm") // by whatever command
	default:
		h.String(j.shownFile)
	}
	h.String(j.req.Target)
	h.String(j.attrs["platform"])
	return filepath.Join(dir, "last", h.Digest().Encoded()[:40]+".json")
}

// rememberLast notes the build as the last one of its target, by its record that has the
// parts. That it cannot be written costs an explanation, no more.
func (j *job) rememberLast(record digest.Digest) {
	file := j.lastFile()
	if file == "" {
		return
	}
	text, err := json.Marshal(last{Record: record})
	if err == nil {
		noteFile(file, text)
	}
}

// sortedArgs lists the names of arguments in either of two builds.
func sortedArgs(a, b map[string]digest.Digest) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]digest.Digest{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
