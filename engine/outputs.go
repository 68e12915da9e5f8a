package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/store"
)

// outputs are the exports of a job and what has to be done around them.
type outputs struct {
	exports []client.ExportEntry
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
	for _, o := range list {
		if err := j.addOutput(o); err != nil {
			return err
		}
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
	switch o.Type {
	case OutputStore:
		return j.storeOutput(o, e)
	case OutputCacheOnly:
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
	return nil
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
	e.OutputStore = s.Content()
	j.outputs.exports = append(j.outputs.exports, e)
	j.outputs.finish = append(j.outputs.finish, func(ctx context.Context, desc ocispecs.Descriptor) error {
		return s.Import(ctx, desc, names...)
	})
	return nil
}

// fileOutput writes an archive next to its destination and renames it when the
// build has succeeded: a failed build leaves what was there.
func (j *job) fileOutput(o Output, e *client.ExportEntry) error {
	if o.Writer != nil {
		if o.Dest != "" {
			return inputErrorf("output %s has both a writer and a destination", o.Type)
		}
		w := o.Writer
		e.Output = func(map[string]string) (io.WriteCloser, error) { return w, nil }
		if f, ok := w.(interface{ Finish() error }); ok {
			j.outputs.finish = append(j.outputs.finish, func(context.Context, ocispecs.Descriptor) error { return f.Finish() })
		}
		return nil
	}
	if o.Dest == "" {
		return inputErrorf("output %s needs dest=FILE, or - for standard output", o.Type)
	}
	if fi, err := os.Stat(o.Dest); err == nil && fi.IsDir() {
		return inputErrorf("output %s: %s is a directory: name a file", o.Type, o.Dest)
	}
	if fi, err := os.Stat(filepath.Dir(o.Dest)); err != nil || !fi.IsDir() {
		return inputErrorf("output %s: directory %s does not exist", o.Type, filepath.Dir(o.Dest))
	}
	out := &fileWriter{dest: o.Dest}
	e.Output = func(map[string]string) (io.WriteCloser, error) { return out, out.open() }
	j.cleanup = append(j.cleanup, out.discard)
	j.outputs.finish = append(j.outputs.finish, func(context.Context, ocispecs.Descriptor) error { return out.commit() })
	return nil
}

// fileWriter is a file that gets its name when it is complete.
type fileWriter struct {
	dest string
	mu   sync.Mutex
	file *os.File
	err  error
}

func (w *fileWriter) open() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		return fmt.Errorf("output %s is written twice", w.dest)
	}
	// Devices and pipes are written as they are.
	if fi, err := os.Stat(w.dest); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(w.dest, os.O_WRONLY, 0)
		w.file = f
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(w.dest), "."+filepath.Base(w.dest)+".*")
	w.file = f
	return err
}

// Write implements io.Writer.
func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// Close implements io.Closer; commit is what completes the file.
func (w *fileWriter) Close() error { return nil }

func (w *fileWriter) commit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.file
	if f == nil {
		return fmt.Errorf("writing %s: nothing was exported", w.dest)
	}
	w.file = nil
	if w.err != nil {
		return errors.Join(w.err, f.Close(), os.Remove(f.Name()))
	}
	if f.Name() == w.dest {
		return f.Close()
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), w.dest)
}

func (w *fileWriter) discard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.file
	if f == nil {
		return nil
	}
	w.file = nil
	if f.Name() == w.dest {
		return f.Close()
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// dockerLoad pipes an archive into "docker load".
func (j *job) dockerLoad() (*dockerPipe, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return nil, inputErrorf("loading into docker needs the docker command: install it, or keep the image in zlayer's own store (no --load)")
	}
	p := &dockerPipe{cmd: exec.Command(path, "load")}
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, &p.stderr
	j.cleanup = append(j.cleanup, p.abort)
	return p, nil
}

// dockerPipe is a running "docker load". It starts with the first byte.
type dockerPipe struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	ended  bool
}

// Write implements io.Writer.
func (p *dockerPipe) Write(b []byte) (int, error) {
	if p.stdin == nil {
		var err error
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return 0, err
		}
		if err := p.cmd.Start(); err != nil {
			return 0, fmt.Errorf("starting docker load: %w", err)
		}
	}
	n, err := p.stdin.Write(b)
	if err != nil {
		// It has ended before the end of the archive, and knows why.
		_ = p.stdin.Close()
		if ferr := p.Finish(); ferr != nil {
			err = ferr
		}
	}
	return n, err
}

// Close implements io.Closer; it ends the archive.
func (p *dockerPipe) Close() error {
	if p.stdin == nil {
		return nil
	}
	return p.stdin.Close()
}

// Finish waits for docker to have read the archive.
func (p *dockerPipe) Finish() error {
	if p.stdin == nil {
		return errors.New("loading into docker: nothing was exported")
	}
	if p.ended {
		return nil
	}
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("loading into docker: %w: %s", err, strings.TrimSpace(p.stderr.String()))
	}
	return nil
}

func (p *dockerPipe) abort() error {
	if p.stdin == nil || p.ended {
		return nil
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	return nil
}
