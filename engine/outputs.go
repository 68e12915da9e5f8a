package engine

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/store"
)

// outputs are the exports of a job and what has to be done around them.
type outputs struct {
	exports []client.ExportEntry
	// wanted are the same outputs as the memo knows them, and the cache exports.
	wanted []wanted
	// names are the normalised tags.
	names []string
	// store is set when the image goes into our own store.
	store *store.Store
	// finish is called in order after a successful build, to make results durable.
	finish []func(ctx context.Context, desc ocispecs.Descriptor) error
	image  bool
}

// setOutputs turns the request's outputs into BuildKit exports.
func (j *job) setOutputs() error {
	for _, t := range j.req.Tags {
		name, err := store.NormalName(t)
		if err != nil {
			return &InputError{Err: err}
		}
		if !slices.Contains(j.outputs.names, name) {
			j.outputs.names = append(j.outputs.names, name)
		}
	}
	list, err := j.wantedOutputs()
	if err != nil {
		return err
	}
	if j.isWasmArtifact() {
		return j.wasmOutputs(list)
	}
	for _, o := range list {
		if err := j.addOutput(o); err != nil {
			return err
		}
	}
	for _, c := range j.req.CacheTo {
		j.outputs.wanted = append(j.outputs.wanted, wanted{cache: &c})
	}
	if len(j.req.Annotations) > 0 && !j.outputs.image {
		return inputErrorf("annotations need an image as output")
	}
	stores := 0
	for _, e := range j.outputs.exports {
		if e.OutputStore != nil || e.OutputDir != "" && e.Type != client.ExporterLocal {
			stores++
		}
	}
	if stores > 1 {
		return inputErrorf("only one output of a build can be a store or an image layout directory: export once, and use zlayer save for the rest")
	}
	j.outputs.orderExports()
	return nil
}

// wantedOutputs spells out the short forms: no output, --push and --load.
func (j *job) wantedOutputs() ([]Output, error) {
	list := slices.Clone(j.req.Outputs)
	if j.req.Push {
		pushed := false
		for i, o := range list {
			if o.Type == OutputImage {
				list[i].Attrs = withAttr(o.Attrs, "push", "true")
				pushed = true
			}
		}
		if !pushed {
			list = append(list, Output{Type: OutputImage, Attrs: map[string]string{"push": "true"}})
		}
	}
	if j.req.Load {
		w, err := j.dockerLoad()
		if err != nil {
			return nil, err
		}
		list = append(list, Output{Type: OutputDocker, Writer: w})
	}
	if len(list) == 0 {
		list = append(list, Output{Type: OutputStore})
	}
	return list, nil
}

func withAttr(attrs map[string]string, k, v string) map[string]string {
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs[k] = v
	return attrs
}

func (j *job) addOutput(o Output) error {
	attrs := maps.Clone(o.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	e := client.ExportEntry{Type: string(o.Type), Attrs: attrs}
	var said *answer
	switch o.Type {
	case OutputStore:
		return j.storeOutput(o, e)
	case OutputCacheOnly:
		j.want(o, attrs)
		return refuseDest(o)
	case OutputImage:
		if err := refuseDest(o); err != nil {
			return err
		}
		j.nameImage(attrs)
		if attrs["push"] == "true" && attrs["name"] == "" {
			return inputErrorf("nothing to push: give the image a name with a tag (-t registry/name:tag)")
		}
	case OutputOCI, OutputDocker:
		if o.Type == OutputDocker && strings.Contains(j.attrs["platform"], ",") {
			return inputErrorf("docker's archive format holds one platform: ask for one, or for the output oci")
		}
		j.nameImage(attrs)
		if attrs["tar"] == "false" {
			if o.Dest == "" || o.Writer != nil {
				return inputErrorf("output %s with tar=false needs dest=DIRECTORY", o.Type)
			}
			if err := refuseFile(o); err != nil {
				return err
			}
			e.OutputDir = o.Dest
			break
		}
		if err := j.fileOutput(o, &e); err != nil {
			return err
		}
		said = listen(&e)
	case OutputTar:
		if err := j.fileOutput(o, &e); err != nil {
			return err
		}
	case OutputLocal:
		if o.Dest == "" {
			return inputErrorf("output local needs dest=DIRECTORY")
		}
		if err := refuseFile(o); err != nil {
			return err
		}
		e.OutputDir = o.Dest
	default:
		return inputErrorf("output type %q is none of store, image, oci, docker, tar, local and cacheonly", o.Type)
	}
	if err := j.annotate(o.Type, attrs); err != nil {
		return err
	}
	j.outputs.exports = append(j.outputs.exports, e)
	j.want(o, attrs)
	j.outputs.wanted[len(j.outputs.wanted)-1].answer = said
	return nil
}

// want notes an output for the memo.
func (j *job) want(o Output, attrs map[string]string) {
	w := wanted{Output: o, attrs: maps.Clone(attrs)}
	if names := attrs["name"]; names != "" {
		w.names = strings.Split(names, ",")
	}
	j.outputs.wanted = append(j.outputs.wanted, w)
}

func refuseDest(o Output) error {
	if o.Dest != "" || o.Writer != nil {
		return inputErrorf("output %s has no destination: drop dest", o.Type)
	}
	return nil
}

// nameImage gives an image output the request's tags unless it has names of its own.
func (j *job) nameImage(attrs map[string]string) {
	if attrs["name"] == "" && len(j.outputs.names) > 0 {
		attrs["name"] = strings.Join(j.outputs.names, ",")
	}
}

// storeOutput exports into the content of our own store: blobs that are there
// already are not sent.
func (j *job) storeOutput(o Output, e client.ExportEntry) error {
	if err := refuseDest(o); err != nil {
		return err
	}
	s, err := j.engine.Store()
	if err != nil {
		return err
	}
	j.outputs.store = s
	e.Type = client.ExporterOCI
	e.Attrs["tar"] = "false"
	j.nameImage(e.Attrs)
	var names []string
	if list := e.Attrs["name"]; list != "" {
		names = strings.Split(list, ",")
	}
	for _, n := range names {
		if _, err := store.NormalName(n); err != nil {
			return &InputError{Err: err}
		}
	}
	if err := j.annotate(o.Type, e.Attrs); err != nil {
		return err
	}
	e.OutputStore = s.Output()
	j.outputs.exports = append(j.outputs.exports, e)
	j.want(o, e.Attrs)
	j.outputs.finish = append(j.outputs.finish, func(ctx context.Context, desc ocispecs.Descriptor) error {
		return s.Import(ctx, desc, names...)
	})
	return nil
}
