package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on what an archive can make Load do.
const (
	// DefaultMaxBytes is how much a compressed archive may unpack to.
	DefaultMaxBytes = 256 << 30

	maxArchiveFiles = 200_000
	maxArchiveJSON  = 16 << 20
)

// LoadOptions bound what Load accepts.
type LoadOptions struct {
	// MaxBytes bounds the archive, and each compressed layer of Docker's format,
	// unpacked; 0 is DefaultMaxBytes. What is more is taken for a bomb.
	MaxBytes int64
}

// Loaded is an image that Load put in the store.
type Loaded struct {
	Names      []string // normalised; none if the archive gives it no full name
	Descriptor ocispecs.Descriptor
	// Dropped are platforms that the archive's index lists but does not contain, as
	// Docker's archives of partly pulled images do. The stored index is then a
	// smaller one, or the only manifest that was left.
	Dropped []ocispecs.Descriptor
}

// Load reads a tar of images, plain or compressed with gzip or zstd: an OCI
// layout, or what `docker save` writes since Docker 1.10. Every blob is compared
// with the digest that the archive gives it, every layer of Docker's format with
// the diff ID in the config. Nothing in the archive names a place on disk. An
// archive that is not sound as a whole puts nothing into the store.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Loaded, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading images: %w", err)
	}
	defer lease.Close()
	ses, err := s.newSession(loadKind)
	if err != nil {
		return nil, fmt.Errorf("loading images: %w", err)
	}
	defer ses.close()
	a := &archive{
		store: s, dir: ses.dir, max: o.MaxBytes,
		json:  map[string][]byte{},
		files: map[string]*spooled{},
		links: map[string]string{},
		blobs: map[digest.Digest]*spooled{},
	}
	if err := a.read(ctx, r); err != nil {
		return nil, fmt.Errorf("loading images: reading the archive: %w", err)
	}
	list, err := a.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading images: %w", err)
	}
	return list, nil
}

// archive is a tar that has been read into a session's directory. Nothing of it
// is in the store before all of an image is known to be good.
type archive struct {
	store *Store
	dir   string
	max   int64

	total int64 // bytes of files so far
	count int   // entries so far

	json  map[string][]byte   // the few files that say what the archive is
	files map[string]*spooled // all others, by name
	links map[string]string   // links of either kind, to names in the archive
	blobs map[digest.Digest]*spooled
}

// spooled is a file of the archive, kept under a number; path is "" for a blob
// that the store has already and that was not copied.
type spooled struct {
	path   string
	digest digest.Digest
	size   int64
}

func (a *archive) read(ctx context.Context, r io.Reader) error {
	plain, _, err := decompressor(contextReader{ctx, r})
	if err != nil {
		return err
	}
	defer plain.Close()
	// Padding and skipped entries count as well, so that they end, too.
	tr := tar.NewReader(&boundedReader{r: plain, left: a.max, max: a.max})
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if a.count == 0 && errors.Is(err, tar.ErrHeader) {
				return errors.New("this is no tar archive")
			}
			return err
		}
		if a.count++; a.count > maxArchiveFiles {
			return fmt.Errorf("it has more than %d entries", maxArchiveFiles)
		}
		if err := a.entry(ctx, hdr, tr); err != nil {
			return err
		}
	}
}

// boundedReader fails where io.LimitReader would pretend the end.
type boundedReader struct {
	r         io.Reader
	left, max int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it unpacks to more than %d bytes", b.max)
	}
	return n, err
}

func (a *archive) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	name := path.Clean(hdr.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("entry %q lies outside the archive", hdr.Name)
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		return a.link(name, path.Join(path.Dir(name), hdr.Linkname), hdr)
	case tar.TypeLink:
		return a.link(name, path.Clean(hdr.Linkname), hdr)
	default:
		return nil // directories and global headers; devices mean nothing here
	}
	switch name {
	case ocispecs.ImageIndexFile, ocispecs.ImageLayoutFile, dockerManifestFile, "repositories":
		b, err := io.ReadAll(io.LimitReader(r, maxArchiveJSON+1))
		if err != nil {
			return err
		}
		if len(b) > maxArchiveJSON {
			return fmt.Errorf("%s has more than %d bytes", name, maxArchiveJSON)
		}
		a.json[name] = b
		return nil
	}
	if d, ok := blobName(name); ok {
		return a.blob(ctx, name, d, hdr.Size, r)
	}
	f, err := a.spool(name, digest.Canonical, r)
	if err == nil {
		a.files[name] = f
	}
	return err
}

func (a *archive) link(name, target string, hdr *tar.Header) error {
	if !filepath.IsLocal(target) || path.IsAbs(hdr.Linkname) {
		return fmt.Errorf("entry %q links to %q, outside the archive", hdr.Name, hdr.Linkname)
	}
	a.links[name] = target
	return nil
}

// blobName takes the digest from blobs/<algorithm>/<hex>.
func blobName(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, ocispecs.ImageBlobsDir+"/")
	if !ok {
		return "", false
	}
	alg, hex, ok := strings.Cut(rest, "/")
	if !ok {
		return "", false
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	return d, d.Validate() == nil
}

// blob takes a file that goes by its digest; one that the store has is passed over.
func (a *archive) blob(ctx context.Context, name string, d digest.Digest, size int64, r io.Reader) error {
	exists, err := a.store.use(ctx, d, max(size, 1))
	if err != nil {
		return err
	}
	f := &spooled{digest: d, size: size}
	if !exists {
		if f, err = a.spool(name, d.Algorithm(), r); err != nil {
			return err
		}
		if f.digest != d {
			return fmt.Errorf("%s is damaged: its bytes have digest %s", name, f.digest)
		}
	}
	a.files[name], a.blobs[d] = f, f
	return nil
}

func (a *archive) spool(name string, alg digest.Algorithm, r io.Reader) (*spooled, error) {
	p := filepath.Join(a.dir, strconv.Itoa(a.count))
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	digester := alg.Digester()
	// Holes of sparse entries are not in the stream, so they are counted here.
	n, err := io.Copy(io.MultiWriter(f, digester.Hash()), &boundedReader{r: r, left: a.max - a.total, max: a.max})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a.total += n
	return &spooled{path: p, digest: digester.Digest(), size: n}, nil
}

// load finds out what the archive is. An index.json beside a manifest.json is
// the better of the two: it has the manifests, not just what they can be made of.
func (a *archive) load(ctx context.Context) ([]Loaded, error) {
	if a.json[ocispecs.ImageIndexFile] != nil {
		return a.loadOCI(ctx)
	}
	if a.json[dockerManifestFile] != nil {
		return a.loadDocker(ctx)
	}
	if a.json["repositories"] != nil {
		return nil, errors.New("the archive has Docker's format from before 1.10 (repositories without manifest.json): save the image again with a newer Docker")
	}
	return nil, errors.New("the archive holds no images: neither index.json (OCI) nor manifest.json (Docker)")
}

// commit puts a spooled file into the store as a blob.
func (a *archive) commit(ctx context.Context, f *spooled) error {
	if f.path == "" {
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f.path = ""
	err = a.store.publish(ctx, file, f.digest, f.size)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// bytes reads a small blob from the archive or the store.
func (a *archive) bytes(d ocispecs.Descriptor, limit int64) ([]byte, error) {
	f := a.blobs[d.Digest]
	if f == nil || f.path == "" {
		return a.store.readBlob(d, limit)
	}
	if f.size > limit || d.Size > 0 && d.Size != f.size {
		return nil, &BlobError{Digest: d.Digest, MediaType: d.MediaType, Err: fmt.Errorf("%w: it has %d bytes", ErrDamaged, f.size)}
	}
	return os.ReadFile(f.path)
}

func decodeJSON(name string, b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading %s: %w", name, plainJSON(err))
	}
	return nil
}
