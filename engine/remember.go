package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/source"
)

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
		j.rememberLast(k.wasmKey())
		return
	}
	desc, err := res.descriptor()
	if err != nil {
		return
	}
	// What this run has seen at the destinations is what was there before.
	trees := j.run.openTrees()
	defer trees.Close()
	records := j.records(ctx, k, res, desc)
	if len(records) > 0 {
		records[0].Parts = j.partsOf(ctx, k)
	}
	made := map[digest.Digest]bool{}
	for _, rec := range records {
		made[rec.Key] = true
		if err == nil {
			err = j.run.memo.Put(ctx, rec)
		}
	}
	for i := range j.outputs.wanted {
		w := &j.outputs.wanted[i]
		if key := w.key(k.base); err == nil && made[key] {
			err = j.rememberFile(ctx, trees, w, key)
		}
	}
	if err != nil {
		j.run.warn(fmt.Errorf("remembering the build: %w", err))
		return
	}
	if len(records) > 0 {
		j.rememberLast(records[0].Key)
	}
	j.rememberStages(ctx, k, desc)
}

// records are what there is to remember of a build that gave desc, a record for each key
// that its outputs have.
func (j *job) records(ctx context.Context, k *keys, res *Result, desc ocispecs.Descriptor) []*memo.Record {
	var list []*memo.Record
	answers, known := j.answers(k.base, res.Metadata), map[digest.Digest]*memo.Record{}
	for i := range j.outputs.wanted {
		w := &j.outputs.wanted[i]
		key := w.key(k.base)
		if key == "" {
			continue
		}
		if rec := known[key]; rec != nil {
			for _, n := range w.names {
				if !slices.Contains(rec.Names, n) {
					rec.Names = append(rec.Names, n)
				}
			}
			continue
		}
		rec := &memo.Record{
			Key: key, Kind: memo.KindNone, Metadata: res.Metadata, Names: slices.Clone(w.names),
			Tool: j.engine.cfg.Version, Created: time.Now(),
		}
		switch {
		case w.isImage():
			image := Result{}
			image.fill(answers[key], outputs{})
			d, err := image.descriptor()
			if err != nil || d.Digest == "" {
				continue
			}
			rec.Kind, rec.Image, rec.Metadata = memo.KindImage, descriptorOf(d), answers[key]
		case w.Type == OutputTar || w.Type == OutputLocal:
			rec.Names, rec.Files = j.imageNames(), j.filesRecord(ctx, w, k)
			// The image has the same files, but other times in them if it was told so.
			if desc.Digest != "" && !j.rewritesTimes() {
				rec.Image = descriptorOf(desc)
			}
		}
		known[key] = rec
		list = append(list, rec)
	}
	return list
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
