package integration

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

// TestZImagefiles builds ZImagefiles and the Dockerfiles that they stand for, the latter with
// BuildKit's own frontend on the same daemon. The images are the same to the byte.
func TestZImagefiles(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/zimage/*/ZImagefile")
	if err != nil || len(cases) < 40 {
		t.Fatalf("found %d cases: %v", len(cases), err)
	}
	c, e := buildkit(t), openEngine(t)
	limit := make(chan struct{}, 3)
	for _, file := range cases {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			limit <- struct{}{}
			defer func() { <-limit }()
			got := build(t, e, engine.Request{Context: dir, Outputs: []engine.Output{{
				Type: engine.OutputOCI, Writer: nopWriter{io.Discard},
			}}}).Digest.String()
			if want := convertedDigest(t, c, dir); got != want {
				t.Errorf("the ZImagefile gives %s, its Dockerfile %s", got, want)
			}
		})
	}
}

// convertedDigest builds what a ZImagefile is converted to with dockerfile.v0.
func convertedDigest(t *testing.T, c *client.Client, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ZImagefile"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := zimage.Parse("ZImagefile", text)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zimage.Convert(f, zimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "ZImagefile"), d.Text, 0o600); err != nil {
		t.Fatal(err)
	}
	mounts := map[string]fsutil.FS{}
	for name, dir := range map[string]string{"context": dir, "dockerfile": files} {
		if mounts[name], err = fsutil.NewFS(dir); err != nil {
			t.Fatal(err)
		}
	}
	attrs := map[string]string{"filename": "ZImagefile"}
	for k, v := range d.BuildArgs {
		attrs["build-arg:"+k] = v
	}
	resp, err := c.Solve(t.Context(), nil, client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   mounts,
		SharedKey:     t.Name(),
		Exports: []client.ExportEntry{{
			Type:   client.ExporterOCI,
			Attrs:  map[string]string{},
			Output: func(map[string]string) (io.WriteCloser, error) { return nopWriter{io.Discard}, nil },
		}},
	}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.TrimSpace(string(d.Text)))
	}
	return resp.ExporterResponse["containerimage.digest"]
}

// nopWriter is a writer that need not be closed.
type nopWriter struct{ io.Writer }

func (nopWriter) Close() error { return nil }
