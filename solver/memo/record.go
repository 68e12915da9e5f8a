package memo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// What an output can be.
const (
	KindImage = "image" // a manifest or an index
	KindFile  = "file"  // an archive
	KindDir   = "dir"   // a directory of files
	KindNone  = "none"  // built, but nothing is kept
)

// Bounds of a record. Put refuses what is beyond them with [ErrTooLarge].
const (
	MaxRecord = 1 << 20  // of a record without its parts, as it is stored
	MaxTotal  = 16 << 20 // of a record with its parts, as it is stored
	MaxParts  = MaxTotal - MaxRecord
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that a store has no record of a key, or none that it can be
	// believed to have.
	ErrNotFound = errors.New("no record")
	// ErrReadOnly says that a store is not to be written to.
	ErrReadOnly = errors.New("memo is read-only")
	// ErrTooLarge says that a record is beyond MaxRecord or its parts beyond MaxParts.
	ErrTooLarge = errors.New("record is too large")
)

// Record says what a build that succeeded gave. It is not changed once it has been
// put; a later build of the same key replaces it as a whole.
type Record struct {
	// Key is the output's key, a SHA-256 digest: what the record is looked up by.
	Key digest.Digest `json:"key"`
	// Kind is one of the Kind constants.
	Kind string `json:"kind"`
	// Image describes the manifest or index: always for KindImage, for the others
	// where the image in the file or directory is known too.
	Image *ocispecs.Descriptor `json:"image,omitempty"`
	// Digest and Size are those of the content of a file or a directory.
	Digest digest.Digest `json:"digest,omitempty"`
	Size   int64         `json:"size,omitempty"`
	// Files tell how the files of images became those of an output of files.
	Files *Files `json:"files,omitempty"`
	// Metadata is the exporter's response, to be reported again on a hit.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Names are the image's names at the time, for people; they do not count.
	Names []string `json:"names,omitempty"`
	// Tool is the version of zlayer that wrote the record.
	Tool string `json:"tool,omitempty"`
	// Created is when the build ended. Stores keep it to the nanosecond, in UTC.
	Created time.Time `json:"created"`
	// PartsDigest and PartsSize describe the parts; Put sets them in what it stores
	// when there are Parts.
	PartsDigest digest.Digest `json:"partsDigest,omitempty"`
	PartsSize   int64         `json:"partsSize,omitempty"`

	// Parts is what the key was made of, for `zlayer why`: opaque, and compressed by
	// whoever puts it. Get leaves it nil, since it can be a thousand times the rest
	// and few ask for it; the function Parts reads it.
	Parts []byte `json:"-"`
}

// Files tell of an archive or a directory of files what an image does not: with it they
// can be made of the image again.
type Files struct {
	// Listing is a digest of all that is in the output but contents and times.
	Listing digest.Digest `json:"listing"`
	// Platforms are the platforms of the output, in order.
	Platforms []FilesPlatform `json:"platforms"`
	// Added are files that are in no image, such as attestations.
	Added []AddedFile `json:"added,omitempty"`
}

// FilesPlatform is a platform of an output of files.
type FilesPlatform struct {
	// ID is the platform as BuildKit's exporters call it.
	ID string `json:"id"`
	// Epoch is the time of all files in seconds since 1970; nil leaves them theirs.
	Epoch *int64 `json:"epoch,omitempty"`
}

// AddedFile is a file in an output that is in no image.
type AddedFile struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
	// Time is in nanoseconds since 1970.
	Time int64 `json:"time"`
}

// clone gives Files that share only the bytes of files with f.
func (f *Files) clone() *Files {
	if f == nil {
		return nil
	}
	c := *f
	c.Platforms, c.Added = slices.Clone(f.Platforms), slices.Clone(f.Added)
	for i, p := range c.Platforms {
		if p.Epoch != nil {
			epoch := *p.Epoch
			c.Platforms[i].Epoch = &epoch
		}
	}
	return &c
}

// Clone gives a record that shares nothing with r but the bytes of Parts and of files,
// which nobody changes.
func (r *Record) Clone() *Record {
	c := *r
	if r.Image != nil {
		image := *r.Image
		image.URLs = slices.Clone(image.URLs)
		image.Annotations = maps.Clone(image.Annotations)
		image.Data = slices.Clone(image.Data)
		if p := image.Platform; p != nil {
			platform := *p
			platform.OSFeatures = slices.Clone(p.OSFeatures)
			image.Platform = &platform
		}
		c.Image = &image
	}
	c.Files = r.Files.clone()
	c.Metadata = maps.Clone(r.Metadata)
	c.Names = slices.Clone(r.Names)
	return &c
}

// check gives the reason why r is no record, if there is one.
func (r *Record) check() error {
	if err := checkKey(r.Key); err != nil {
		return err
	}
	switch r.Kind {
	case KindImage:
		if r.Image == nil {
			return errors.New("a record of an image has no image")
		}
	case KindFile, KindDir:
		if r.Digest == "" {
			return fmt.Errorf("a record of kind %s has no digest", r.Kind)
		}
	case KindNone:
	default:
		return fmt.Errorf("records of kind %q are unknown", r.Kind)
	}
	if r.Image != nil {
		if err := validate(r.Image.Digest); err != nil {
			return fmt.Errorf("digest of the image: %w", err)
		}
		if r.Image.Size < 0 {
			return fmt.Errorf("the image has a size of %d", r.Image.Size)
		}
	}
	if r.Digest != "" {
		if err := validate(r.Digest); err != nil {
			return fmt.Errorf("digest of the content: %w", err)
		}
	}
	if r.Files != nil {
		if err := validate(r.Files.Listing); err != nil {
			return fmt.Errorf("digest of the listing: %w", err)
		}
	}
	if r.Size < 0 {
		return fmt.Errorf("the content has a size of %d", r.Size)
	}
	if y := r.Created.UTC().Year(); y < 0 || y > 9999 {
		return fmt.Errorf("the record is of the year %d", y)
	}
	return r.checkParts()
}

func (r *Record) checkParts() error {
	if r.PartsDigest == "" {
		if r.PartsSize != 0 {
			return errors.New("parts have a size but no digest")
		}
		return nil
	}
	if err := checkKey(r.PartsDigest); err != nil {
		return fmt.Errorf("digest of the parts: %w", err)
	}
	if r.PartsSize <= 0 || r.PartsSize > MaxParts {
		return fmt.Errorf("%w: parts of %d bytes", ErrTooLarge, r.PartsSize)
	}
	return nil
}

// checkText tells whether all texts of r survive JSON, which has no way to write
// down what is not UTF-8.
func (r *Record) checkText() error {
	texts := append([]string{r.Tool}, r.Names...)
	for k, v := range r.Metadata {
		texts = append(texts, k, v)
	}
	if r.Image != nil {
		texts = append(texts, r.Image.MediaType, r.Image.ArtifactType)
		for k, v := range r.Image.Annotations {
			texts = append(texts, k, v)
		}
	}
	if r.Files != nil {
		for _, p := range r.Files.Platforms {
			texts = append(texts, p.ID)
		}
		for _, a := range r.Files.Added {
			texts = append(texts, a.Path)
		}
	}
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q is not UTF-8", s)
		}
	}
	return nil
}

// checkKey tells whether key can be one: SHA-256, the only algorithm that stages
// are hashed with. Names of files and tags are made of it.
func checkKey(key digest.Digest) error {
	if err := validate(key); err != nil {
		return fmt.Errorf("key %q: %w", string(key), err)
	}
	if key.Algorithm() != digest.SHA256 {
		return fmt.Errorf("key %q: not a SHA-256 digest", string(key))
	}
	return nil
}

// validate is [digest.Digest.Validate], which compiles and matches a pattern, without that
// for what nearly all digests are.
func validate(d digest.Digest) error {
	const algorithm, size = "sha256:", 64
	hex, ok := strings.CutPrefix(string(d), algorithm)
	if ok && len(hex) == size && strings.Trim(hex, "0123456789abcdef") == "" {
		return nil
	}
	return d.Validate()
}
