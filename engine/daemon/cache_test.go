//go:build linux

package daemon

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
)

// solve builds st with the given cache settings and says whether its step was
// taken from the cache.
func solve(t *testing.T, c *Conn, command string, opt client.SolveOpt) (cached bool, err error) {
	t.Helper()
	def, err := runState(command).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bin, err := fsutil.NewFS("/bin")
	if err != nil {
		t.Fatal(err)
	}
	opt.LocalMounts = map[string]fsutil.FS{"bin": bin}
	status := make(chan *client.SolveStatus)
	done := make(chan bool)
	go func() {
		hit := false
		for s := range status {
			for _, v := range s.Vertexes {
				if strings.Contains(v.Name, command) && v.Cached {
					hit = true
				}
			}
		}
		done <- hit
	}()
	_, err = c.Client.Solve(t.Context(), def, opt, status)
	return <-done, err
}

func TestCacheBackends(t *testing.T) {
	c := connect(t, testConfig(t))
	dir := t.TempDir()
	if _, err := solve(t, c, "echo local", client.SolveOpt{
		CacheExports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"dest": dir, "mode": "max"}}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Client.Prune(t.Context(), nil, client.PruneAll); err != nil {
		t.Fatal(err)
	}
	if cached, err := solve(t, c, "echo local", client.SolveOpt{}); err != nil || cached {
		t.Fatalf("after pruning: cached %v, %v", cached, err)
	}
	if err := c.Client.Prune(t.Context(), nil, client.PruneAll); err != nil {
		t.Fatal(err)
	}
	cached, err := solve(t, c, "echo local", client.SolveOpt{
		CacheImports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": dir}}},
	})
	if err != nil || !cached {
		t.Errorf("from the exported cache: cached %v, %v", cached, err)
	}
	// The others are known and check their attributes.
	for kind, want := range map[string]string{"s3": "bucket", "azblob": "account", "registry": "ref", "gha": "unknown cache exporter"} {
		_, err := solve(t, c, "echo "+kind, client.SolveOpt{CacheExports: []client.CacheOptionsEntry{{Type: kind}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", kind, err, want)
		}
	}
}

func TestUnpackRunc(t *testing.T) {
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write([]byte("#!/bin/sh\necho unpacked\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bin")
	path, err := unpackRunc(gz.Bytes(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil || string(out) != "unpacked\n" {
		t.Errorf("%q, %v", out, err)
	}
	again, err := unpackRunc(gz.Bytes(), dir)
	if err != nil || again != path {
		t.Errorf("again: %s, %v", again, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files left: %v, %v", entries, err)
	}
	if _, err := unpackRunc([]byte("not gzip"), dir); err == nil {
		t.Error("garbage was unpacked")
	}
}
