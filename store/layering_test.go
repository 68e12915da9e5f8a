package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFilesOfRandomLayers lays random layers over each other in a few names, so that
// all ways of replacing and hiding meet.
func TestFilesOfRandomLayers(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	compared := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		var layers [][]byte
		kinds := map[string]byte{} // what is where, so that layers are ones that can be
		for range 1 + r.IntN(4) {
			layers = append(layers, randomLayer(t, r, kinds))
		}
		f, err := s.Files(t.Context(), putLayers(t, s, layers...), t.TempDir())
		if errors.Is(err, ErrVague) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		compared++
		if d := cmp.Diff(listed(t, unpacked(t, layers...)), listed(t, f)); d != "" {
			t.Errorf("seed %d (-containerd +store):\n%s", seed, d)
		}
		f.Close()
	}
	if compared < 40 {
		t.Errorf("only %d of 60 were compared", compared)
	}
}

func randomLayer(t testing.TB, r *rand.Rand, kinds map[string]byte) []byte {
	var entries []layerEntry
	told, dirs := map[string]bool{}, map[string]bool{}
	var tell func(string)
	tell = func(dir string) { // as BuildKit does, directories come before what is in them
		if dir == "." || dirs[dir] {
			return
		}
		tell(path.Dir(dir))
		told[dir], dirs[dir] = true, true
		e := dirEntry(dir)
		e.Mode = int64(0o700 + r.IntN(0o100))
		entries = append(entries, e)
		kinds[dir] = tar.TypeDir
	}
	forget := func(name string) {
		for k := range kinds {
			if k == name || strings.HasPrefix(k, name+"/") {
				delete(kinds, k)
			}
		}
	}
	var files []string
	for range 1 + r.IntN(8) {
		name := string("abc"[r.IntN(3)])
		for r.IntN(2) == 0 && len(name) < 6 {
			name += "/" + string("abc"[r.IntN(3)])
		}
		dir := path.Dir(name)
		if k, ok := kinds[dir]; dir != "." && ok && k != tar.TypeDir || told[name] {
			continue
		}
		blocked := false
		for d := dir; d != "."; d = path.Dir(d) {
			k, ok := kinds[d]
			blocked = blocked || ok && k != tar.TypeDir
		}
		if blocked {
			continue
		}
		tell(dir)
		told[name] = true
		switch e := fileEntry(name, fmt.Sprint(r.Uint64())); r.IntN(6) {
		case 0:
			tell(name)
		case 1:
			forget(name)
			entries = append(entries, fileEntry(path.Join(dir, ".wh."+path.Base(name)), ""))
		case 2:
			if kinds[name] == tar.TypeDir {
				tell(name)
				entries = append(entries, fileEntry(name+"/.wh..wh..opq", ""))
				forget(name)
				kinds[name] = tar.TypeDir
			}
		case 3:
			if len(files) > 0 {
				forget(name)
				entries = append(entries, linkEntry(name, files[r.IntN(len(files))]))
				kinds[name] = tar.TypeLink
			}
		default:
			forget(name)
			e.Uid, e.Mode = r.IntN(3), int64(0o600+r.IntN(0o100))
			entries = append(entries, e)
			kinds[name] = tar.TypeReg
			files = append(files, name)
		}
	}
	return tarOf(t, entries...)
}

func TestFilesRefuseWhatIsVague(t *testing.T) {
	s := openStore(t)
	lower := tarOf(t, dirEntry("d"), fileEntry("f", "f"), layerEntry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "d"}})
	for what, upper := range map[string][]byte{
		"below a link":          tarOf(t, fileEntry("l/x", "")),
		"below a file":          tarOf(t, fileEntry("f/x", "")),
		"link to a lower layer": tarOf(t, linkEntry("x", "f")),
		"link to nothing":       tarOf(t, linkEntry("x", "y")),
		"link to a directory":   tarOf(t, dirEntry("e"), linkEntry("x", "e")),
		"overlay's whiteout":    tarOf(t, layerEntry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "f"}}),
		"another aufs file":     tarOf(t, fileEntry(".wh..wh.plnk", "")),
		"hides its own":         tarOf(t, fileEntry("x", ""), fileEntry(".wh.x", "")),
		"hides no name":         tarOf(t, fileEntry(".wh.", "")),
		"sparse":                sparseTar(t),
		"contiguous":            tarOf(t, layerEntry{Header: tar.Header{Typeflag: tar.TypeCont, Name: "x"}}),
	} {
		if f, err := s.Files(t.Context(), putLayers(t, s, lower, upper), t.TempDir()); !errors.Is(err, ErrVague) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				f.Close()
			}
		}
	}
}

// sparseTar has a file with a hole of a megabyte, which the standard library reads but
// does not write.
func sparseTar(t testing.TB) []byte {
	t.Helper()
	records := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=x", "GNU.sparse.realsize=1048576"} {
		n := len(r) + 4 // the length itself, a blank and a line break
		records += fmt.Sprintf("%d %s\n", n, r)
	}
	text := make([]byte, 512)
	copy(text, "1\n1048576\n0\n")
	raw := tarOf(t, layerEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "pax", Mode: 0o644}, text: records}, fileEntry("GNUSparseFile.0/x", string(text)))
	// The first header becomes one of PAX records.
	for b, at := raw, 0; at+512 <= len(b); at += 512 {
		if strings.HasPrefix(string(b[at:]), "pax\x00") {
			b[at+156] = 'x'
			sum := 0
			copy(b[at+148:at+156], "        ")
			for _, c := range b[at : at+512] {
				sum += int(c)
			}
			copy(b[at+148:at+156], fmt.Sprintf("%06o\x00 ", sum))
			break
		}
	}
	tr := tar.NewReader(bytes.NewReader(raw))
	if h, err := tr.Next(); err != nil || h.Size != 1<<20 {
		t.Fatalf("the archive has no sparse file: %+v, %v", h, err)
	}
	return raw
}
