package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// layerStore keeps packed layers on disk between runs, found by the recipe they were made from:
// a folder that several processes use at once.
//
//	blobs/sha256/<hex>     the compressed layers, content-addressed
//	layers/<name>-<key>    which blob a recipe gave (layerInfo as JSON)
//	layers/<name>.lock     held by the process that is making the layer
type layerStore struct {
	dir string
}

// recipeAge is how long a layer of an older recipe is kept after its last use.
const recipeAge = 14 * 24 * time.Hour

// recipeKey hashes what a layer is made from. Parts are counted, so that moving text from one part
// to the next gives another key.
func recipeKey(parts ...string) string {
	h := sha256.New()
	fmt.Fprint(h, "zlayer-lab-layer-1\n")
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (s layerStore) blobPath(h v1.Hash) string {
	return filepath.Join(s.dir, "blobs", h.Algorithm, h.Hex)
}

// layer gives the layer called name made from the recipe key, calling fill to make it when no
// earlier run has. Only one process makes it; the others wait, or stop waiting when ctx ends.
func (s layerStore) layer(ctx context.Context, name, key string, fill func(context.Context, *tree) error) (*layer, error) {
	if l, err := s.lookup(name, key); err == nil {
		return l, nil
	}
	for _, d := range []string{"layers", filepath.Join("blobs", "sha256")} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("making the lab's cache folder: %w", err)
		}
	}
	unlock, err := lockFile(ctx, filepath.Join(s.dir, "layers", name+".lock"))
	if err != nil {
		return nil, fmt.Errorf("waiting for another process to make layer %s: %w", name, err)
	}
	defer unlock()
	if l, err := s.lookup(name, key); err == nil {
		return l, nil
	}
	t := newTree()
	info, err := s.fillAndPack(ctx, t, fill)
	if cerr := t.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("making layer %s: %w", name, err)
	}
	if err := s.record(name, key, info); err != nil {
		return nil, fmt.Errorf("recording layer %s: %w", name, err)
	}
	s.prune(name, key, info.Digest)
	return s.lookup(name, key)
}

// lookup finds a layer that is there, whole, and marks it as used.
func (s layerStore) lookup(name, key string) (*layer, error) {
	record := s.recordPath(name, key)
	data, err := os.ReadFile(record)
	if err != nil {
		return nil, err
	}
	l := &layer{mediaType: types.OCILayer}
	if err := json.Unmarshal(data, &l.layerInfo); err != nil {
		return nil, err
	}
	l.path = s.blobPath(l.layerInfo.Digest)
	if !fileHasSize(l.path, l.layerInfo.Size) {
		return nil, fmt.Errorf("%s is missing or is not of %d bytes", l.path, l.layerInfo.Size)
	}
	now := time.Now()
	_ = os.Chtimes(record, now, now) // only prune looks at it; a read-only cache is fine
	return l, nil
}

// fileHasSize is enough to trust a blob of the cache: blobs get their name only when they are whole.
func fileHasSize(name string, size int64) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Size() == size
}

func (s layerStore) recordPath(name, key string) string {
	return filepath.Join(s.dir, "layers", name+"-"+key+".json")
}

func (s layerStore) fillAndPack(ctx context.Context, t *tree, fill func(context.Context, *tree) error) (layerInfo, error) {
	if err := fill(ctx, t); err != nil {
		return layerInfo{}, err
	}
	return s.pack(t)
}

// pack writes the tree as a blob. The file appears under its digest only when it is complete.
func (s layerStore) pack(t *tree) (layerInfo, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "blobs"), ".packing-*")
	if err != nil {
		return layerInfo{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	info, err := packLayer(f, t)
	if err != nil {
		return layerInfo{}, err
	}
	if err := f.Chmod(0o644); err != nil {
		return layerInfo{}, err
	}
	if err := f.Close(); err != nil {
		return layerInfo{}, err
	}
	return info, os.Rename(f.Name(), s.blobPath(info.Digest))
}

func (s layerStore) record(name, key string, info layerInfo) error {
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "layers"), ".record-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.recordPath(name, key))
}

// prune forgets layers of the same name that come from other recipes and that nobody has used for
// recipeAge, so that the cache does not grow with every new Go version. It is housekeeping: what it
// cannot remove stays.
func (s layerStore) prune(name, key string, keep v1.Hash) {
	records, err := filepath.Glob(filepath.Join(s.dir, "layers", name+"-*.json"))
	if err != nil {
		return
	}
	for _, r := range records {
		k := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(r), name+"-"), ".json")
		if k == key || len(k) != len(key) {
			continue
		}
		fi, err := os.Stat(r)
		if err != nil || time.Since(fi.ModTime()) < recipeAge {
			continue
		}
		if l, err := s.lookup(name, k); err == nil && l.layerInfo.Digest != keep {
			_ = os.Remove(l.path)
		}
		_ = os.Remove(r)
	}
}

// lockFile takes an exclusive lock on the file, waiting for it as long as ctx lasts.
func lockFile(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
