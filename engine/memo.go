package engine

import (
	"context"
	"encoding/csv"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// wanted is one output of a job as the memo knows it.
type wanted struct {
	Output
	// attrs are what BuildKit's exporter is given, names included.
	attrs map[string]string
	// names are the image's names at this output.
	names []string
	// answer is what the exporter of an archive says; nil for other outputs.
	answer *answer
	// cache is set for a cache export, which is an output of a kind of its own.
	cache *CacheEntry
}

// placeAttrs are the attributes that say where an image goes, not what is in it.
var placeAttrs = []string{"name", "push", "registry.insecure", "tar", "dest", "mode"}

// opaqueAttrs are attributes with effects that cannot be looked for afterwards.
var opaqueAttrs = []string{"push-by-digest", "unpack", "store", "dangling-name-prefix", "name-canonical", "buildinfo"}

// key is what the record of an output is filed under; "" for one whose effect cannot
// be looked for, so that it has to be made each time.
func (w *wanted) key(base digest.Digest) digest.Digest {
	h := graph.NewHasher("zlayer.output.record.v2")
	h.String(string(base))
	if w.cache != nil {
		if w.cache.Type == "inline" {
			return "" // part of the image, and of base
		}
		attrs := maps.Clone(w.cache.Attrs)
		for _, list := range cacheEnv {
			for _, e := range list {
				delete(attrs, e.attr)
			}
		}
		h.String("cache")
		h.String(w.cache.Type)
		h.Map(attrs)
		return h.Digest()
	}
	attrs := maps.Clone(w.attrs)
	for _, a := range opaqueAttrs {
		if _, ok := attrs[a]; ok {
			return ""
		}
	}
	if w.Type == OutputImage && attrs["push"] != "true" {
		return "" // goes into a store of the daemon's
	}
	for _, a := range placeAttrs {
		delete(attrs, a)
	}
	// An image is the same one in the store, in an archive of its layout and in a
	// registry, so what one output has made serves the others.
	kind := string(w.Type)
	if w.Type == OutputStore || w.Type == OutputOCI || w.Type == OutputImage {
		kind = "image"
	}
	h.String(kind)
	h.Map(attrs)
	return h.Digest()
}

// fileKey is what the digest of an output's file or directory is filed under; "" for
// outputs that are none. key is that of the output.
func (w *wanted) fileKey(key digest.Digest) digest.Digest {
	switch {
	case w.cache != nil, w.Writer != nil, w.Dest == "":
		return ""
	case w.Type == OutputOCI || w.Type == OutputDocker || w.Type == OutputTar || w.Type == OutputLocal:
		h := graph.NewHasher("zlayer.output.file.v1")
		h.String(string(key))
		h.String(string(w.Type))
		h.Map(w.attrs)
		return h.Digest()
	}
	return ""
}

// errMissed says that an output has to be built.
var errMissed = errors.New("not in the memo")

// recall delivers the outputs from what earlier builds of the same key have left,
// without a daemon. The error is errMissed when something has to be built.
func (j *job) recall(ctx context.Context, k *keys) (*Result, error) {
	if k.base == "" || j.req.NoCache || len(j.req.NoCacheFilter) > 0 {
		return nil, errMissed
	}
	if j.isWasmArtifact() {
		return j.recallWasm(ctx, k)
	}
	records := make([]*memo.Record, len(j.outputs.wanted))
	steps := make([]func(context.Context) error, len(records))
	for i := range j.outputs.wanted {
		w := &j.outputs.wanted[i]
		key := w.key(k.base)
		if key == "" {
			if w.cache != nil {
				continue
			}
			return nil, errMissed
		}
		rec, err := j.run.memo.Get(ctx, key)
		if err != nil {
			return nil, errMissed
		}
		if j.fileThere(ctx, w, key) {
			records[i] = rec
			continue
		}
		step, err := j.deliver(ctx, k, w, rec)
		if err != nil {
			return nil, err
		}
		records[i], steps[i] = rec, step
	}
	res := &Result{Graph: k.graph, Stages: StageCounts{Cached: len(k.shownStages())}}
	for _, step := range steps {
		if step == nil {
			continue
		}
		done, err := j.run.export(ctx)
		if err != nil {
			return res, err
		}
		err = step(ctx)
		done()
		if err != nil {
			return res, err
		}
		res.Restored = true
	}
	j.tell(k, res)
	last := j.outputs.last()
	for i, r := range records {
		if r == nil {
			continue
		}
		if told := last == &j.outputs.wanted[i]; told || res.Metadata == nil || res.Digest == "" && r.Image != nil {
			res.fill(r.Metadata, j.outputs)
			if told {
				break
			}
		}
	}
	res.Tags = slices.Clone(j.outputs.names)
	return res, nil
}

// tell reports a build that had nothing to do as any other.
func (j *job) tell(k *keys, res *Result) {
	t := &solver.Tracker{Events: j.tellWarnings(k, res)}
	t.Recalled(k.shownStages(), k.warnings)
}

// deliver says how an output is made out of what its record tells of: nil when it is
// where it belongs already, errMissed when it has to be built.
func (j *job) deliver(ctx context.Context, k *keys, w *wanted, rec *memo.Record) (func(context.Context) error, error) {
	if w.cache != nil {
		if w.cache.Type == "local" && !isFile(filepath.Join(w.cache.Attrs["dest"], "index.json")) {
			return nil, errMissed
		}
		return nil, nil
	}
	switch w.Type {
	case OutputCacheOnly:
		return nil, nil
	case OutputStore:
		return j.deliverStore(ctx, w, rec)
	case OutputImage:
		return j.deliverPush(ctx, w, rec)
	case OutputOCI, OutputDocker:
		return j.deliverArchive(ctx, w, rec)
	case OutputTar, OutputLocal:
		return j.deliverFiles(ctx, k, w, rec)
	}
	return nil, errMissed
}

// fileThere reports whether the file or directory that an output makes is as an
// earlier build of the same key has left it.
func (j *job) fileThere(ctx context.Context, w *wanted, key digest.Digest) bool {
	fk := w.fileKey(key)
	if fk == "" {
		return false
	}
	rec, err := j.run.memo.Get(ctx, fk)
	if err != nil {
		return false
	}
	kind, d, _ := filesDigest(ctx, j.trees, w)
	return d != "" && kind == rec.Kind && d == rec.Digest
}

func (j *job) deliverStore(ctx context.Context, w *wanted, rec *memo.Record) (func(context.Context) error, error) {
	s := j.outputs.store
	img, err := j.imageAt(ctx, rec)
	if err != nil {
		return nil, err
	}
	if img.from == "" && s.Named(img.desc, w.names...) {
		return nil, nil
	}
	return func(ctx context.Context) error {
		if _, err := img.get(ctx); err != nil {
			return err
		}
		return s.Import(ctx, img.desc, w.names...)
	}, nil
}

// hasImage reports whether the engine's own store has all of an image, under some
// name or none, and under all of names.
func (j *job) hasImage(ctx context.Context, desc ocispecs.Descriptor, names ...string) bool {
	s, err := j.engine.Store()
	return err == nil && s.Named(desc, names...) && s.Complete(ctx, desc) == nil
}

// deliverPush looks whether the registry has the image under its names, by one
// request for each. What is missing comes from the store, or from the registry itself
// where only the name is.
func (j *job) deliverPush(ctx context.Context, w *wanted, rec *memo.Record) (func(context.Context) error, error) {
	if rec.Image == nil {
		return nil, errMissed
	}
	res, err := j.resolver()
	if err != nil {
		return nil, errMissed
	}
	var missing []string
	for _, n := range w.names {
		if d, err := res.Head(ctx, n); err != nil || d != rec.Image.Digest {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	stored := j.hasImage(ctx, *rec.Image)
	for _, n := range missing {
		if !stored && !res.Has(ctx, n, rec.Image.Digest) {
			return nil, errMissed
		}
	}
	desc := *rec.Image
	return func(ctx context.Context) error {
		for _, n := range missing {
			if !stored {
				if err := res.Retag(ctx, n, desc.Digest); err != nil {
					return err
				}
				continue
			}
			s, err := j.engine.Store()
			if err != nil {
				return err
			}
			o := store.PushOptions{Target: n, Insecure: w.attrs["registry.insecure"] == "true" || res.Insecure(n)}
			if err := j.often(ctx, func() error {
				_, err := s.Push(ctx, desc.Digest.String(), o)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// scannerDigest is the image that makes the SBOM that was asked for.
func (j *job) scannerDigest(ctx context.Context) (string, error) {
	list, ok := j.attrs["attest:sbom"]
	if !ok {
		return "", nil
	}
	ref := "docker.io/docker/buildkit-syft-scanner:stable-1" // BuildKit's default
	fields, err := csv.NewReader(strings.NewReader(list)).Read()
	if err != nil && list != "" {
		return "", err
	}
	for _, f := range fields {
		if g, ok := strings.CutPrefix(f, "generator="); ok {
			ref = g
		}
	}
	r, err := j.resolver()
	if err != nil {
		return "", err
	}
	p := j.run.platform()
	res, err := r.Resolve(ctx, ref, &p)
	return res.Digest.String(), err
}
