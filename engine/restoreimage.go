package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	archiveexporter "github.com/containerd/containerd/v2/core/images/archive"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client/ociindex"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/contentutil"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// deliverArchive writes an archive or a layout out of the store, as BuildKit does.
func (j *job) deliverArchive(ctx context.Context, w *wanted, rec *memo.Record) (func(context.Context) error, error) {
	config := digest.Digest(rec.Metadata[exptypes.ExporterImageConfigDigestKey])
	if p, ok := w.Writer.(*dockerPipe); ok && p.has(ctx, config, w.names) {
		return nil, nil
	}
	var names []string
	for _, n := range w.names {
		normal, err := store.NormalName(n)
		if err != nil {
			return nil, errMissed // the daemon says so
		}
		names = append(names, normal)
	}
	img, err := j.imageAt(ctx, rec)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		s, err := img.get(ctx)
		if err != nil {
			return err
		}
		if w.attrs["tar"] == "false" {
			err = saveLayout(ctx, s, w.Dest, exported(rec), names)
		} else {
			err = w.write(func(f io.Writer) error { return saveArchive(ctx, s, f, w.Type, exported(rec), names) })
		}
		if err != nil {
			return err
		}
		return j.rememberRestored(ctx, w, rec.Key)
	}, nil
}

// exported is the image of a record as its exporter described it, with the time that
// indexes tell.
func exported(rec *memo.Record) ocispecs.Descriptor {
	var desc ocispecs.Descriptor
	text, err := base64.StdEncoding.DecodeString(rec.Metadata[exptypes.ExporterImageDescriptorKey])
	if err != nil || json.Unmarshal(text, &desc) != nil || desc.Digest != rec.Image.Digest {
		return *rec.Image
	}
	return desc
}

// saveArchive writes the archive of an image as BuildKit's exporter does.
func saveArchive(ctx context.Context, s *store.Store, f io.Writer, t OutputType, desc ocispecs.Descriptor, names []string) error {
	opts := []archiveexporter.ExportOpt{archiveexporter.WithManifest(desc, names...)}
	if t == OutputOCI {
		opts = append(opts, archiveexporter.WithAllPlatforms(), archiveexporter.WithSkipDockerManifest())
	}
	if err := archiveexporter.Export(ctx, s.Content(), f, opts...); err != nil {
		return fmt.Errorf("saving image %s: %w", desc.Digest, err)
	}
	return nil
}

// saveLayout adds an image to an image layout as BuildKit's client does.
func saveLayout(ctx context.Context, s *store.Store, dir string, desc ocispecs.Descriptor, names []string) error {
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	layout, err := contentlocal.NewStore(dir)
	if err == nil {
		err = contentutil.CopyChain(ctx, layout, s.Content(), desc)
	}
	if err != nil {
		return fmt.Errorf("saving image %s: %w", desc.Digest, err)
	}
	tags := []ociindex.NameOrTag{ociindex.Tag("latest")}
	if len(names) > 0 {
		tags = nil
	}
	for _, n := range names {
		tags = append(tags, ociindex.Name(n))
	}
	return ociindex.NewStoreIndex(dir).Put(desc, tags...)
}

// isImage reports outputs that are images.
func (w *wanted) isImage() bool {
	return w.cache == nil && w.Type != OutputTar && w.Type != OutputLocal && w.Type != OutputCacheOnly
}

// imageNames are the names of the images among the outputs.
func (j *job) imageNames() []string {
	var names []string
	for _, w := range j.outputs.wanted {
		for _, n := range w.names {
			if w.isImage() && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

// rewritesTimes reports whether an image among the outputs may have other times in its
// layers than were built.
func (j *job) rewritesTimes() bool {
	return slices.ContainsFunc(j.outputs.wanted, func(w wanted) bool {
		return w.isImage() && w.attrs["rewrite-timestamp"] != ""
	})
}

// write fills the file or the writer of an output.
func (w *wanted) write(fill func(io.Writer) error) error {
	if w.Writer == nil {
		f := &fileWriter{dest: w.Dest}
		if err := f.open(); err != nil {
			return err
		}
		if err := fill(f); err != nil {
			return errors.Join(err, f.discard())
		}
		return f.commit()
	}
	if err := fill(w.Writer); err != nil {
		return err
	}
	if err := w.Writer.Close(); err != nil {
		return err
	}
	if f, ok := w.Writer.(interface{ Finish() error }); ok {
		return f.Finish()
	}
	return nil
}

// imageHere is an image that is in the store or can be had from a registry.
type imageHere struct {
	job  *job
	desc ocispecs.Descriptor
	// from is a name of it in a registry, "" if it is in the store.
	from string
}

// imageAt finds an image; the error is errMissed if there is none.
func (j *job) imageAt(ctx context.Context, rec *memo.Record) (imageHere, error) {
	if rec.Image == nil {
		return imageHere{}, errMissed
	}
	img := imageHere{job: j, desc: *rec.Image}
	s, err := j.engine.Store()
	if err != nil {
		return img, errMissed
	}
	if s.Complete(ctx, img.desc) != nil {
		var ok bool
		if img.from, ok = j.fetchable(ctx, rec); !ok {
			return img, errMissed
		}
	}
	return img, nil
}

// imageOf finds an image with the files of an output: that of the build which has made
// the output, or one that another build of the same has kept.
func (j *job) imageOf(ctx context.Context, k *keys, rec *memo.Record) (imageHere, error) {
	if img, err := j.imageAt(ctx, rec); err == nil {
		return img, nil
	}
	kept := []wanted{{Output: Output{Type: OutputStore}}}
	for _, w := range j.outputs.wanted {
		if w.isImage() && w.attrs["rewrite-timestamp"] == "" {
			kept = append(kept, w)
		}
	}
	for _, w := range kept {
		key := w.key(k.base)
		if key == "" {
			continue
		}
		if rec, err := j.run.memo.Get(ctx, key); err == nil {
			if img, err := j.imageAt(ctx, rec); err == nil {
				return img, nil
			}
		}
	}
	return imageHere{}, errMissed
}

// get makes sure that the store has the image.
func (i imageHere) get(ctx context.Context) (*store.Store, error) {
	if i.from != "" {
		if err := i.job.fetch(ctx, i.from, i.desc); err != nil {
			return nil, errors.Join(errMissed, err)
		}
	}
	return i.job.engine.Store()
}
