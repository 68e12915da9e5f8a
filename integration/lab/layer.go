package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// epoch is the time of everything the lab makes: files, image configs, commits. It is a time in the
// past and not zero, so that a test that clamps times to its own SOURCE_DATE_EPOCH sees a change.
var epoch = time.Date(2024, time.January, 2, 3, 4, 5, 0, time.UTC)

// entry is one file of a layer: a header whose times and names the tree fills in, and a body for
// regular files.
type entry struct {
	header tar.Header
	body   func() (io.ReadCloser, error)
}

// tree collects the files of one layer and writes them as a reproducible tar: sorted by path, one
// fixed time, no user names.
type tree struct {
	entries map[string]entry
	cleanup []func() error // what to do once the tree is written or given up
}

func newTree() *tree { return &tree{entries: map[string]entry{}} }

// close runs the clean-up.
func (t *tree) close() error {
	var errs []error
	for _, f := range t.cleanup {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// add puts an entry at name (slash-separated, relative), replacing what was there.
func (t *tree) add(name string, h tar.Header, body func() (io.ReadCloser, error)) {
	h.Name = name
	if h.ModTime.IsZero() {
		h.ModTime = epoch
	}
	t.entries[name] = entry{header: h, body: body}
}

func (t *tree) dir(name string, mode int64) {
	t.add(name, tar.Header{Typeflag: tar.TypeDir, Mode: mode}, nil)
}

func (t *tree) file(name string, mode int64, data []byte) {
	t.add(name, tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

func (t *tree) text(name string, data string) { t.file(name, 0o644, []byte(data)) }

func (t *tree) symlink(name, target string) {
	t.add(name, tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil)
}

func (t *tree) hardlink(name, target string) {
	t.add(name, tar.Header{Typeflag: tar.TypeLink, Mode: 0o755, Linkname: target}, nil)
}

// whiteout hides name of the layers below; name itself must not be in the tree.
func (t *tree) whiteout(name string) {
	t.file(path.Join(path.Dir(name), ".wh."+path.Base(name)), 0, nil)
}

// opaque hides everything that the layers below have in the directory name.
func (t *tree) opaque(name string) {
	t.file(path.Join(name, ".wh..wh..opq"), 0, nil)
}

// own gives an entry that is in the tree already to a user and a group.
func (t *tree) own(name string, uid, gid int) {
	e := t.entries[name]
	e.header.Uid, e.header.Gid = uid, gid
	t.entries[name] = e
}

// write writes the tar. Hard links come where their name sorts, but never before their target: a
// reader makes the link from what it has unpacked.
func (t *tree) write(w io.Writer) error {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := t.entries[names[i]].header.Typeflag == tar.TypeLink, t.entries[names[j]].header.Typeflag == tar.TypeLink
		if a != b {
			return b
		}
		return names[i] < names[j]
	})
	tw := tar.NewWriter(w)
	for _, name := range names {
		if err := t.entries[name].writeTo(tw); err != nil {
			return fmt.Errorf("packing %s: %w", name, err)
		}
	}
	return tw.Close()
}

func (e entry) writeTo(tw *tar.Writer) error {
	h := e.header
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	h.Format = tar.FormatPAX
	h.ModTime = h.ModTime.Truncate(time.Second) // fractions would make PAX records of every file
	if err := tw.WriteHeader(&h); err != nil {
		return err
	}
	if e.body == nil {
		return nil
	}
	body, err := e.body()
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(tw, body)
	return err
}

// layer is a packed layer: where its compressed bytes lie and what they are called. It implements
// v1.Layer without reading the file again for what is known already.
type layer struct {
	path      string
	mediaType types.MediaType
	layerInfo
}

// layerInfo is what is kept of a packed layer beside its bytes.
type layerInfo struct {
	Digest v1.Hash `json:"digest"` // of the compressed bytes
	DiffID v1.Hash `json:"diffID"` // of the tar
	Size   int64   `json:"size"`   // of the compressed bytes
}

var _ v1.Layer = (*layer)(nil)

func (l *layer) Digest() (v1.Hash, error)             { return l.layerInfo.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.layerInfo.DiffID, nil }
func (l *layer) Size() (int64, error)                 { return l.layerInfo.Size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return l.mediaType, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return openGzip(l.path) }

func openGzip(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &gzipFile{Reader: zr, file: f}, nil
}

// gzipFile closes the file below the reader, too.
type gzipFile struct {
	*gzip.Reader
	file *os.File
}

func (g *gzipFile) Close() error {
	err := g.Reader.Close()
	if cerr := g.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// packLayer compresses the tree into w. The compressor is the vendored one at a fixed level, so that
// the digest depends on neither the Go version nor the number of cores.
func packLayer(w io.Writer, t *tree) (layerInfo, error) {
	packed, plain := sha256.New(), sha256.New()
	count := &countingWriter{w: io.MultiWriter(w, packed)}
	zw, err := gzip.NewWriterLevel(count, gzip.BestSpeed)
	if err != nil {
		return layerInfo{}, err
	}
	if err := t.write(io.MultiWriter(zw, plain)); err != nil {
		return layerInfo{}, err
	}
	if err := zw.Close(); err != nil {
		return layerInfo{}, err
	}
	return layerInfo{
		Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(packed.Sum(nil))},
		DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))},
		Size:   count.n,
	}, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
