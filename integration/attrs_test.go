package integration

import (
	"encoding/csv"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/tonistiigi/fsutil"
)

// solveOpt translates the case into what a frontend is given through BuildKit's
// client. It is called once per build: attachables of a session serve only one.
func (w *workspace) solveOpt(t *testing.T) client.SolveOpt {
	t.Helper()
	o := client.SolveOpt{
		// two workspaces must never share what BuildKit remembers of a directory
		SharedKey:      w.root,
		LocalMounts:    map[string]fsutil.FS{},
		FrontendAttrs:  map[string]string{},
		FrontendInputs: map[string]llb.State{},
		OCIStores:      map[string]content.Store{},
		Internal:       true,
	}
	o.AllowedEntitlements = append(o.AllowedEntitlements, w.Allow...)
	w.addMainContext(t, &o)
	for name, from := range w.Contexts {
		w.addNamedContext(t, &o, name, from)
	}
	w.addAttrs(t, o.FrontendAttrs)
	w.addSession(t, &o)
	return o
}

func mountDir(t *testing.T, dir string) fsutil.FS {
	t.Helper()
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// addMainContext sets the build context and the build file.
func (w *workspace) addMainContext(t *testing.T, o *client.SolveOpt) {
	t.Helper()
	switch {
	case isRemote(w.Context):
		o.FrontendAttrs["context"] = w.expand(w.Context)
		if w.File != "" {
			o.FrontendAttrs["filename"] = w.File
		}
		return
	case w.Context == "-":
		empty := t.TempDir()
		o.LocalMounts["context"] = mountDir(t, empty)
	default:
		o.LocalMounts["context"] = mountDir(t, w.contextDir())
	}
	file := filepath.Join(w.contextDir(), "Dockerfile")
	if w.File != "" {
		file = filepath.Join(w.root, w.File)
		o.FrontendAttrs["filename"] = filepath.Base(file)
	}
	o.LocalMounts["dockerfile"] = mountDir(t, filepath.Dir(file))
}

// addNamedContext sets a named context of any kind.
func (w *workspace) addNamedContext(t *testing.T, o *client.SolveOpt, name, from string) {
	t.Helper()
	key := "context:" + name
	local := "named-" + strings.NewReplacer(":", "-", "/", "-").Replace(name)
	kind, rest, _ := strings.Cut(from, "://")
	switch {
	case kind == "oci-layout":
		dir, digest := layoutOf(t, rest)
		store, err := contentlocal.NewStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		o.OCIStores[local] = store
		o.FrontendAttrs[key] = "oci-layout://" + local + "@" + digest
	case kind == "input":
		o.LocalMounts[local] = mountDir(t, filepath.Join(w.root, rest))
		// a copy, because steps on top of a local source are never found in the cache
		o.FrontendInputs[local] = llb.Scratch().File(llb.Copy(llb.Local(local, llb.SharedKeyHint(local)), "/", "/",
			&llb.CopyInfo{CopyDirContentsOnly: true}))
		o.FrontendAttrs[key] = "input:" + local
	case isRemote(from):
		o.FrontendAttrs[key] = w.expand(from)
	default:
		o.LocalMounts[local] = mountDir(t, filepath.Join(w.root, from))
		o.FrontendAttrs[key] = "local:" + local
	}
}

// addAttrs sets what travels as plain frontend attributes.
func (w *workspace) addAttrs(t *testing.T, attrs map[string]string) {
	t.Helper()
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", w.Target)
	set("platform", strings.Join(w.Platforms, ","))
	set("force-network-mode", w.Network)
	set("add-hosts", csvLine(t, w.AddHosts))
	set("ulimit", csvLine(t, w.Ulimits))
	if w.ShmSize != 0 {
		attrs["shm-size"] = strconv.FormatInt(w.ShmSize, 10)
	}
	if w.Pull == "always" {
		attrs["image-resolve-mode"] = "pull"
	}
	if w.NoCache {
		attrs["no-cache"] = ""
	} else if len(w.NoCacheFilter) > 0 {
		attrs["no-cache"] = strings.Join(w.NoCacheFilter, ",")
	}
	for k, v := range w.Args {
		attrs["build-arg:"+k] = w.expand(v)
	}
	for k, v := range w.Labels {
		attrs["label:"+k] = v
	}
	for k, v := range w.Attests {
		if v != "disabled=true" {
			attrs["attest:"+k] = v
		}
	}
	for k, v := range w.Attrs {
		attrs[k] = w.expand(v)
	}
}

// csvLine joins values the way the frontend splits them.
func csvLine(t *testing.T, values []string) string {
	t.Helper()
	if len(values) == 0 {
		return ""
	}
	var b strings.Builder
	cw := csv.NewWriter(&b)
	if err := cw.Write(values); err != nil {
		t.Fatal(err)
	}
	cw.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// addSession attaches secrets and ssh agents.
func (w *workspace) addSession(t *testing.T, o *client.SolveOpt) {
	t.Helper()
	if len(w.Secrets) > 0 {
		values := map[string][]byte{}
		for k, v := range w.Secrets {
			values[k] = []byte(v)
		}
		o.Session = append(o.Session, secretsprovider.FromMap(values))
	}
	if agents := w.sshAgents(t); len(agents) > 0 {
		p, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			t.Fatal(err)
		}
		o.Session = append(o.Session, session.Attachable(p))
	}
}

// sshAgents gives each id a key of its own.
func (w *workspace) sshAgents(t *testing.T) []sshprovider.AgentConfig {
	t.Helper()
	var agents []sshprovider.AgentConfig
	for _, id := range w.SSH {
		key, err := sshKey(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		agents = append(agents, sshprovider.AgentConfig{ID: id, Paths: []string{key}})
	}
	return agents
}

// exportTo adds the export into an OCI layout directory.
func (w *workspace) exportTo(o *client.SolveOpt, dir string) {
	attrs := map[string]string{"tar": "false"}
	maps.Copy(attrs, w.Export)
	o.Exports = []client.ExportEntry{{Type: client.ExporterOCI, Attrs: attrs, OutputDir: dir}}
}
