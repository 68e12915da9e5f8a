package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/graph"
)

// imageMemo remembers on disk what names of images were last found to stand for,
// and answers from that where registries are not to be asked. BuildKit's own mode
// for that ("local") looks into an image store, which a daemon without containerd
// has not, and then asks the registry all the same.
type imageMemo struct {
	gwclient.Client
	dir string
	// never: no name is looked up.
	never bool
}

// imageRecord is one remembered name.
type imageRecord struct {
	Ref    string          `json:"ref"`
	Digest digest.Digest   `json:"digest"`
	Config json.RawMessage `json:"config"`
}

// imageMemo wraps a gateway for the job's pull mode.
func (j *job) imageMemo(c gwclient.Client) gwclient.Client {
	dir := j.engine.cfg.StateDir
	if dir == "" {
		var err error
		if dir, err = daemon.DefaultStateDir(); err != nil {
			return c
		}
	}
	return &imageMemo{Client: c, dir: filepath.Join(dir, "names"), never: j.req.Pull == PullNever}
}

// ResolveImageConfig implements gwclient.Client.
func (m *imageMemo) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if opt.ImageOpt == nil {
		return m.Client.ResolveImageConfig(ctx, ref, opt)
	}
	file := filepath.Join(m.dir, recordName(ref, opt))
	if m.never {
		r, err := readRecord(file)
		if err != nil {
			return "", "", nil, fmt.Errorf("%s has not been pulled for this platform before, and --pull=never keeps registries from being asked: build once without it", ref)
		}
		return r.Ref, r.Digest, r.Config, nil
	}
	full, dgst, config, err := m.Client.ResolveImageConfig(ctx, ref, opt)
	if err == nil && dgst != "" {
		// What cannot be remembered is a look-up more, some day.
		_ = writeRecord(file, imageRecord{Ref: full, Digest: dgst, Config: config})
	}
	return full, dgst, config, err
}

// recordName is the file for a name and platform.
func recordName(ref string, opt sourceresolver.Opt) string {
	h := graph.NewHasher("zlayer.name.v1")
	h.String(ref)
	if p := opt.ImageOpt.Platform; p != nil {
		h.String(platforms.FormatAll(platforms.Normalize(*p)))
	}
	return h.Digest().Encoded() + ".json"
}

func readRecord(file string) (imageRecord, error) {
	var r imageRecord
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, err
	}
	return r, r.Digest.Validate()
}

// writeRecord replaces a record as a whole; one that is the same is left alone.
func writeRecord(file string, r imageRecord) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && string(old) == string(text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".name-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(text); err != nil {
		return fmt.Errorf("remembering %s: %w", r.Ref, err)
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
