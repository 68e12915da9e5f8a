package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing"
	"time"

	unpack "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// tarOf makes a layer. Headers get a time unless they have one; text is the content.
func tarOf(t testing.TB, entries ...layerEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_600_000_000, 0)
		}
		h.Size, h.Format = int64(len(e.text)), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type layerEntry struct {
	tar.Header
	text string
}

func dirEntry(name string) layerEntry {
	return layerEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}}
}

func fileEntry(name, text string) layerEntry {
	return layerEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, text: text}
}

func linkEntry(name, to string) layerEntry {
	return layerEntry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}}
}

// putLayers stores layers, each in another compression, and gives their manifest.
func putLayers(t testing.TB, s *Store, layers ...[]byte) ocispecs.Descriptor {
	t.Helper()
	m := ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: putBlob(t, s, []byte("{}"), ocispecs.MediaTypeImageConfig)}
	m.SchemaVersion = 2
	for i, l := range layers {
		var b bytes.Buffer
		switch i % 3 {
		case 0:
			w := gzip.NewWriter(&b)
			_, err := w.Write(l)
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			m.Layers = append(m.Layers, putBlob(t, s, b.Bytes(), ocispecs.MediaTypeImageLayerGzip))
		case 1:
			w, err := zstd.NewWriter(&b)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(l)
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			m.Layers = append(m.Layers, putBlob(t, s, b.Bytes(), ocispecs.MediaTypeImageLayerZstd))
		case 2:
			m.Layers = append(m.Layers, putBlob(t, s, l, ocispecs.MediaTypeImageLayer))
		}
	}
	return putBlob(t, s, must[[]byte](t)(json.Marshal(m)), m.MediaType)
}

// listed is a file system as BuildKit's exporters see it, in order, with contents.
func listed(t testing.TB, f fsutil.FS) []string {
	t.Helper()
	var list []string
	err := f.Walk(t.Context(), "", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*fstypes.Stat)
		if st.Path != p {
			t.Errorf("%s is called %s", p, st.Path)
		}
		line := fmt.Sprintf("%s %v %d:%d %d %d %q %d,%d %q", p, info.Mode(), st.Uid, st.Gid, st.ModTime, st.Size, st.Linkname, st.Devmajor, st.Devminor, st.Xattrs)
		if info.Mode().IsRegular() && st.Linkname == "" {
			r, err := f.Open(p)
			if err != nil {
				return err
			}
			defer r.Close()
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unpacked is what containerd makes of layers, on disk.
func unpacked(t testing.TB, layers ...[]byte) fsutil.FS {
	t.Helper()
	dir := t.TempDir()
	for _, l := range layers {
		if _, err := unpack.Apply(context.Background(), dir, bytes.NewReader(l)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// needRoot skips where files cannot have owners; CI must be able to.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// filesOf reads an image's files.
func filesOf(t testing.TB, s *Store, m ocispecs.Descriptor) *Files {
	t.Helper()
	f, err := s.Files(t.Context(), m, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// everything has one of each: kinds of files, links, owners, modes, times, attributes,
// and every way in which a layer changes what is below.
func everything(t testing.TB) [][]byte {
	owned := fileEntry("d/owned", "o")
	owned.Uid, owned.Gid, owned.Mode, owned.ModTime = 1000, 100, 0o4750, time.Unix(1_500_000_000, 123_456_789)
	capable := fileEntry("capable", "c")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	old := fileEntry("old", "")
	old.ModTime = time.Unix(-5, 0)
	device := layerEntry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}}
	block := layerEntry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "block", Mode: 0o600, Devmajor: 7, Devminor: 300}}
	fifo := layerEntry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o640}}
	symlink := layerEntry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "../nowhere", Mode: 0o777, Uid: 7}}
	sticky := dirEntry("sticky")
	sticky.Mode, sticky.Gid = 0o1777, 50
	first := tarOf(t, dirEntry("."), dirEntry("d"), owned, symlink, dirEntry("d/e"), fileEntry("d/e/f", "f"), capable, old, device, block, fifo, sticky,
		fileEntry("z", "shared"), linkEntry("d/a", "z"), linkEntry("d/e/b", "/z"), fileEntry("weird \n\xff", "w"), dirEntry("opaque"), fileEntry("opaque/x", "x"),
		dirEntry("replaced"), fileEntry("replaced/y", "y"), fileEntry("becomes-dir", ""), dirEntry("gone"), fileEntry("gone/g", ""), fileEntry("d.after", ""))
	other := dirEntry("d")
	other.Mode, other.Uid, other.ModTime = 0o700, 3, time.Unix(1_700_000_000, 0)
	second := tarOf(t, other, fileEntry("d/.wh.a", ""), fileEntry("d/new", "n"), fileEntry(".wh.gone", ""), fileEntry(".wh.never-there", ""),
		dirEntry("opaque"), fileEntry("opaque/kept", "k"), fileEntry("opaque/.wh..wh..opq", ""), fileEntry("opaque/later", "l"),
		fileEntry("replaced", "a file"), dirEntry("becomes-dir"), fileEntry("becomes-dir/in", "i"), fileEntry("z", "written anew"))
	third := tarOf(t, dirEntry("gone"), fileEntry("gone/h", "back"), fileEntry("one", "1"), linkEntry("two", "one"), linkEntry("one.five", "two"), fileEntry(".wh.replaced", ""))
	return [][]byte{first, second, third}
}

func TestFilesAreWhatContainerdUnpacks(t *testing.T) {
	needRoot(t)
	layers := everything(t)
	s := openStore(t)
	for n := range len(layers) + 1 {
		got := listed(t, filesOf(t, s, putLayers(t, s, layers[:n]...)))
		if d := cmp.Diff(listed(t, unpacked(t, layers[:n]...)), got); d != "" {
			t.Errorf("%d layers (-containerd +store):\n%s", n, d)
		}
	}
}

// TestFilesWithoutParents: some tools leave directories out of their layers.
func TestFilesWithoutParents(t *testing.T) {
	s := openStore(t)
	got := listed(t, filesOf(t, s, putLayers(t, s, tarOf(t, fileEntry("a/b/c", "c")), tarOf(t, dirEntry("a"), fileEntry("a/d/e", "e")))))
	want := []string{
		`a drwxr-xr-x 0:0 1600000000000000000 0 "" 0,0 map[]`,
		`a/b drwxr-xr-x 0:0 1600000000000000000 0 "" 0,0 map[]`,
		`a/b/c -rw-r--r-- 0:0 1600000000000000000 1 "" 0,0 map[] c`,
		`a/d drwxr-xr-x 0:0 1600000000000000000 0 "" 0,0 map[]`,
		`a/d/e -rw-r--r-- 0:0 1600000000000000000 1 "" 0,0 map[] e`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFilesVerifyLayers(t *testing.T) {
	s := openStore(t)
	for n := range 3 {
		layers := [][]byte{tarOf(t, fileEntry("a", fmt.Sprint("a", n))), tarOf(t, fileEntry("b", fmt.Sprint("b", n))), tarOf(t, fileEntry("c", fmt.Sprint("c", n)))}
		m := putLayers(t, s, layers...)
		var manifest ocispecs.Manifest
		if err := s.readJSON(m, maxManifestBytes, &manifest); err != nil {
			t.Fatal(err)
		}
		damage(t, s, manifest.Layers[n].Digest)
		dir := t.TempDir()
		if _, err := s.Files(t.Context(), m, dir); err == nil {
			t.Errorf("layer %d is damaged, and nothing was said", n)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	if _, err := s.Files(t.Context(), ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageIndex}, t.TempDir()); err == nil {
		t.Error("an index has no files")
	}
}

// TestFilesWalk holds walking against the walk over a disk.
func TestFilesWalk(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	layers := everything(t)
	ours, disk := filesOf(t, s, putLayers(t, s, layers...)), unpacked(t, layers...)
	walk := func(f fsutil.FS, target, stop string, with error) []string {
		var seen []string
		err := f.Walk(t.Context(), target, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				seen = append(seen, "error at "+p)
				return nil
			}
			seen = append(seen, p)
			if p == stop {
				return with
			}
			return nil
		})
		return append(seen, fmt.Sprint(err))
	}
	broken := errors.New("broken")
	for _, target := range []string{"", "/", "d", "/d", "d/e", "z", "nowhere"} {
		for _, stop := range []string{"", "d", "d/e", "d/e/f", "z", "becomes-dir"} {
			for _, with := range []error{fs.SkipDir, fs.SkipAll, broken} {
				if d := cmp.Diff(walk(disk, target, stop, with), walk(ours, target, stop, with)); d != "" {
					t.Errorf("walking %q, %v at %q (-disk +store):\n%s", target, with, stop, d)
				}
			}
		}
	}
	if _, err := ours.Open("d"); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := ours.Open("nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
