package engine

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"
)

// The daemon answers for all exporters of a call with one map, in which each writes over
// what those before it have said of their images. Two images are the same one if their
// outputs have the same key; where they differ,
//
//   - the store and a layout come last, for what they were given is only known from
//     there, and images that are pushed come before them;
//   - of an archive it is known from what comes along with its bytes;
//   - of an image that is pushed in another form than that of the last one nothing is
//     known, so it is not remembered.

// exportRank is the place of an exporter among those of a call; 0 for what is no image.
func exportRank(kind string, attrs map[string]string) int {
	switch {
	case kind == string(OutputStore), attrs["tar"] == "false":
		return 3
	case kind == string(OutputImage):
		return 2
	case kind == string(OutputOCI), kind == string(OutputDocker):
		return 1
	}
	return 0
}

// orderExports puts the exporters in the order in which the last answer is the one that
// counts.
func (o *outputs) orderExports() {
	slices.SortStableFunc(o.exports, func(a, b client.ExportEntry) int {
		return cmp.Compare(exportRank(a.Type, a.Attrs), exportRank(b.Type, b.Attrs))
	})
}

// last is the output whose image the daemon's answer is about; nil if there is none.
func (o *outputs) last() *wanted {
	var last *wanted
	rank := 1
	for i := range o.wanted {
		w := &o.wanted[i]
		if w.cache != nil {
			continue
		}
		if r := exportRank(string(w.Type), w.attrs); r >= rank {
			last, rank = w, r
		}
	}
	return last
}

// answer is what the exporter of an archive has said of its image.
type answer struct {
	mu sync.Mutex
	md map[string]string
}

// listen has the exporter of an archive tell what it is of.
func listen(e *client.ExportEntry) *answer {
	a, open := &answer{}, e.Output
	e.Output = func(md map[string]string) (io.WriteCloser, error) {
		a.set(md)
		return open(md)
	}
	return a
}

func (a *answer) set(md map[string]string) {
	a.mu.Lock()
	a.md = maps.Clone(md)
	a.mu.Unlock()
}

func (a *answer) get() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.md
}

// imageAnswers are the entries of an answer that are about one image.
var imageAnswers = []string{
	exptypes.ExporterImageDigestKey, exptypes.ExporterImageConfigDigestKey,
	exptypes.ExporterImageDescriptorKey, exptypes.ExporterImageNameKey,
}

// answers are what is known of the images of a build, by the keys of their outputs.
func (j *job) answers(base digest.Digest, all map[string]string) map[digest.Digest]map[string]string {
	known := map[digest.Digest]map[string]string{}
	if w := j.outputs.last(); w != nil {
		known[w.key(base)] = all
	}
	for i := range j.outputs.wanted {
		w := &j.outputs.wanted[i]
		if w.answer == nil || w.answer.get()[exptypes.ExporterImageDigestKey] == "" {
			continue
		}
		key := w.key(base)
		if _, ok := known[key]; ok {
			continue
		}
		own := maps.Clone(all)
		for _, k := range imageAnswers {
			delete(own, k)
		}
		maps.Copy(own, w.answer.get())
		known[key] = own
	}
	return known
}
