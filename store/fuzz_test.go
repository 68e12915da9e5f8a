package store

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is accepted can be written and read back, and names no path.
func FuzzDecodeIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":null,"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"` + someDigest + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"x"}}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:../../x","size":1}]}`))
	s := openStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		idx, err := decodeIndex(b)
		if err != nil {
			return
		}
		for _, d := range idx.Manifests {
			if !strings.HasPrefix(s.blobPath(d.Digest), s.path("blobs")) || strings.Contains(s.blobPath(d.Digest), "..") {
				t.Errorf("digest %q leads to %s", d.Digest, s.blobPath(d.Digest))
			}
		}
		again, err := decodeIndex(must[[]byte](t)(json.Marshal(idx)))
		if err != nil {
			t.Fatal(err)
		}
		if a, b := toJSON(t, idx), toJSON(t, again); a != b {
			t.Errorf("written and read back:\n%s", cmp.Diff(a, b))
		}
	})
}

// Whatever is loaded, the store stays whole; what is refused leaves nothing.
func FuzzLoad(f *testing.F) {
	entries, manifest := smallImage(f, "layer")
	index := tarEntry{name: "index.json", text: indexOf(f, named(descriptor(ocispecs.MediaTypeImageManifest, manifest), "docker.io/library/app:1"))}
	f.Add(makeTar(f, append(entries, index)...))
	f.Add(makeTar(f,
		tarEntry{name: "manifest.json", text: `[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l.tar"]}]`},
		tarEntry{name: "c.json", text: `{"os":"linux","rootfs":{"diff_ids":["` + descriptor("", "layer").Digest.String() + `"]}}`},
		tarEntry{name: "l.tar", text: "layer"}, tarEntry{name: "m.tar", link: "l.tar"}))
	f.Add(makeTar(f, tarEntry{name: "repositories", text: "{}"}))
	f.Add([]byte("\x1f\x8b\x08"))
	s := openStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := s.Load(context.Background(), bytes.NewReader(b), LoadOptions{MaxBytes: 1 << 20})
		n := checkWhole(t, s)
		if blobs, _ := blobCount(t, s); err != nil && (n != 0 || blobs != 0) {
			t.Errorf("refused with %v, %d names and %d blobs left", err, n, blobs)
		}
		if err == nil { // empty it for the next one
			if err := s.writeIndex(emptyIndex()); err != nil {
				t.Fatal(err)
			}
			must[GCReport](t)(s.GC(context.Background(), GCPolicy{Grace: -1}))
		}
	})
}

// A reference resolves to at most one image; a name that is accepted is its own
// normal form.
func FuzzResolve(f *testing.F) {
	s := openStore(f)
	importAs(f, s, putImage(f, s, randomImage(f, 100, 1, "linux/amd64")), "app:1", "localhost:5000/x/y:z")
	idx := must[*ocispecs.Index](f)(s.readIndex())
	for _, ref := range []string{"app", "app:1", "app:1@" + someDigest, someDigest, "sha256:e3", "localhost:5000/x/y:z", "deadbeef", "@", ":", "a@b"} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		d, err := s.resolve(context.Background(), idx, ref)
		if err == nil && (d.Digest.Validate() != nil || !s.has(d.Digest)) {
			t.Errorf("%q resolves to %+v", ref, d)
		}
		name, err := NormalName(ref)
		if err != nil {
			return
		}
		if again, err := NormalName(name); err != nil || again != name {
			t.Errorf("%q is %q, that is %q, %v", ref, name, again, err)
		}
		if again, err := NormalName(familiar(name)); err != nil || again != name {
			t.Errorf("%q is shown as %q, that is %q, %v", name, familiar(name), again, err)
		}
	})
}

// FuzzLayering lays layers that anybody may have made over each other. What comes of it
// is refused, or a file system that can be walked and read.
func FuzzLayering(f *testing.F) {
	for _, l := range everything(f) {
		f.Add(l, l)
	}
	f.Add(tarOf(f, dirEntry("d"), fileEntry("d/f", "f")), tarOf(f, dirEntry("d"), fileEntry("d/.wh..wh..opq", ""), fileEntry("g", ""), linkEntry("d/h", "g")))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		spool, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer spool.Close()
		l := &layering{root: newDirNode(), spool: spool}
		if l.add(bytes.NewReader(lower)) != nil || l.add(bytes.NewReader(upper)) != nil {
			return
		}
		files := &Files{root: l.root, spool: spool}
		listed(t, files) // reads them
		seen := map[string]bool{".": true}
		err = files.Walk(t.Context(), "", func(name string, e fs.DirEntry, err error) error {
			if seen[name] || !seen[filepath.Dir(name)] || filepath.Base(name) != e.Name() || !filepath.IsLocal(name) {
				t.Errorf("%q is in no place of its own", name)
			}
			seen[name] = true
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
