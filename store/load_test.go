package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func v1Digest(h v1.Hash) digest.Digest { return digest.Digest(h.String()) }

// tarEntry is a file, or a link if it has a target.
type tarEntry struct{ name, text, link string }

func makeTar(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.text)), Mode: 0o644}
		if e.link != "" {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, e.link
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func blobEntry(text string) tarEntry {
	return tarEntry{name: archivePath(digest.FromString(text)), text: text}
}

func descriptor(mediaType, text string) ocispecs.Descriptor {
	return ocispecs.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
}

func toJSON(t testing.TB, v any) string { return string(must[[]byte](t)(json.Marshal(v))) }

// smallImage is an OCI image made of the given layer, as archive entries.
func smallImage(t testing.TB, layer string) (entries []tarEntry, manifest string) {
	config := toJSON(t, ocispecs.Image{
		Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(layer)}},
	})
	m := ocispecs.Manifest{
		MediaType: ocispecs.MediaTypeImageManifest,
		Config:    descriptor(ocispecs.MediaTypeImageConfig, config),
		Layers:    []ocispecs.Descriptor{descriptor(ocispecs.MediaTypeImageLayer, layer)},
	}
	m.SchemaVersion = 2
	manifest = toJSON(t, m)
	return []tarEntry{blobEntry(config), blobEntry(layer), blobEntry(manifest)}, manifest
}

func indexOf(t testing.TB, list ...ocispecs.Descriptor) string {
	idx := emptyIndex()
	idx.Manifests = list
	return toJSON(t, idx)
}

func TestLoadRefuses(t *testing.T) {
	entries, manifest := smallImage(t, "layer")
	good := indexOf(t, descriptor(ocispecs.MediaTypeImageManifest, manifest))
	index := tarEntry{name: "index.json", text: good}
	config := toJSON(t, ocispecs.Image{RootFS: ocispecs.RootFS{DiffIDs: []digest.Digest{digest.FromString("layer")}}})
	docker := func(layers ...string) tarEntry {
		return tarEntry{name: "manifest.json", text: toJSON(t, []dockerImage{{Config: "c.json", RepoTags: []string{"app:1"}, Layers: layers}})}
	}
	var zeros bytes.Buffer
	zw := gzip.NewWriter(&zeros)
	_, _ = zw.Write(makeTar(t, tarEntry{name: "big", text: strings.Repeat("\x00", 4<<20)}))
	zw.Close()
	deep := manifest
	nested := []tarEntry{}
	for range maxIndexDepth + 2 {
		mt := ocispecs.MediaTypeImageIndex
		if deep == manifest {
			mt = ocispecs.MediaTypeImageManifest
		}
		deep = indexOf(t, descriptor(mt, deep))
		nested = append(nested, blobEntry(deep))
	}
	whole := makeTar(t, append(entries, index)...)

	var report strings.Builder
	for _, tt := range []struct {
		name string
		tar  []byte
	}{
		{"nothing", nil},
		{"no tar", []byte(strings.Repeat("hello world ", 100))},
		{"tar cut off", whole[:len(whole)/2]},
		{"gzip cut off", zeros.Bytes()[:100]},
		{"no images", makeTar(t, tarEntry{name: "README", text: "hi"})},
		{"Docker before 1.10", makeTar(t, tarEntry{name: "repositories", text: "{}"}, tarEntry{name: "abc/layer.tar", text: "x"})},
		{"path outside", makeTar(t, tarEntry{name: "../../etc/cron.d/x", text: "x"})},
		{"absolute path", makeTar(t, tarEntry{name: "/etc/cron.d/x", text: "x"})},
		{"link outside", makeTar(t, tarEntry{name: "a", link: "../../etc/passwd"})},
		{"absolute link", makeTar(t, tarEntry{name: "a", link: "/etc/passwd"})},
		{"bytes of another digest", makeTar(t, tarEntry{name: entries[1].name, text: "other"}, index)},
		{"missing layer", makeTar(t, entries[0], entries[2], index)},
		{"missing manifest", makeTar(t, index)},
		{"empty index", makeTar(t, tarEntry{name: "index.json", text: indexOf(t)})},
		{"damaged index", makeTar(t, tarEntry{name: "index.json", text: "{"})},
		{"no image media type", makeTar(t, blobEntry("x"), tarEntry{name: "index.json", text: indexOf(t, descriptor("text/plain", "x"))})},
		{"manifest that is none", makeTar(t, blobEntry("[]"), tarEntry{name: "index.json", text: indexOf(t, descriptor(ocispecs.MediaTypeImageManifest, "[]"))})},
		{"indexes in indexes", makeTar(t, append(append(nested, entries...), tarEntry{name: "index.json", text: indexOf(t, descriptor(ocispecs.MediaTypeImageIndex, deep))})...)},
		{"bad name", makeTar(t, append(entries, tarEntry{name: "index.json", text: indexOf(t, named(descriptor(ocispecs.MediaTypeImageManifest, manifest), "A B:c"))})...)},
		{"bomb", zeros.Bytes()},
		{"huge index", makeTar(t, tarEntry{name: "index.json", text: strings.Repeat(" ", maxArchiveJSON+1)})},
		{"docker: damaged manifest.json", makeTar(t, tarEntry{name: "manifest.json", text: "{}"})},
		{"docker: no images", makeTar(t, tarEntry{name: "manifest.json", text: "[]"})},
		{"docker: no config", makeTar(t, docker("l.tar"))},
		{"docker: config that is none", makeTar(t, docker("l.tar"), tarEntry{name: "c.json", text: "[]"})},
		{"docker: missing layer", makeTar(t, docker("l.tar"), tarEntry{name: "c.json", text: config})},
		{"docker: too many layers", makeTar(t, docker("l.tar", "l.tar"), tarEntry{name: "c.json", text: config}, tarEntry{name: "l.tar", text: "layer"})},
		{"docker: other layer", makeTar(t, docker("l.tar"), tarEntry{name: "c.json", text: config}, tarEntry{name: "l.tar", text: "LAYER"})},
		{"docker: links in a circle", makeTar(t, docker("l.tar"), tarEntry{name: "c.json", text: config}, tarEntry{name: "l.tar", link: "m.tar"}, tarEntry{name: "m.tar", link: "l.tar"})},
		{"docker: bad name", makeTar(t, tarEntry{name: "manifest.json", text: `[{"Config":"c.json","RepoTags":["<none>:<none>"]}]`}, tarEntry{name: "c.json", text: "{}"})},
	} {
		s := openStore(t)
		_, err := s.Load(context.Background(), bytes.NewReader(tt.tar), LoadOptions{MaxBytes: 32 << 20})
		if tt.name == "bomb" {
			_, err = s.Load(context.Background(), bytes.NewReader(tt.tar), LoadOptions{MaxBytes: 1 << 20})
		}
		if err == nil {
			t.Errorf("%s: loaded", tt.name)
		}
		fmt.Fprintf(&report, "%s\n\t%v\n", tt.name, err)
		if n, _ := blobCount(t, s); n != 0 || indexEntries(t, s) != "" {
			t.Errorf("%s: %d blobs left in the store", tt.name, n)
		}
	}
	golden(t, "load_errors", report.String())
}

func TestLoadDockerArchive(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	_, _ = io.WriteString(zw, "second")
	zw.Close()
	config := toJSON(t, ocispecs.Image{
		Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		RootFS: ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{
			digest.FromString("first"), digest.FromString("second"), digest.FromString("first"),
		}},
	})
	m := []dockerImage{
		{Config: "c.json", RepoTags: []string{"app:1", "app:2"}, Layers: []string{"a/layer.tar", "b/layer.tar", "c/layer.tar"}},
		{Config: "c.json", Layers: []string{"a/layer.tar", "b/layer.tar", "a/layer.tar"}},
	}
	archive := makeTar(t,
		tarEntry{name: "a/VERSION", text: "1.0"},
		tarEntry{name: "a/layer.tar", text: "first"},
		tarEntry{name: "b/layer.tar", text: gz.String()},
		tarEntry{name: "c/layer.tar", link: "../a/layer.tar"},
		tarEntry{name: "c.json", text: config},
		tarEntry{name: "manifest.json", text: toJSON(t, m)},
		tarEntry{name: "repositories", text: "{}"},
	)
	list := must[[]Loaded](t)(s.Load(ctx, bytes.NewReader(archive), LoadOptions{}))
	if len(list) != 2 || list[0].Descriptor.Digest != list[1].Descriptor.Digest {
		t.Fatalf("got %+v", list)
	}
	in := must[*Inspection](t)(s.Inspect(ctx, "app:2"))
	if got := in.Images[0].Manifest.Config.Digest; got != digest.FromString(config) {
		t.Errorf("image ID %s, want %s", got, digest.FromString(config))
	}
	var types []string
	for _, l := range in.Images[0].Layers {
		types = append(types, strings.TrimPrefix(l.MediaType, "application/vnd.oci.image.layer.v1."))
	}
	if got := strings.Join(types, " "); got != "tar tar+gzip tar" {
		t.Errorf("layers are %s", got)
	}
	// manifest, config, two layers; what else lay in the archive is not kept.
	if n, _ := blobCount(t, s); n != 4 {
		t.Errorf("%d blobs, want 4", n)
	}
}

// Docker's containerd store saves the index of the registry with the blobs of one
// platform.
func TestLoadPartialIndex(t *testing.T) {
	amd64, m1 := smallImage(t, "one")
	_, m2 := smallImage(t, "two")
	riscv, m3 := smallImage(t, "three")
	manifest := func(m string) ocispecs.Descriptor { return descriptor(ocispecs.MediaTypeImageManifest, m) }
	for _, tt := range []struct {
		name    string
		entries []tarEntry
		want    string // digest, or "index"
		dropped int
	}{
		{"one left", amd64, digest.FromString(m1).String(), 2},
		{"two left", append(amd64, riscv...), "index", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := openStore(t), context.Background()
			idx := indexOf(t, manifest(m1), manifest(m2), manifest(m3))
			root := named(descriptor(ocispecs.MediaTypeImageIndex, idx), "docker.io/library/app:1")
			archive := makeTar(t, append(tt.entries, blobEntry(idx), tarEntry{name: "index.json", text: indexOf(t, root)})...)
			list := must[[]Loaded](t)(s.Load(ctx, bytes.NewReader(archive), LoadOptions{}))
			if len(list) != 1 || len(list[0].Dropped) != tt.dropped {
				t.Fatalf("got %+v", list)
			}
			d := must[ocispecs.Descriptor](t)(s.Resolve(ctx, "app:1"))
			if tt.want == "index" {
				in := must[*Inspection](t)(s.Inspect(ctx, "app:1"))
				if in.Index == nil || len(in.Index.Manifests) != 2 {
					t.Errorf("got %+v", in.Index)
				}
			} else if d.Digest.String() != tt.want {
				t.Errorf("got %s, want %s", d.Digest, tt.want)
			}
			checkWhole(t, s)
		})
	}
}

func TestLoadCancelled(t *testing.T) {
	s := openStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	entries, _ := smallImage(t, "layer")
	archive := makeTar(t, entries...)
	r := io.MultiReader(bytes.NewReader(archive[:600]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), bytes.NewReader(archive[600:]))
	if _, err := s.Load(ctx, r, LoadOptions{}); err == nil {
		t.Error("a cancelled load succeeds")
	}
	if n, _ := blobCount(t, s); n != 0 {
		t.Errorf("%d blobs left", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
