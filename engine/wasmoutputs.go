package engine

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/store"
)

// wasmOutputs has the daemon give us the file, which we deliver.
func (j *job) wasmOutputs(list []Output) error {
	w := j.wasm
	dir, err := j.tempDir()
	if err != nil {
		return err
	}
	w.dir = dir
	j.outputs.exports = []client.ExportEntry{wasmExport(dir)}
	if w.output != "" {
		w.files = append(w.files, w.output)
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFile(w.output) })
	}
	if len(j.req.Outputs) == 0 && !j.req.Push && w.format == WasmFile {
		list = nil
		if w.output == "" {
			return inputErrorf("the result is a file and there is no place for it: set wasm.output, or give an output directory (-o DIR)")
		}
	}
	for _, o := range list {
		if err := j.wasmOutput(o); err != nil {
			return err
		}
	}
	if err := j.checkAttestations(list); err != nil {
		return err
	}
	for k := range j.req.Annotations {
		if _, err := wasmAnnotation(k); err != nil {
			return err
		}
	}
	return nil
}

// wasmOutput adds one place for the result.
func (j *job) wasmOutput(o Output) error {
	w := j.wasm
	if w.format == WasmFile && o.Type != OutputLocal && o.Type != OutputTar && o.Type != OutputCacheOnly {
		return inputErrorf("output %s takes artifacts, and the build makes a bare file: drop \"oci: false\", or use local or tar", o.Type)
	}
	switch o.Type {
	case OutputStore, OutputImage:
		if err := refuseDest(o); err != nil {
			return err
		}
		names := j.outputs.names
		if list := o.Attrs["name"]; list != "" {
			names = strings.Split(list, ",")
		}
		push := o.Attrs["push"] == "true"
		if push && len(names) == 0 {
			return inputErrorf("nothing to push: give the artifact a name with a tag (-t registry/name:tag)")
		}
		s, err := j.engine.Store()
		if err != nil {
			return err
		}
		j.outputs.store = s
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.store(s, names, push) })
	case OutputOCI:
		if o.Attrs["tar"] == "false" {
			if o.Dest == "" || refuseFile(o) != nil {
				return cmp.Or(refuseFile(o), inputErrorf("output oci with tar=false needs dest=DIRECTORY"))
			}
			w.layouts = append(w.layouts, o.Dest)
			w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.layoutDir(o.Dest) })
			return nil
		}
		return j.wasmArchive(o, (*wasmDelivery).layoutTar)
	case OutputTar:
		return j.wasmArchive(o, (*wasmDelivery).fileTar)
	case OutputLocal:
		if o.Dest == "" {
			return inputErrorf("output local needs dest=DIRECTORY")
		}
		w.files = append(w.files, o.Dest)
		if strings.HasSuffix(o.Dest, ".wasm") { // the file itself
			w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFile(o.Dest) })
			return nil
		}
		if err := refuseFile(o); err != nil {
			return err
		}
		w.deliver = append(w.deliver, func(d *wasmDelivery) error { return d.writeFiles(o.Dest) })
	case OutputCacheOnly:
		return refuseDest(o)
	default:
		return inputErrorf("output %s cannot take WebAssembly: use store, oci, local, tar or --push, or the format image", o.Type)
	}
	return nil
}

// wasmArchive adds an archive that write fills. One that is the same already stays.
func (j *job) wasmArchive(o Output, write func(*wasmDelivery, io.Writer) error) error {
	var e client.ExportEntry
	finish := len(j.outputs.finish)
	if err := j.fileOutput(o, &e); err != nil {
		return err
	}
	commit := j.outputs.finish[finish:]
	j.outputs.finish = j.outputs.finish[:finish]
	if o.Writer == nil {
		j.wasm.archives = append(j.wasm.archives, o.Dest)
	}
	j.wasm.deliver = append(j.wasm.deliver, func(d *wasmDelivery) error {
		if o.Writer == nil && fileIs(o.Dest, func(w io.Writer) error { return write(d, w) }) {
			return nil
		}
		d.changed = true
		w, err := e.Output(nil)
		if err != nil {
			return err
		}
		err = write(d, w)
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		for _, f := range commit {
			if err == nil {
				err = f(d.ctx, ocispecs.Descriptor{})
			}
		}
		return err
	})
	return nil
}

// wasmAnnotation is the key of an annotation without the kind of object it is for.
func wasmAnnotation(k string) (string, error) {
	m := annotationPrefix().FindStringSubmatch(k)
	if m == nil {
		return k, nil
	}
	if m[1] != "manifest" {
		return "", inputErrorf("annotation %q: an artifact of WebAssembly has a manifest and nothing else to annotate", k)
	}
	return m[2], nil
}

// wasmCreated is the time that the artifact says it was made: SOURCE_DATE_EPOCH.
func (j *job) wasmCreated() time.Time {
	if n, err := strconv.ParseInt(j.req.BuildArgs["SOURCE_DATE_EPOCH"], 10, 64); err == nil {
		return time.Unix(n, 0)
	}
	return time.Time{}
}

// wasmName is what the artifact is called: as its first tag, else as its file.
func (j *job) wasmName(file string) string {
	if len(j.outputs.names) > 0 {
		name := j.outputs.names[0]
		name = name[strings.LastIndexByte(name, '/')+1:]
		name, _, _ = strings.Cut(name, "@")
		name, _, _ = strings.Cut(name, ":")
		return name
	}
	return strings.TrimSuffix(filepath.Base(file), ".wasm")
}

// wasmAnnotations are those of the artifact: labels, then annotations.
func (j *job) wasmAnnotations() map[string]string {
	out := map[string]string{}
	for _, l := range j.wasm.file.Labels {
		out[l.Key.Value] = l.Value.Value
	}
	for k, v := range j.req.Labels {
		out[k] = v
	}
	for k, v := range j.req.Annotations {
		if key, err := wasmAnnotation(k); err == nil {
			out[key] = v
		}
	}
	return out
}

// insecureRegistry tells whether the configuration lets a registry be asked without
// certificates.
func (c Config) insecureRegistry(host string) bool {
	return slices.Contains(c.PlainHTTP, host) || slices.Contains(c.Insecure, host)
}

// pushOptions are how the configuration has the registry of a name asked.
func (c Config) pushOptions(name string) (store.PushOptions, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return store.PushOptions{}, &InputError{Err: err}
	}
	host := reference.Domain(named)
	o := store.PushOptions{Insecure: c.insecureRegistry(host)}
	if files := c.RegistryCAs[host]; len(files) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, f := range files {
			pem, err := os.ReadFile(f)
			if err != nil {
				return o, &InputError{Err: err}
			}
			if !pool.AppendCertsFromPEM(pem) {
				return o, inputErrorf("%s holds no PEM certificate", f)
			}
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
		o.Transport = t
	}
	return o, nil
}
