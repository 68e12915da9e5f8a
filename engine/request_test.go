package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mistakes in a request are found before a daemon is needed: the engine of these
// tests has an address where none is.
func TestBadRequests(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"ctx/Dockerfile":     "FROM scratch\nCOPY x /\n",
		"empty/README":       "nothing to build",
		"ctx/sub/Dockerfile": "FROM scratch\n",
		"layout/index.json":  `{"schemaVersion":2,"manifests":[]}`,
		"big":                strings.Repeat("x", 600<<10),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	with := func(f func(*Request)) Request {
		r := Request{Context: "ctx"}
		f(&r)
		return r
	}
	for name, c := range map[string]struct {
		req  Request
		want string
	}{
		"no context":        {Request{}, "no build context given: name a directory, a URL or - for standard input"},
		"missing context":   {Request{Context: "nosuch"}, "build context nosuch does not exist"},
		"file as context":   {Request{Context: "big"}, "build context big is a file: send an archive on standard input (zlayer build - < big), or name a directory"},
		"no build file":     {Request{Context: "empty"}, "no ZImagefile, Dockerfile or Containerfile in empty: name the build file with -f"},
		"missing file":      {with(func(r *Request) { r.File = "nosuch" }), "build file nosuch does not exist"},
		"file in context":   {with(func(r *Request) { r.File = "sub/Dockerfile" }), "build file sub/Dockerfile does not exist: -f is relative to the working directory, so use -f ctx/sub/Dockerfile"},
		"directory as file": {with(func(r *Request) { r.File = "ctx" }), "build file ctx is a directory: name the file in it"},
		"no stdin":          {Request{Context: "-"}, "the build context is to be read from standard input, which is not there"},
		"empty stdin":       {Request{Context: "-", Stdin: strings.NewReader("")}, "standard input is empty: it should be a tar archive or a build file"},
		"stdin twice":       {Request{Context: "-", File: "-", Stdin: strings.NewReader("x")}, "build context and build file cannot both come from standard input"},
		"stdin and file":    {Request{Context: "-", File: "x", Stdin: strings.NewReader("FROM scratch")}, "standard input is a build file, so -f x has no meaning: drop it, or send a tar archive"},
		"broken stdin":      {Request{Context: "-", Stdin: io.MultiReader(failingReader{})}, "reading standard input: cable pulled"},
		"platform":          {with(func(r *Request) { r.Platforms = []string{"linux/a/b/c"} }), `platform "linux/a/b/c": "linux/a/b/c": cannot parse platform specifier: invalid argument`},
		"pull":              {with(func(r *Request) { r.Pull = "sometimes" }), `pull mode "sometimes" is none of always, newer and never`},
		"network":           {with(func(r *Request) { r.Network = "bridge" }), `network mode "bridge" is none of default, none and host`},
		"host":              {with(func(r *Request) { r.AddHosts = []string{"a"} }), `host "a" is not of the form name=ip`},
		"host address":      {with(func(r *Request) { r.AddHosts = []string{"a:b"} }), `host "a:b": "b" is not an ip address`},
		"host gateway":      {with(func(r *Request) { r.AddHosts = []string{"a:host-gateway"} }), `host "a:host-gateway": host-gateway is a feature of docker's own builder: give the address`},
		"ulimit":            {with(func(r *Request) { r.Ulimits = []string{"nofile"} }), `ulimit "nofile": invalid ulimit argument: nofile`},
		"shm size":          {with(func(r *Request) { r.ShmSize = -1 }), "shm size -1 is negative"},
		"no cache twice":    {with(func(r *Request) { r.NoCache = true; r.NoCacheFilter = []string{"a"} }), "no-cache and no-cache-filter exclude each other: the first covers every stage"},
		"attestation":       {with(func(r *Request) { r.Attests = map[string]string{"slsa": ""} }), `attestation "slsa" is neither sbom nor provenance`},
		"attest switch":     {with(func(r *Request) { r.Attests = map[string]string{"sbom": "disabled=perhaps"} }), "attestation sbom: disabled=perhaps is not a boolean"},
		"entitlement":       {with(func(r *Request) { r.Allow = []string{"everything"} }), `entitlement "everything" is none of network.host, security.insecure, device and fs.read=DIR`},
		"tag":               {with(func(r *Request) { r.Tags = []string{"UPPER"} }), `image name "UPPER": invalid reference format: repository name (library/UPPER) must be lowercase`},
		"secret id":         {with(func(r *Request) { r.Secrets = []Secret{{File: "big"}} }), "a secret needs an id"},
		"secret twice":      {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", Value: []byte("1")}, {ID: "a", Value: []byte("2")}} }), `secret "a" is given twice`},
		"secret sources":    {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", File: "x", Env: "X"}} }), `secret "a" has more than one source: give a file or an environment variable`},
		"secret file":       {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", File: "nosuch"}} }), `secret "a": file nosuch does not exist`},
		"secret directory":  {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", File: "ctx"}} }), `secret "a": ctx is a directory`},
		"secret size":       {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", File: "big"}} }), `secret "a": big is larger than 512000 bytes`},
		"secret variable":   {with(func(r *Request) { r.Secrets = []Secret{{ID: "a", Env: "ZLAYER_TEST_UNSET"}} }), `secret "a": environment variable ZLAYER_TEST_UNSET is not set`},
		"ssh":               {with(func(r *Request) { r.SSH = []SSHAgent{{ID: "default"}} }), `ssh agent "default": SSH_AUTH_SOCK is not set: start an agent, or name a key file`},
		"context name":      {with(func(r *Request) { r.BuildContexts = map[string]string{"A B": "."} }), `build context name "A B": invalid reference format: repository name (library/A B) must be lowercase`},
		"context directory": {with(func(r *Request) { r.BuildContexts = map[string]string{"a": "nosuch"} }), "build context a: nosuch does not exist"},
		"context image":     {with(func(r *Request) { r.BuildContexts = map[string]string{"a": "docker-image://U"} }), `build context a: image "U": invalid reference format: repository name (library/U) must be lowercase`},
		"no layout":         {with(func(r *Request) { r.BuildContexts = map[string]string{"a": "oci-layout://ctx"} }), "build context a: ctx is not an OCI layout: it has no index.json"},
		"layout tag":        {with(func(r *Request) { r.BuildContexts = map[string]string{"a": "oci-layout://layout:v1"} }), `build context a: no image is tagged "v1" in layout: add :tag or @digest`},
		"layout digest":     {with(func(r *Request) { r.BuildContexts = map[string]string{"a": "oci-layout://layout@sha256:1"} }), `build context a: digest "sha256:1": invalid checksum digest length`},
		"output type":       {output(Output{Type: "zip"}), `output type "zip" is none of store, image, oci, docker, tar, local and cacheonly`},
		"no destination":    {output(Output{Type: OutputOCI}), "output oci needs dest=FILE, or - for standard output"},
		"no directory":      {output(Output{Type: OutputTar, Dest: "nosuch/x.tar"}), "output tar: directory nosuch does not exist"},
		"dest directory":    {output(Output{Type: OutputTar, Dest: "ctx"}), "output tar: ctx is a directory: name a file"},
		"local":             {output(Output{Type: OutputLocal}), "output local needs dest=DIRECTORY"},
		"layout output":     {output(Output{Type: OutputOCI, Attrs: map[string]string{"tar": "false"}}), "output oci with tar=false needs dest=DIRECTORY"},
		"store dest":        {output(Output{Type: OutputStore, Dest: "x"}), "output store has no destination: drop dest"},
		"two stores":        {output(Output{Type: OutputStore}, Output{Type: OutputOCI, Dest: "l2", Attrs: map[string]string{"tar": "false"}}), "only one output of a build can be a store or an image layout directory: export once, and use zlayer save for the rest"},
		"push without name": {with(func(r *Request) { r.Push = true }), "nothing to push: give the image a name with a tag (-t registry/name:tag)"},
		"annotation kind":   {with(func(r *Request) { r.Annotations = map[string]string{"layer:a": "b"} }), `annotation "layer:a": "layer" is none of index, index-descriptor, manifest and manifest-descriptor`},
		"annotated files": {with(func(r *Request) {
			r.Annotations = map[string]string{"a": "b"}
			r.Outputs = []Output{{Type: OutputTar, Dest: "x"}}
		}), "annotations need an image as output"},
		"load": {with(func(r *Request) { r.Load = true }), "loading into docker needs the docker command: install it, or keep the image in zlayer's own store (no --load)"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "load" {
				t.Setenv("PATH", dir)
			}
			e, err := Open(context.Background(), Config{Addr: "unix:///nowhere", StoreDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			_, err = e.Build(context.Background(), c.req)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			var ie *InputError
			if !errors.As(err, &ie) {
				t.Errorf("%T is not an InputError", err)
			}
		})
	}
}

func output(list ...Output) Request { return Request{Context: "ctx", Outputs: list} }

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("cable pulled") }

func TestSharedKeyIsPerDirectory(t *testing.T) {
	// Two directories of one base name must not share the daemon's copy of files.
	root := t.TempDir()
	keys := map[string]bool{}
	for _, d := range []string{"a/app", "b/app"} {
		dir := filepath.Join(root, d)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		e := &Engine{cfg: Config{StateDir: t.TempDir()}}
		j, err := testRun(t, e).prepareCall(Request{Context: dir})
		if err != nil {
			t.Fatal(err)
		}
		keys[j.sharedKey()] = true
	}
	if len(keys) != 2 {
		t.Errorf("got keys %v", keys)
	}
}

func TestSecretsStayOutOfAttributes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &Engine{cfg: Config{StateDir: t.TempDir()}}
	j, err := testRun(t, e).prepareCall(Request{Context: dir, Secrets: []Secret{{ID: "token", Value: []byte("hunter2")}}})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range j.attrs {
		if strings.Contains(k+v, "hunter2") {
			t.Errorf("%s=%s", k, v)
		}
	}
}

func TestAddresses(t *testing.T) {
	if _, err := Open(context.Background(), Config{Addr: "unix:///x", NoDaemon: true}); err == nil {
		t.Error("an address and no daemon go together")
	}
	t.Setenv("BUILDKIT_HOST", "unix:///from-env")
	e, err := Open(context.Background(), Config{})
	if err != nil || e.cfg.Addr != "unix:///from-env" {
		t.Errorf("got %+v, %v", e, err)
	}
	if e, err = Open(context.Background(), Config{NoDaemon: true}); err != nil || e.cfg.Addr != "" {
		t.Errorf("got %+v, %v", e, err)
	}
}

// testRun begins a call that ends with the test.
func testRun(t *testing.T, e *Engine) *run {
	t.Helper()
	r, err := e.newRun(Request{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}
