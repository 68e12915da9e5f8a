package engine

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source"
	"github.com/zlayer-dev/zlayer/store"
)

// wanted is one output of a job as the memo knows it.
type wanted struct {
	Output
	// attrs are what BuildKit's exporter is given, names included.
	attrs map[string]string
	// names are the image's names at this output.
	names []string
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
	h := graph.NewHasher("zlayer.output.record.v1")
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
	for _, r := range records {
		if r != nil && (r.Image != nil || res.Metadata == nil) {
			res.fill(r.Metadata, j.outputs)
			if r.Image != nil {
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

// rememberFile files what an output has left at its destination.
func (j *job) rememberFile(ctx context.Context, trees *source.Trees, w *wanted, key digest.Digest) error {
	fk := w.fileKey(key)
	if fk == "" {
		return nil
	}
	kind, d, size := filesDigest(ctx, trees, w)
	if d == "" {
		return nil
	}
	return j.run.memo.Put(ctx, &memo.Record{Key: fk, Kind: kind, Digest: d, Size: size, Tool: j.engine.cfg.Version, Created: time.Now()})
}

// rememberRestored is rememberFile after an output was put back: the trees of the call
// have seen what was there before.
func (j *job) rememberRestored(ctx context.Context, w *wanted, key digest.Digest) error {
	trees := j.run.openTrees()
	defer trees.Close()
	return j.rememberFile(ctx, trees, w, key)
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

// filesDigest is what is at an output's destination; "" if there is nothing, or
// nothing that stays.
func filesDigest(ctx context.Context, trees *source.Trees, w *wanted) (kind string, d digest.Digest, size int64) {
	if w.Writer != nil || w.Dest == "" {
		return "", "", 0
	}
	abs, err := filepath.Abs(w.Dest)
	if err != nil {
		return "", "", 0
	}
	fi, err := os.Stat(abs)
	switch {
	case err != nil:
		return "", "", 0
	case fi.IsDir():
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return "", "", 0
		}
		view, err := trees.View(abs, source.Filter{})
		if err != nil {
			return "", "", 0
		}
		c, err := view.Digest(ctx, source.Selection{})
		if err != nil {
			return "", "", 0
		}
		return memo.KindDir, c.Digest, c.Bytes
	case fi.Mode().IsRegular():
		d, ok, err := trees.File(ctx, abs)
		if err != nil || !ok {
			return "", "", 0
		}
		return memo.KindFile, d, fi.Size()
	}
	return "", "", 0
}

// remember records what a build has delivered. Trouble with the memo is no trouble
// of the build: it is told as a warning.
func (j *job) remember(ctx context.Context, k *keys, res *Result) {
	if changed, err := j.changedSince(ctx); err == nil && len(changed) == 0 {
		j.write(ctx, k, res)
	}
}

// write records what a build has delivered that has read what is there now.
func (j *job) write(ctx context.Context, k *keys, res *Result) {
	if k == nil || k.base == "" || !j.sameBuild(ctx, k, res) {
		return
	}
	if j.isWasmArtifact() {
		if err := j.rememberWasm(ctx, k, res); err != nil {
			j.run.warn(fmt.Errorf("remembering the build: %w", err))
			return
		}
		j.rememberLast(k)
		return
	}
	desc, err := res.descriptor()
	if err != nil {
		return
	}
	// What this run has seen at the destinations is what was there before.
	trees := j.run.openTrees()
	defer trees.Close()
	parts := j.partsOf(ctx, k)
	for i := range j.outputs.wanted {
		w := &j.outputs.wanted[i]
		key := w.key(k.base)
		if key == "" {
			continue
		}
		rec := &memo.Record{
			Key: key, Kind: memo.KindNone, Metadata: res.Metadata, Names: w.names,
			Tool: j.engine.cfg.Version, Created: time.Now(),
		}
		if desc.Digest != "" && w.cache == nil && w.Type != OutputCacheOnly {
			rec.Kind, rec.Image = memo.KindImage, descriptorOf(desc)
		}
		if w.Type == OutputTar || w.Type == OutputLocal {
			// The image has the same files, but other times in them if it was told so.
			rec.Kind, rec.Names, rec.Files = memo.KindNone, j.imageNames(), j.filesRecord(ctx, w, k)
			if j.rewritesTimes() {
				rec.Image = nil
			}
		}
		rec.Parts, parts = parts, nil
		err := j.run.memo.Put(ctx, rec)
		if err == nil {
			err = j.rememberFile(ctx, trees, w, key)
		}
		if err != nil {
			j.run.warn(fmt.Errorf("remembering the build: %w", err))
			return
		}
	}
	j.rememberLast(k)
	j.rememberStages(ctx, k, desc)
}

// sameBuild reports whether what the daemon has built is what the keys are of: a
// daemon may compile differently, and a tag may have moved in between.
func (j *job) sameBuild(ctx context.Context, k *keys, res *Result) bool {
	if res.Graph == nil || res.prepared {
		return res.prepared
	}
	built := &keys{graph: res.Graph, stages: map[digest.Digest]stageKey{}}
	// What is not locked the daemon has looked up itself.
	if j.keyStages(ctx, built, j.pinSource) != nil {
		return false
	}
	base, err := j.baseKey(ctx, built)
	return err == nil && base == k.base
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
