package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/zlayer-dev/zlayer/engine"
)

// checkDir makes sure that a directory is there.
func checkDir(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}

// removeStale removes what an earlier build wrote: should this one fail, nobody
// must take the old result for the new.
func removeStale(paths ...string) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		fi, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
			continue
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the result of an earlier build: %w", err)
		}
	}
	return nil
}

// writeImageID writes what docker calls the image ID: the digest of the config,
// or of the index where there are several.
func writeImageID(path string, res *engine.Result) error {
	id := res.ConfigDigest
	if id == "" {
		id = res.Digest
	}
	return writeFile(path, []byte(id))
}

// writeMetadata writes what is known of a result.
func writeMetadata(path string, res *engine.Result) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(metadataOf(res), "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return writeFile(path, append(text, '\n'))
}

// metadataOf is the exporter's response as docker buildx writes it: values that are
// JSON in base64 as JSON, the others as strings.
func metadataOf(res *engine.Result) map[string]any {
	out := map[string]any{"zlayer.changed": res.Changed}
	for k, v := range res.Metadata {
		out[k] = metadataValue(v)
	}
	if res.Digest != "" {
		out["containerimage.digest"] = res.Digest
	}
	if res.ConfigDigest != "" {
		out["containerimage.config.digest"] = res.ConfigDigest
	}
	if json.Valid(res.Descriptor) {
		out["containerimage.descriptor"] = json.RawMessage(res.Descriptor)
	}
	if len(res.Tags) > 0 {
		out["image.name"] = strings.Join(res.Tags, ",")
	}
	return out
}

// metadataValue decodes a JSON object or list in base64; anything else is left
// as it is.
func metadataValue(v string) any {
	text, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(text) == 0 || text[0] != '{' && text[0] != '[' || !json.Valid(text) {
		return v
	}
	return json.RawMessage(text)
}

// writeFile replaces a file as a whole; an empty path is no file.
func writeFile(path string, text []byte) error {
	if path == "" {
		return nil
	}
	err := replaceFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
