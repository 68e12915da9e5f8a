package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
)

// record is what a file remembers: what a name stood for, or the config of a digest.
type record struct {
	Ref    string          `json:"ref,omitempty"`
	Digest digest.Digest   `json:"digest"`
	Config json.RawMessage `json:"config,omitempty"`
}

// nameRecord is the file for what a name stands for.
func nameRecord(ref string, p ocispecs.Platform) string {
	h := graph.NewHasher("zlayer.image.name.v1")
	h.String(ref)
	h.String(platforms.FormatAll(p))
	return "name-" + h.Digest().Encoded()[:40] + ".json"
}

// configRecord is the file for the config of an image.
func configRecord(d digest.Digest, p ocispecs.Platform) string {
	h := graph.NewHasher("zlayer.image.config.v1")
	h.String(d.String())
	h.String(platforms.FormatAll(p))
	return "config-" + h.Digest().Encoded()[:40] + ".json"
}

func (r *Resolver) read(file string) (record, error) {
	var rec record
	text, err := os.ReadFile(filepath.Join(r.Dir, file))
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(text, &rec); err != nil {
		return record{}, err
	}
	if err := rec.Digest.Validate(); err != nil {
		return record{}, err
	}
	return rec, nil
}

// write replaces a record as a whole; one that is the same is left alone.
func (r *Resolver) write(file string, rec record) error {
	if r.Dir == "" {
		return nil
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	path := filepath.Join(r.Dir, file)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(r.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(text); err != nil {
		tmp.Close()
		return fmt.Errorf("remembering %s: %w", rec.Digest, err)
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
